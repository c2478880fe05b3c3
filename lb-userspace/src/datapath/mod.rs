//! The kernel side as the agent sees it: programs, maps, pins, devices.
//!
//! The only room that knows aya. One place writes maps (`tables`, many elements at once through `batch`), one attaches programs (`attach`; those for the node's own processes: `cgroup`), one
//! loads them (`object`), one knows what the kernel lacks (`features`); `pins` knows where everything stands in bpffs, so that the reading commands
//! need no agent.

pub mod attach;
mod batch;
pub mod cgroup;
pub mod clock;
pub mod devices;
pub mod features;
pub mod flows;
mod generations;
pub mod leftovers;
mod link;
pub mod log;
pub mod netlink;
pub mod netns;
pub mod object;
pub mod pins;
mod raw;
mod remedy;
pub mod snat_ports;
pub mod sockets;
pub mod switch;
pub mod tables;
pub mod view;

use std::path::PathBuf;

pub use aya::Ebpf as Object;
use aya::{maps::MapError, programs::ProgramError};

use self::remedy::Holder;

/// Why the datapath could not be set up or read.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// A file or directory of bpffs.
    #[error("{path}: {source}{}", remedy::of_pin(.source))]
    Pin {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// bpffs is not there and could not be mounted.
    #[error(
        "cannot mount bpffs on {path}: {source}; it takes CAP_SYS_ADMIN: `mount -t bpf bpf {path}` beforehand, in a \
         container mount the host's {path} into it"
    )]
    Mount {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The pin directory is elsewhere, where nothing can be pinned.
    #[error(
        "--bpffs {path}: not on a bpffs, where alone programs and maps can be kept; name a directory below /sys/fs/bpf, \
         or `mkdir -p {path} && mount -t bpf bpf {path}`"
    )]
    NotBpffs {
        /// Where.
        path: PathBuf,
    },
    /// Another agent serves from this directory.
    #[error("{path} belongs to another duolb agent that is running{}; stop it first, or name another --bpffs", remedy::told(.holder.as_ref()))]
    Locked {
        /// The pin directory.
        path: PathBuf,
        /// The other agent, if it has said who it is.
        holder: Option<Holder>,
    },
    /// Nothing is pinned there.
    #[error("no duolb datapath in {path}: no agent has run here, or `duolb cleanup` removed it")]
    Absent {
        /// The pin directory.
        path: PathBuf,
    },
    /// A pinned map has another layout than this version's.
    #[error("{path}: pinned by an incompatible version ({detail}); run `duolb cleanup` first")]
    Layout {
        /// The pin.
        path: PathBuf,
        /// What differs.
        detail: String,
    },
    /// The object was refused as a whole.
    #[error("the kernel refused the object: {0}")]
    Object(#[from] aya::EbpfError),
    /// A program was refused.
    #[error("program {name}: {source}")]
    Program {
        /// Its name.
        name: &'static str,
        /// What the kernel said.
        source: Box<ProgramError>,
    },
    /// A program is not in the object: it was built from other sources than this one.
    #[error("program {name} is not in the object that duolb was built with")]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// A map could not be opened.
    #[error("map {name}: {source}")]
    Map {
        /// Its name.
        name: &'static str,
        /// What the kernel said.
        source: Box<MapError>,
    },
    /// A map of what is not a service's has no room.
    #[error("no room in map {name}; {remedy}")]
    Full {
        /// Its name.
        name: &'static str,
        /// What the user can do.
        remedy: &'static str,
    },
    /// There are no cgroups to serve processes from.
    #[error("cgroups: {0}")]
    Cgroup(std::io::Error),
    /// The programs' log cannot be read.
    #[error("the programs' log: {0}")]
    Log(String),
    /// The kernel could not be asked for its devices.
    #[error("netlink: {0}")]
    Netlink(String),
}
