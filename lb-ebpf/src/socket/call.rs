//! A system call with an address: the only file that touches the context of these programs.
//!
//! The kernel rewrites each access to the context into one to the address proper, and for that they must be what
//! they seem: of one field, at a constant offset. Hence the volatile accesses, word by word.

use aya_ebpf::{
    bindings::bpf_sock_addr,
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval},
    programs::SockAddrContext,
};
use lb_common::{
    address::{V4, V6},
    headers::proto,
    verdict::Verdict,
};

use crate::{config, maps::Tables};

/// Errors of system calls (uapi/asm-generic/errno.h).
const EPERM: i32 = 1;
const ECONNREFUSED: i32 = 111;

/// The third word of an IPv4-mapped address (RFC 4291, 2.5.5.2); the first two are zero.
const MAPPED: u32 = 0xffff_u32.to_be();

/// 127.0.0.1.
const LOOPBACK_V4: V4 = V4(0x7f00_0001_u32.to_be());

/// A system call of a process.
pub struct Call {
    ctx: *mut bpf_sock_addr,
}

/// Reads a field of the context.
macro_rules! read {
    ($call:expr, $($field:tt)+) => {
        // SAFETY: the kernel gives the program a context that is valid till it returns.
        unsafe { (&raw const (*$call.ctx).$($field)+).read_volatile() }
    };
}

/// Writes a field of the context.
macro_rules! write {
    ($call:expr, $value:expr, $($field:tt)+) => {
        // SAFETY: as in `read!`; no reference into the context exists.
        unsafe { (&raw mut (*$call.ctx).$($field)+).write_volatile($value) }
    };
}

impl Call {
    #[inline(always)]
    pub fn new(ctx: &SockAddrContext) -> Self {
        Self { ctx: ctx.sock_addr }
    }

    /// Whether the socket is one of this node's own network namespace.
    #[inline(always)]
    pub fn is_of_node(&self) -> bool {
        // SAFETY: the context is the one that the program was given.
        let netns = unsafe { bpf_get_netns_cookie(self.ctx.cast()) };
        netns == config::netns_cookie()
    }

    /// The socket's cookie, in halves.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "in halves")]
    pub fn cookie(&self) -> [u32; 2] {
        // SAFETY: the context is the one that the program was given.
        let cookie = unsafe { bpf_get_socket_cookie(self.ctx.cast()) };
        [cookie as u32, (cookie >> 32) as u32]
    }

    /// The socket's protocol, if it is one that services have.
    #[inline(always)]
    pub fn proto(&self) -> Option<u8> {
        let protocol = read!(self, protocol);
        if protocol == u32::from(proto::TCP) {
            Some(proto::TCP)
        } else if protocol == u32::from(proto::UDP) {
            Some(proto::UDP)
        } else {
            None
        }
    }

    /// Port, network byte order.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "a port in a word")]
    pub fn port(&self) -> u16 {
        read!(self, user_port) as u16
    }

    /// See [`Call::port`].
    #[inline(always)]
    pub fn set_port(&self, port: u16) {
        write!(self, u32::from(port), user_port);
    }

    /// Whether the address is an IPv4-mapped one. Only for programs of IPv6.
    #[inline(always)]
    pub fn is_mapped(&self) -> bool {
        let words = InV6::address(self).0;
        words[0] == 0 && words[1] == 0 && words[2] == MAPPED
    }

    /// Has the call fail as its verdict says: refused where a packet would be, else not permitted. The latter
    /// is what the kernel says by itself.
    #[inline(always)]
    pub fn refuse(&self, why: Verdict) {
        let errno = match why {
            Verdict::NoEndpoint | Verdict::UnknownPort => ECONNREFUSED,
            _ => EPERM,
        };
        if config::has_set_retval() {
            // SAFETY: takes a number, and changes what the call returns.
            unsafe { bpf_set_retval(-errno) };
        }
    }
}

/// How an address of a family stands in a call.
pub trait Form {
    type Family: Tables;

    /// This host, as it calls itself.
    const LOOPBACK: Self::Family;

    /// The address of the call.
    fn address(call: &Call) -> Self::Family;

    /// See [`Form::address`].
    fn set_address(call: &Call, addr: Self::Family);
}

/// IPv4 in programs of IPv4.
pub struct InV4;

impl Form for InV4 {
    type Family = V4;

    const LOOPBACK: V4 = LOOPBACK_V4;

    #[inline(always)]
    fn address(call: &Call) -> V4 {
        V4(read!(call, user_ip4))
    }

    #[inline(always)]
    fn set_address(call: &Call, addr: V4) {
        write!(call, addr.0, user_ip4);
    }
}

/// IPv6 in programs of IPv6.
pub struct InV6;

impl Form for InV6 {
    type Family = V6;

    const LOOPBACK: V6 = V6([0, 0, 0, 1_u32.to_be()]);

    #[inline(always)]
    fn address(call: &Call) -> V6 {
        V6([
            read!(call, user_ip6[0]),
            read!(call, user_ip6[1]),
            read!(call, user_ip6[2]),
            read!(call, user_ip6[3]),
        ])
    }

    #[inline(always)]
    fn set_address(call: &Call, addr: V6) {
        write!(call, addr.0[0], user_ip6[0]);
        write!(call, addr.0[1], user_ip6[1]);
        write!(call, addr.0[2], user_ip6[2]);
        write!(call, addr.0[3], user_ip6[3]);
    }
}

/// IPv4 in programs of IPv6: what is in front of it stays.
pub struct Mapped;

impl Form for Mapped {
    type Family = V4;

    const LOOPBACK: V4 = LOOPBACK_V4;

    #[inline(always)]
    fn address(call: &Call) -> V4 {
        V4(read!(call, user_ip6[3]))
    }

    #[inline(always)]
    fn set_address(call: &Call, addr: V4) {
        write!(call, addr.0, user_ip6[3]);
    }
}
