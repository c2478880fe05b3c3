//! Packets of a known flow whose translation asks for more than that of others: SCTP, and first pieces of packets.
//!
//! The flow has been found, or opened, where every packet's is. What is left is to rewrite. SCTP's checksum covers the
//! ports, and for other ports it is mended with some thousand instructions; a first piece is noted for those that
//! follow (`pieces`). The verifier would follow that once for every way that leads there.

use lb_common::{
    flow::Flow,
    ip::Side,
    parse::{Packet, Transport, parse},
    verdict::Verdict,
};

use crate::{
    egress,
    exit::{Exit, Step, end},
    ingress,
    maps::{self, Tables},
    pieces,
    skb::Skb,
};

/// Whether a packet takes this way.
#[inline(always)]
pub fn is_apart<A: Tables>(packet: &Transport<A>) -> bool {
    packet.is_sctp() || packet.is_fragment()
}

/// A packet from a client to an endpoint ([`Side::Dst`] is the peer's), or back.
#[inline(never)]
pub fn run<A: Tables>(skb: &mut Skb, l3: u16, peer: Side) -> Exit {
    match parse::<A>(&skb.cursor(), l3) {
        Some(Packet::Transport(packet)) if is_apart(&packet) => end(pass(skb, &packet, peer)),
        _ => Exit::NotOurs,
    }
}

#[inline(always)]
fn pass<A: Tables>(skb: &mut Skb, packet: &Transport<A>, peer: Side) -> Step<Verdict> {
    // Another CPU's flow may have pushed it out meanwhile.
    let flow = maps::find_flow(&packet.tuple).ok_or(Verdict::FlowTableFull)?;
    if packet.is_fragment() {
        if packet.is_sctp() && has_other_ports(packet, flow, peer) {
            return Err(Verdict::Fragment.into());
        }
        pieces::note(skb, packet, matches!(peer, Side::Src))?;
    }
    match peer {
        Side::Dst => {
            let verdict = ingress::pass(skb, packet, flow)?;
            ingress::leave(skb, packet.l3, flow, verdict)
        }
        Side::Src => Ok(egress::pass(skb, packet, flow)?),
    }
}

/// Whether a packet of `flow` gets another port. SCTP's checksum is over the whole packet, of which a piece is not all.
#[inline(always)]
fn has_other_ports<A: Tables>(packet: &Transport<A>, flow: &Flow<A>, peer: Side) -> bool {
    let (sport, dport) = match peer {
        Side::Dst => (flow.client_port, flow.peer_port),
        Side::Src => (flow.peer_port, flow.client_port),
    };
    packet.tuple.sport != sport || packet.tuple.dport != dport
}
