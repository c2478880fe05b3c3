//! A packet of a known flow: translated and counted, whichever way it goes.
//!
//! The flow's peer is where a packet goes to ([`Side::Dst`]) when it comes in, and where it comes from ([`Side::Src`])
//! when it leaves. Whoever calls knows which, so that each program has one half of this.

use lb_common::{flow::Flow, ip::Side, parse::Transport, translate::Target, verdict::Verdict};

use crate::{
    maps::{self, Tables},
    skb::Skb,
};

/// Translates a packet of `flow` and counts it.
#[inline(always)]
pub fn run<A: Tables>(
    skb: &mut Skb,
    packet: &Transport<A>,
    flow: &Flow<A>,
    peer: Side,
) -> Result<Verdict, Verdict> {
    skb.translate(packet, &Target::of(flow, peer))?;
    Ok(count(skb, flow, peer))
}

/// Counts a packet of `flow`.
#[inline(always)]
pub fn count<A: Tables>(skb: &Skb, flow: &Flow<A>, peer: Side) -> Verdict {
    let (masquerading, of_clients, of_services) = match peer {
        Side::Dst => (Flow::<A>::UNDO, Verdict::Unsnat, Verdict::Dnat),
        Side::Src => (Flow::<A>::SNAT, Verdict::Snat, Verdict::RevNat),
    };
    if flow.traffic == Flow::<A>::NO_SERVICE {
        return match flow.flags & masquerading {
            0 => Verdict::PortMoved,
            _ => of_clients,
        };
    }
    let bytes = u64::from(skb.len());
    maps::count_traffic(flow.traffic, |traffic| match peer {
        Side::Dst => {
            traffic.packets_in += 1;
            traffic.bytes_in += bytes;
        }
        Side::Src => {
            traffic.packets_out += 1;
            traffic.bytes_out += bytes;
        }
    });
    of_services
}
