//! An XDP program that passes everything, on a device that others transmit to.
//!
//! What XDP transmits on a veth (XDP_TX) is put into a ring of the peer, and the kernel wakes the peer up for it only
//! if that has a program itself (6.18, `veth_xdp_flush`); without one it is counted as sent and never seen again.
//! Redirected packets (`ndo_xdp_xmit`) need only NAPI there. A real uplink has a wire at its other end, so the
//! lab's fabric has to be one: this program on each of its devices.
//!
//! Two instructions need no library: bpf(2) itself loads and attaches them. The link goes, and the program with it,
//! when its file is closed.

use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use anyhow::{Context as _, Result};
use nix::{libc, net::if_::if_nametoindex};

use super::{Netns, bpf};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
/// It takes packets in pieces, so that nothing about MTUs and segments changes.
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
/// In the driver.
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// `r0 = XDP_PASS; exit`, eight bytes each in native order.
const PASS: [u64; 2] = [instruction(0xb7, 2), instruction(0x95, 0)];

pub(super) const fn instruction(code: u8, immediate: u32) -> u64 {
    let [a, b, c, d] = immediate.to_ne_bytes();
    u64::from_ne_bytes([code, 0, 0, 0, a, b, c, d])
}

/// The beginning of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The same for BPF_LINK_CREATE.
#[repr(C)]
#[derive(Default)]
struct Create {
    prog_fd: RawFd,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches it to a device; until the file is closed.
pub(super) fn attach(netns: &Netns, device: &str) -> Result<OwnedFd> {
    let attached = netns.run(|| attach_here(device))?;
    attached.with_context(|| format!("XDP on {device} in {}", netns.name()))
}

fn attach_here(device: &str) -> Result<OwnedFd> {
    let target_ifindex = if_nametoindex(device).context("no such device")?;
    let load = Load {
        prog_type: BPF_PROG_TYPE_XDP,
        insn_cnt: PASS.len().try_into()?,
        insns: PASS.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        prog_flags: BPF_F_XDP_HAS_FRAGS,
        ..Load::default()
    };
    let program = bpf::call(BPF_PROG_LOAD, &load).context("loading")?;
    let create = Create {
        prog_fd: program.as_raw_fd(),
        target_ifindex,
        attach_type: BPF_XDP,
        flags: XDP_FLAGS_DRV_MODE,
    };
    bpf::call(BPF_LINK_CREATE, &create).context("attaching")
}
