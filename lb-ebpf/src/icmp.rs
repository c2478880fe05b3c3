//! ICMP errors about packets of a service (rule 97): without them a smaller MTU on the way stalls every
//! bulk transfer through a VIP.
//!
//! What tells the flow is the embedded packet: its sender's tuple reversed is the tuple of the packets
//! that go the error's own way. Where the client has got another address, the error is translated twice, as the
//! packet was: between client and endpoint on the one side of the node, between node and endpoint on the other.

use lb_common::{
    flow::{Flow, FlowKey},
    ip::Side,
    parse::parse_icmp_error,
    translate::{Target, translate_icmp},
    verdict::Verdict,
};

use crate::{
    exit::{Exit, Step, end},
    maps::{self, Tables},
    skb::Skb,
};

/// An error that leaves: for a client, about a packet that it sent to a VIP and that went to an endpoint, or for
/// an endpoint, about its answer to a client that it knows by another address. Where the peer itself
/// complains the error comes from the VIP, or that address. A router on the way keeps its name, unless the client
/// has another address: then the error goes out again by an uplink, where that very router may be the next hop, and
/// routers drop what comes in under their own name.
#[inline(never)]
pub fn leaving<A: Tables>(skb: &mut Skb, l3: u16) -> Exit {
    skb.reach_all();
    end(translate_leaving::<A>(skb, l3))
}

#[inline(always)]
fn translate_leaving<A: Tables>(skb: &mut Skb, l3: u16) -> Step<Verdict> {
    let error = &parse_icmp_error::<A>(&skb.cursor(), l3).ok_or(Exit::Echo)?;
    let flow = *maps::find_flow(&error.inner.reversed()).ok_or(Exit::NotOurs)?;
    if flow.flags & (Flow::<A>::REPLY | Flow::<A>::SNAT) == 0 {
        return Err(Exit::NotOurs);
    }
    let outer = if error.src == error.inner.dst || is_masqueraded::<A>(&error.inner, &flow) {
        Some(Side::Src)
    } else {
        None
    };
    translate_icmp(
        &mut skb.cursor(),
        error,
        &Target::of(&flow, Side::Dst),
        outer,
    )
    .ok_or(Verdict::NotWritable)?;
    Ok(verdict(flow.flags & Flow::<A>::SNAT == 0))
}

/// Whether the client of a flow has another address behind this node, where `inner` is what the error that leaves is
/// about.
#[inline(always)]
fn is_masqueraded<A: Tables>(inner: &FlowKey<A>, flow: &Flow<A>) -> bool {
    let has_entry = |key| maps::find_flow(key).is_some_and(|it| it.flags & Flow::<A>::SNAT != 0);
    flow.flags & Flow::<A>::SNAT != 0 || has_entry(inner)
}

/// An error that enters: from a client, about a packet that it got from a VIP, or about a packet that a client
/// has sent under an address of this node.
#[inline(never)]
pub fn entering<A: Tables>(skb: &mut Skb, l3: u16) -> Exit {
    skb.reach_all();
    end(translate_entering::<A>(skb, l3))
}

#[inline(always)]
fn translate_entering<A: Tables>(skb: &mut Skb, l3: u16) -> Step<Verdict> {
    let error = &parse_icmp_error::<A>(&skb.cursor(), l3).ok_or(Exit::Echo)?;
    let flow = *maps::find_flow(&error.inner.reversed()).ok_or(Exit::NotOurs)?;
    if flow.flags & (Flow::<A>::REPLY | Flow::<A>::SNAT) != 0 || error.dst != error.inner.src {
        return Err(Exit::NotOurs);
    }
    translate_icmp(
        &mut skb.cursor(),
        error,
        &Target::of(&flow, Side::Src),
        Some(Side::Dst),
    )
    .ok_or(Verdict::NotWritable)?;
    Ok(verdict(flow.flags & Flow::<A>::UNDO != 0))
}

#[inline(always)]
fn verdict(is_to_client: bool) -> Verdict {
    if is_to_client {
        Verdict::IcmpToClient
    } else {
        Verdict::IcmpToEndpoint
    }
}
