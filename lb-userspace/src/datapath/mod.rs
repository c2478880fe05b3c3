//! The kernel side as the agent sees it: programs, maps, pins, devices.
//!
//! The only room that knows aya. One place writes maps (`tables`, many elements at once through `batch`), one attaches programs (`attach`; those for the node's own processes: `cgroup`), one
//! loads them (`object`); `pins` knows where everything stands in bpffs, so that the reading commands
//! need no agent.

pub mod attach;
mod batch;
pub mod cgroup;
pub mod clock;
pub mod devices;
mod generations;
pub mod leftovers;
mod link;
pub mod log;
pub mod netlink;
pub mod netns;
pub mod object;
pub mod pins;
mod raw;
pub mod snat_ports;
pub mod sockets;
pub mod switch;
pub mod tables;
pub mod view;

use std::path::PathBuf;

pub use aya::Ebpf as Object;
use aya::{maps::MapError, programs::ProgramError};

/// Why the datapath could not be set up or read.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// A file or directory of bpffs.
    #[error("{path}: {source}")]
    Pin {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// bpffs is not there and could not be mounted.
    #[error("cannot mount bpffs on {path}: {source} (try `mount -t bpf bpf {path}`)")]
    Mount {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// Another agent serves from this directory.
    #[error("{path} belongs to another duolb agent that is running{}", .pid.map_or(String::new(), |pid| format!(" (pid {pid})")))]
    Locked {
        /// The pin directory.
        path: PathBuf,
        /// The other agent's process id, if it says.
        pid: Option<u32>,
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
