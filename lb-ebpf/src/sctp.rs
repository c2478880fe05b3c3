//! SCTP packets of a known flow: translated here, since their checksum asks for more than TCP's and UDP's.
//!
//! The flow has been found, or opened, where every packet's is. What is left is to rewrite; the checksum
//! covers the ports, and for other ports it is mended with some thousand instructions, which the verifier
//! would follow once for every way that leads there.

use lb_common::{
    ip::Side,
    parse::{Packet, Transport, parse},
    verdict::Verdict,
};

use crate::{
    egress,
    exit::{Exit, Step, end},
    ingress,
    maps::{self, Tables},
    skb::Skb,
};

/// A packet from a client to an endpoint ([`Side::Dst`] is the peer's), or back.
#[inline(never)]
pub fn run<A: Tables>(skb: &mut Skb, l3: u16, peer: Side) -> Exit {
    match parse::<A>(&skb.cursor(), l3) {
        Some(Packet::Transport(packet)) if packet.is_sctp() => end(pass(skb, &packet, peer)),
        _ => Exit::NotOurs,
    }
}

#[inline(always)]
fn pass<A: Tables>(skb: &mut Skb, packet: &Transport<A>, peer: Side) -> Step<Verdict> {
    // Another CPU's flow may have pushed it out meanwhile.
    let flow = maps::find_flow(&packet.tuple).ok_or(Verdict::FlowTableFull)?;
    Ok(match peer {
        Side::Dst => ingress::pass(skb, packet, flow)?,
        Side::Src => egress::pass(skb, packet, flow)?,
    })
}
