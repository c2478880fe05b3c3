//! duolb's datapath: what runs in the kernel, once for every packet that enters or leaves by a device.
//!
//! ```text
//!   client --ingress--> enter -> parse -> frontend? -> flow (or open one) -> DNAT    --> stack
//!   client <--egress--- enter -> parse ->              reply flow?        -> rev-NAT <-- stack
//!           each packet that concerns a service ends in one counted verdict (exit)
//! ```
//!
//! One body for both families: generic over [`lb_common::parse::Ip`], compiled twice. The datapath never
//! decides policy and never allocates ids; it does what the maps say. Only `maps` touches map pointers,
//! only `skb` the context.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod bridge;
mod config;
mod egress;
mod exit;
mod icmp;
mod ingress;
mod maps;
mod moved;
mod open;
mod skb;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC},
    macros::classifier,
    programs::TcContext,
};
use lb_common::{
    address::{V4, V6},
    headers::ethertype,
    verdict::Action,
};

use crate::{exit::Exit, maps::Tables, skb::Skb};

/// Packets that enter by a device: from a client to a VIP.
#[classifier]
pub fn tc_ingress(ctx: TcContext) -> i32 {
    enter::<Ingress>(ctx)
}

/// Packets that leave by a device: from an endpoint back to the client.
#[classifier]
pub fn tc_egress(ctx: TcContext) -> i32 {
    enter::<Egress>(ctx)
}

/// The flow clock as a return value, so that the agent can find out how fast it ticks here: the kernel
/// does not say what its HZ is.
#[classifier]
pub fn clock(_: TcContext) -> i32 {
    config::jiffies() as i32
}

/// What a program does with packets of one family, given the offset of the IP header.
trait Hook {
    /// A packet as it comes.
    fn run<A: Tables>(skb: &mut Skb, l3: u16) -> Exit;
    /// A packet that turned out to be ICMP.
    fn run_icmp<A: Tables>(skb: &mut Skb, l3: u16) -> Exit;

    #[inline(always)]
    fn both<A: Tables>(skb: &mut Skb, l3: u16) -> Exit {
        match Self::run::<A>(skb, l3) {
            Exit::Icmp => Self::run_icmp::<A>(skb, l3),
            exit => exit,
        }
    }
}

struct Ingress;

impl Hook for Ingress {
    #[inline(always)]
    fn run<A: Tables>(skb: &mut Skb, l3: u16) -> Exit {
        ingress::run::<A>(skb, l3)
    }

    #[inline(always)]
    fn run_icmp<A: Tables>(skb: &mut Skb, l3: u16) -> Exit {
        icmp::to_endpoint::<A>(skb, l3)
    }
}

struct Egress;

impl Hook for Egress {
    #[inline(always)]
    fn run<A: Tables>(skb: &mut Skb, l3: u16) -> Exit {
        egress::run::<A>(skb, l3)
    }

    #[inline(always)]
    fn run_icmp<A: Tables>(skb: &mut Skb, l3: u16) -> Exit {
        icmp::to_client::<A>(skb, l3)
    }
}

/// The way of every packet: link layer, family, the family's body, one verdict.
#[inline(always)]
fn enter<H: Hook>(ctx: TcContext) -> i32 {
    let mut skb = Skb::new(ctx);
    let Some(l2) = skb.parse_l2() else {
        return TC_ACT_UNSPEC;
    };
    let exit = match l2.ethertype {
        ethertype::IPV4 => H::both::<V4>(&mut skb, l2.payload),
        ethertype::IPV6 => H::both::<V6>(&mut skb, l2.payload),
        _ => return TC_ACT_UNSPEC,
    };
    let Exit::Counted(verdict) = exit else {
        return TC_ACT_UNSPEC;
    };
    maps::count(verdict);
    match verdict.action() {
        // "Unspecified" rather than "ok": whatever other program is on the device has its turn too.
        Action::Pass => TC_ACT_UNSPEC,
        Action::Drop => TC_ACT_SHOT,
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
