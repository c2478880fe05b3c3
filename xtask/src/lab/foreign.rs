//! Programs of others in the places where ours go: two instructions that let everything pass.
//!
//! They show that the agent keeps the order it finds and leaves alone what is not its own. Each goes when it is
//! dropped; the kernel tells who stands in a place (`BPF_PROG_QUERY`), so that no tool is needed.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
    path::Path,
};

use anyhow::{Context as _, Result};
use nix::{libc, net::if_::if_nametoindex};

use super::{Lab, Netns, bpf, dummy_xdp::instruction};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_LINK_CREATE: libc::c_int = 28;
/// Before, or after, all that are there.
const BPF_F_BEFORE: u32 = 1 << 3;
const BPF_F_AFTER: u32 = 1 << 4;
/// Programs that are looked for in one place at most.
const MOST: usize = 64;

/// A place for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// tcx, what comes in.
    Ingress,
    /// tcx, what goes out.
    Egress,
    /// Processes of a cgroup that call `connect` on an IPv4 socket.
    Connect4,
}

/// Where among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Before all others.
    First,
    /// After all others.
    Last,
}

/// A program of somebody else.
#[derive(Debug)]
pub struct Foreign {
    /// Its number.
    pub program: u32,
    _link: OwnedFd,
}

/// What programs are put on.
#[derive(Debug)]
pub enum Target<'a> {
    /// A device of a namespace.
    Device(&'a Netns, &'a str),
    /// A directory of cgroups.
    Cgroup(&'a std::fs::File),
}

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log: [u64; 2],
    kern_version: u32,
    prog_flags: u32,
    name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// For `BPF_LINK_CREATE`.
#[repr(C)]
#[derive(Default)]
struct Create {
    prog_fd: RawFd,
    target: u32,
    attach_type: u32,
    flags: u32,
}

/// For `BPF_PROG_QUERY`.
#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    attach_type: u32,
    flags: [u32; 2],
    prog_ids: u64,
    count: u32,
    pad: u32,
}

/// For `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
#[derive(Default)]
struct Info {
    bpf_fd: RawFd,
    info_len: u32,
    info: u64,
}

impl Place {
    /// Kind of program, place, and what "go on" is there (uapi/linux/bpf.h).
    const fn numbers(self) -> (u32, u32, u32) {
        match self {
            Self::Ingress => (3, 46, u32::MAX),
            Self::Egress => (3, 47, u32::MAX),
            Self::Connect4 => (18, 10, 1),
        }
    }
}

impl Lab {
    /// Puts a program that lets everything pass on a device or cgroup; till it is dropped.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn put_foreign(&self, on: &Target<'_>, place: Place, order: Order) -> Result<Foreign> {
        on.run(|target| put(target, place, order))
            .with_context(|| format!("{place:?}"))
    }

    /// The numbers of the programs in a place, in their order.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn programs(&self, on: &Target<'_>, place: Place) -> Result<Vec<u32>> {
        on.run(|target| query(target, place))
            .with_context(|| format!("{place:?}"))
    }
}

impl Target<'_> {
    /// Runs `work` where the number that it gets means this.
    fn run<T: Send>(&self, work: impl FnOnce(u32) -> Result<T> + Send) -> Result<T> {
        match self {
            Self::Device(netns, name) => netns.run(|| work(if_nametoindex(*name)?))?,
            Self::Cgroup(directory) => work(directory.as_raw_fd().try_into()?),
        }
    }
}

fn put(target: u32, place: Place, order: Order) -> Result<Foreign> {
    let (prog_type, attach_type, go_on) = place.numbers();
    let code: [u64; 2] = [instruction(0xb7, go_on), instruction(0x95, 0)];
    let load = Load {
        prog_type,
        insn_cnt: code.len().try_into()?,
        insns: code.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        expected_attach_type: if place == Place::Connect4 {
            attach_type
        } else {
            0
        },
        ..Load::default()
    };
    let program = bpf::call(BPF_PROG_LOAD, &load).context("loading")?;
    let flags = match (place, order) {
        // Links of cgroups have an order from 6.14 on only.
        (Place::Connect4, _) => 0,
        (_, Order::First) => BPF_F_BEFORE,
        (_, Order::Last) => BPF_F_AFTER,
    };
    let create = Create {
        prog_fd: program.as_raw_fd(),
        target,
        attach_type,
        flags,
    };
    let link = bpf::call(BPF_LINK_CREATE, &create).context("attaching")?;
    Ok(Foreign {
        program: number(&program)?,
        _link: link,
    })
}

/// The program's number, the second word of what the kernel tells of it.
fn number(program: &OwnedFd) -> io::Result<u32> {
    let mut words = [0_u32; 2];
    let info = Info {
        bpf_fd: program.as_raw_fd(),
        info_len: 8,
        info: words.as_mut_ptr() as u64,
    };
    bpf::ask(BPF_OBJ_GET_INFO_BY_FD, &info)?;
    Ok(std::hint::black_box(words)[1])
}

fn query(target: u32, place: Place) -> Result<Vec<u32>> {
    let mut numbers = vec![0_u32; MOST];
    let query = Query {
        target,
        attach_type: place.numbers().1,
        prog_ids: numbers.as_mut_ptr() as u64,
        count: MOST.try_into()?,
        ..Query::default()
    };
    bpf::ask(BPF_PROG_QUERY, &query).context("asking who is there")?;
    let mut numbers = std::hint::black_box(numbers);
    numbers.retain(|number| *number != 0);
    Ok(numbers)
}

/// For `BPF_OBJ_GET`.
#[repr(C)]
struct Get {
    pathname: u64,
    zero: u64,
}

/// For `BPF_MAP_UPDATE_ELEM`.
#[repr(C)]
struct Element {
    map: u64,
    key: u64,
    value: u64,
    flags: u64,
}

impl Lab {
    /// Fills a pinned hash map, whose keys are numbers of 32 bits, with zeros of `size` bytes under the numbers from
    /// `first` on, as somebody who has no business there; how many there was room for.
    ///
    /// # Errors
    /// If the map is not there.
    pub fn fill_map(&self, pin: &Path, size: usize, first: u32) -> Result<u32> {
        const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
        const BPF_OBJ_GET: libc::c_int = 7;
        let path = CString::new(pin.as_os_str().as_encoded_bytes())?;
        let get = Get {
            pathname: path.as_ptr() as u64,
            zero: 0,
        };
        let map = bpf::call(BPF_OBJ_GET, &get).with_context(|| pin.display().to_string())?;
        let value = vec![0_u8; size];
        let mut count = 0;
        for key in first.. {
            let element = Element {
                map: map.as_raw_fd().try_into()?,
                key: (&raw const key) as u64,
                value: value.as_ptr() as u64,
                flags: 0,
            };
            if bpf::ask(BPF_MAP_UPDATE_ELEM, &element).is_err() {
                break;
            }
            count += 1;
        }
        Ok(count)
    }
}
