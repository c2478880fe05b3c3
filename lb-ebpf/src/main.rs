//! duolb's datapath: what runs in the kernel, once for every packet that enters or leaves by a device.
//!
//! ```text
//!   client --ingress--> enter -> parse -> frontend? -> flow (or open one) -> DNAT    --> stack
//!                                         else a VIP? -> flow, or refuse
//!   client <--egress--- enter -> parse ->              reply flow?        -> rev-NAT <-- stack
//!           each packet that concerns a service ends in one counted verdict (exit)
//! ```
//!
//! One body for both families: generic over [`lb_common::ip::Ip`], compiled twice. The datapath never
//! decides policy and never allocates ids; it does what the maps say. Only `maps` touches map pointers,
//! only `skb` the context.
#![no_std]
#![no_main]
#![expect(
    missing_docs,
    reason = "what the program macros generate is not ours to describe"
)]

mod affinity;
mod apart;
mod begin;
mod bound;
mod bridge;
mod config;
mod echo;
mod egress;
mod exit;
mod fast;
mod icmp;
mod ingress;
mod maps;
mod moved;
mod open;
mod pass;
mod pieces;
mod reject;
mod route;
mod skb;
mod snat;
mod socket;
mod switch;
mod twin;
mod vips;
mod xdp;

use aya_ebpf::{
    bindings::{TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use lb_common::{
    address::{V4, V6},
    headers::ethertype,
    ip::Side,
    join::join_ways,
    verdict::{Action, Verdict},
};

use crate::{exit::Exit, maps::Tables, skb::Skb};

/// Packets that enter by a device: from a client to a VIP.
#[classifier]
pub fn tc_ingress(ctx: TcContext) -> i32 {
    enter::<Ingress, true>(ctx)
}

/// Packets that leave by a device: from an endpoint back to the client.
#[classifier]
pub fn tc_egress(ctx: TcContext) -> i32 {
    enter::<Egress, true>(ctx)
}

/// Packets that enter by a device without a link layer: a layer-3 tunnel.
#[classifier]
pub fn tc_ingress_l3(ctx: TcContext) -> i32 {
    enter::<Ingress, false>(ctx)
}

/// Packets that leave by a device without a link layer.
#[classifier]
pub fn tc_egress_l3(ctx: TcContext) -> i32 {
    enter::<Egress, false>(ctx)
}

/// Packets of flows between outside and another node, on the way through this one.
#[xdp(frags)]
pub fn xdp_ingress(ctx: XdpContext) -> u32 {
    xdp::run(ctx)
}

/// The flow clock as a return value, so that the agent can find out how fast it ticks here: the kernel
/// does not say what its HZ is.
#[classifier]
#[expect(clippy::cast_possible_truncation, reason = "the low half is the clock")]
pub fn clock(_: TcContext) -> i32 {
    config::jiffies() as i32
}

/// What a program does with packets of one family, given the offset of the IP header.
trait Hook {
    /// Whether packets come in here. They may do so twice: what comes in by a device comes in once more by the VLAN or
    /// macvlan on it.
    const IS_INGRESS: bool;

    /// Nearly every packet's way.
    fn run<A: Tables>(skb: &mut Skb, l3: u16) -> Exit;

    /// What is rare, and begins anew where `run` began: nested, the two would need more stack than kernels
    /// before 6.8 grant, which round each frame up to 32 bytes.
    fn run_rare<A: Tables>(skb: &mut Skb, l3: u16, exit: Exit) -> Exit;

    #[inline(always)]
    fn family<A: Tables, const IS_ETHERNET: bool>(skb: &mut Skb, l3: u16) -> Exit {
        skb.reach_transport::<A>(l3);
        let is_noted = switch::is_on::<A>() && note_packet::<A>(skb, l3);
        if is_noted {
            switch::bring::<A>();
        }
        let exit = Self::run::<A>(skb, l3);
        if exit.is_end() && !is_noted {
            return exit;
        }
        let exit = Self::run_rare::<A>(skb, l3, join_ways(exit));
        if is_noted {
            switch::give_back::<A>();
        }
        match join_ways(exit) {
            Exit::Echo => echo::run::<A, IS_ETHERNET>(skb, l3),
            // Only what comes in is ever refused.
            exit if !Self::IS_INGRESS => exit,
            Exit::Counted(why) if matches!(why.action(), Action::Reply) => {
                reject::run::<A, IS_ETHERNET>(skb, l3, why)
            }
            exit => exit,
        }
    }
}

/// Of a switch between maps: notes which packet is under way.
#[inline(never)]
fn note_packet<A: Tables>(skb: &mut Skb, l3: u16) -> bool {
    switch::before::<A>(&skb.cursor(), l3)
}

struct Ingress;

impl Hook for Ingress {
    const IS_INGRESS: bool = true;

    #[inline(always)]
    fn run<A: Tables>(skb: &mut Skb, l3: u16) -> Exit {
        ingress::run::<A>(skb, l3)
    }

    #[inline(always)]
    fn run_rare<A: Tables>(skb: &mut Skb, l3: u16, exit: Exit) -> Exit {
        let exit = join_ways(match exit {
            Exit::Icmp => icmp::entering::<A>(skb, l3),
            Exit::Piece => pieces::entering::<A>(skb, l3),
            Exit::Vip => vips::run::<A>(skb, l3),
            Exit::Open => begin::run::<A>(skb, l3, false),
            Exit::OpenElsewhere => begin::run::<A>(skb, l3, true),
            exit => exit,
        });
        let exit = join_ways(match exit {
            Exit::Opened => ingress::run::<A>(skb, l3),
            exit => exit,
        });
        match exit {
            // The flow that was opened just now is not there any more.
            Exit::Open | Exit::OpenElsewhere => Verdict::FlowTableFull.into(),
            Exit::Apart => apart::run::<A>(skb, l3, Side::Dst),
            exit => exit,
        }
    }
}

struct Egress;

impl Hook for Egress {
    const IS_INGRESS: bool = false;

    #[inline(always)]
    fn run<A: Tables>(skb: &mut Skb, l3: u16) -> Exit {
        egress::run::<A>(skb, l3)
    }

    #[inline(always)]
    fn run_rare<A: Tables>(skb: &mut Skb, l3: u16, exit: Exit) -> Exit {
        let exit = join_ways(match exit {
            Exit::Icmp => icmp::leaving::<A>(skb, l3),
            Exit::Piece => pieces::leaving::<A>(skb, l3),
            Exit::Open => snat::run::<A>(skb, l3),
            exit => exit,
        });
        let exit = join_ways(match exit {
            Exit::Opened => egress::run::<A>(skb, l3),
            exit => exit,
        });
        match exit {
            Exit::Open => Verdict::FlowTableFull.into(),
            Exit::Apart => apart::run::<A>(skb, l3, Side::Src),
            exit => exit,
        }
    }
}

/// The way of every packet: link layer (if there is an Ethernet header), family, the family's body, one verdict.
#[inline(always)]
fn enter<H: Hook, const IS_ETHERNET: bool>(ctx: TcContext) -> i32 {
    let mut skb = Skb::new(ctx);
    if H::IS_INGRESS && skb.is_done() {
        return TC_ACT_UNSPEC;
    }
    let Some(l2) = skb.parse_l2::<IS_ETHERNET>() else {
        return TC_ACT_UNSPEC;
    };
    // One call for all link layers: what is called from two places is verified twice.
    let (kind, l3) = (join_ways(l2.ethertype), join_ways(l2.payload));
    let exit = match kind {
        ethertype::IPV4 => H::family::<V4, IS_ETHERNET>(&mut skb, l3),
        ethertype::IPV6 => H::family::<V6, IS_ETHERNET>(&mut skb, l3),
        _ => return TC_ACT_UNSPEC,
    };
    let verdict = match exit {
        Exit::Sent => return TC_ACT_REDIRECT,
        Exit::Counted(verdict) => verdict,
        Exit::SentToEndpoint => Verdict::Dnat,
        Exit::SentToClient => Verdict::RevNat,
        Exit::Echoed => Verdict::Echo,
        _ => return TC_ACT_UNSPEC,
    };
    maps::count(verdict);
    if matches!(exit, Exit::SentToEndpoint | Exit::SentToClient) {
        return TC_ACT_REDIRECT;
    }
    match verdict.action() {
        // "Unspecified" rather than "ok": whatever other program is on the device has its turn too.
        Action::Pass => {
            if H::IS_INGRESS {
                skb.set_done();
            }
            TC_ACT_UNSPEC
        }
        Action::Drop => TC_ACT_SHOT,
        Action::Reply if !H::IS_INGRESS => skb.take_in(),
        Action::Reply if IS_ETHERNET && l3 == 0 => skb.send_back_to_neighbour(),
        Action::Reply => skb.send_back(),
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Not reachable: the verifier would refuse a program in which it is.
    loop {}
}

/// The licence the kernel checks before it lets a program call its GPL-only helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
