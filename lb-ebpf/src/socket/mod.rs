//! Processes of the node: their sockets talk to endpoints from the start, so that no packet needs translation.
//!
//! ```text
//!   connect, sendto   VIP      -> frontend? -> endpoint it has, or choose one -> endpoint     --> stack
//!                                 else a VIP? -> refuse
//!   recvfrom          endpoint -> whom the socket believes to talk to         -> VIP          --> process
//! ```
//!
//! Programs of a cgroup see every process of the machine, whatever its network namespace; those of pods are told
//! by it and left alone, since packets of pods are translated one by one. What is decided for a node's process is
//! refused there and then: the call fails, with nothing sent (rule 54). Each decision is one counted verdict.
//!
//! Only TCP and UDP: the kernel has no such hooks for SCTP. A process of multipath TCP is served and told its endpoint,
//! since the kernel asks us about its subflow first and about another socket then. An endpoint that is itself some service's VIP stays
//! what it is, because one program sees each call, once: a new agent replaces it within its link.

mod call;
mod choose;

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use lb_common::{tables::SocketKey, verdict::Verdict};

use self::{
    call::{Call, Form, InV4, InV6, Mapped},
    choose::Occasion,
};
use crate::maps;

/// What the kernel wants to hear: go on.
const ALLOW: i32 = 1;
/// Or: let the call fail.
const DENY: i32 = 0;

/// `way` of the two kinds of entry, see [`SocketKey`].
const FORWARD: u8 = 0;
const REVERSE: u8 = 1;

/// A socket connects over IPv4.
#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    towards::<InV4>(&Call::new(&ctx), Occasion::Connect)
}

/// A socket connects over IPv6, or over IPv4 by a mapped address.
#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    let call = Call::new(&ctx);
    if call.is_mapped() {
        towards::<Mapped>(&call, Occasion::Connect)
    } else {
        towards::<InV6>(&call, Occasion::Connect)
    }
}

/// A UDP socket sends to an address over IPv4; also an IPv6 socket to a mapped one.
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    towards::<InV4>(&Call::new(&ctx), Occasion::Send)
}

/// A UDP socket sends to an address over IPv6.
#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    towards::<InV6>(&Call::new(&ctx), Occasion::Send)
}

/// A process of a UDP socket asks whom a datagram is from.
#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    back::<InV4>(&Call::new(&ctx))
}

/// The same over IPv6, or over IPv4 by an IPv6 socket.
#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    back6(&Call::new(&ctx))
}

/// A process asks whom its socket is connected to.
#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    back::<InV4>(&Call::new(&ctx))
}

/// The same over IPv6, or over IPv4 by an IPv6 socket.
#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    back6(&Call::new(&ctx))
}

/// From a VIP to an endpoint.
#[inline(always)]
fn towards<F: Form>(call: &Call, occasion: Occasion) -> i32 {
    if !call.is_of_node() {
        return ALLOW;
    }
    let Some(mut asked) = key::<F>(call, FORWARD) else {
        return ALLOW;
    };
    // Who calls no address in particular calls this host.
    if asked.addr == <F::Family as Default>::default() {
        asked.addr = F::LOOPBACK;
    }
    match choose::run(&asked, occasion) {
        Ok((addr, port)) => {
            F::set_address(call, addr);
            call.set_port(port);
            maps::count(Verdict::Socket);
            ALLOW
        }
        Err(None) => ALLOW,
        Err(Some(why)) => {
            maps::count(why);
            call.refuse(why);
            DENY
        }
    }
}

#[inline(always)]
fn back6(call: &Call) -> i32 {
    if call.is_mapped() {
        back::<Mapped>(call)
    } else {
        back::<InV6>(call)
    }
}

/// From an endpoint to the VIP that the process knows it by.
#[inline(always)]
fn back<F: Form>(call: &Call) -> i32 {
    if call.is_of_node()
        && let Some(talker) = key::<F>(call, REVERSE)
        && let Some(known) = maps::find_socket(&talker)
    {
        F::set_address(call, known.peer);
        call.set_port(known.peer_port);
    }
    ALLOW
}

/// The key of whom the call is about; none if it is no business of ours.
#[inline(always)]
fn key<F: Form>(call: &Call, way: u8) -> Option<SocketKey<F::Family>> {
    let port = call.port();
    // Port 0 is what name resolvers ask for to see which address they would have.
    let proto = call.proto()?;
    if port == 0 {
        return None;
    }
    Some(SocketKey {
        cookie: call.cookie(),
        addr: F::address(call),
        port,
        proto,
        way,
    })
}
