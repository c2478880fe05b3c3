//! duolb's datapath: what runs in the kernel, once for every packet that enters or leaves by a device.
//!
//! ```text
//!   client --ingress--> enter -> parse -> frontend? -> flow (or open one) -> DNAT    --> stack
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

mod bridge;
mod config;
mod egress;
mod exit;
mod icmp;
mod ingress;
mod maps;
mod moved;
mod open;
mod reject;
mod skb;
mod twin;

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

use crate::{exit::Exit, skb::Skb};

/// Packets that enter by a device: from a client to a VIP.
#[classifier]
pub fn tc_ingress(ctx: TcContext) -> i32 {
    enter(ctx, ingress::run::<V4>, ingress::run::<V6>)
}

/// Packets that leave by a device: from an endpoint back to the client.
#[classifier]
pub fn tc_egress(ctx: TcContext) -> i32 {
    enter(ctx, egress::run::<V4>, egress::run::<V6>)
}

/// The flow clock as a return value, so that the agent can find out how fast it ticks here: the kernel
/// does not say what its HZ is.
#[classifier]
pub fn clock(_: TcContext) -> i32 {
    config::jiffies() as i32
}

/// The way of every packet: link layer, family, the family's body, one verdict.
#[inline(always)]
fn enter(
    ctx: TcContext,
    v4: impl Fn(&mut Skb, u16) -> Exit,
    v6: impl Fn(&mut Skb, u16) -> Exit,
) -> i32 {
    let mut skb = Skb::new(ctx);
    let Some(l2) = skb.parse_l2() else {
        return TC_ACT_UNSPEC;
    };
    let exit = match l2.ethertype {
        ethertype::IPV4 => v4(&mut skb, l2.payload),
        ethertype::IPV6 => v6(&mut skb, l2.payload),
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
