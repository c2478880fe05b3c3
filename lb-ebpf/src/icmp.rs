//! ICMP errors about packets of a service (rule 97): without them a smaller MTU on the way stalls every
//! bulk transfer through a VIP.
//!
//! What tells the flow is the embedded packet: its sender's tuple reversed is the tuple of the packets
//! that go the error's own way.

use lb_common::{
    flow::Flow,
    ip::Side,
    parse::parse_icmp_error,
    translate::{Target, translate_icmp},
    verdict::Verdict,
};

use crate::{
    exit::{Exit, Step, end},
    maps::{self, Tables},
    skb::Skb,
    twin,
};

/// An error for a client, about a packet that it sent to a VIP and that went to an endpoint. Only where
/// the endpoint itself complains does the error come from the VIP; a router on the way keeps its name.
#[inline(never)]
pub fn to_client<A: Tables>(skb: &mut Skb, l3: u16) -> Exit {
    end(translate_to_client::<A>(skb, l3))
}

#[inline(always)]
fn translate_to_client<A: Tables>(skb: &mut Skb, l3: u16) -> Step<Verdict> {
    let error = &parse_icmp_error::<A>(&skb.cursor(), l3).ok_or(Exit::NotOurs)?;
    let reply = *twin::find_reply(&error.inner.reversed()).ok_or(Exit::NotOurs)?;
    let outer = if error.src == error.inner.dst {
        Some(Side::Src)
    } else {
        None
    };
    translate_icmp(
        &mut skb.cursor(),
        error,
        &Target::of(&reply, Side::Dst),
        outer,
    )
    .ok_or(Verdict::NotWritable)?;
    Ok(Verdict::IcmpToClient)
}

/// An error from a client, about a packet that it got from a VIP.
#[inline(never)]
pub fn to_endpoint<A: Tables>(skb: &mut Skb, l3: u16) -> Exit {
    end(translate_to_endpoint::<A>(skb, l3))
}

#[inline(always)]
fn translate_to_endpoint<A: Tables>(skb: &mut Skb, l3: u16) -> Step<Verdict> {
    let error = &parse_icmp_error::<A>(&skb.cursor(), l3).ok_or(Exit::NotOurs)?;
    let flow = *maps::find_flow(&error.inner.reversed()).ok_or(Exit::NotOurs)?;
    if flow.flags & Flow::<A>::REPLY != 0 || error.dst != error.inner.src {
        return Err(Exit::NotOurs);
    }
    translate_icmp(
        &mut skb.cursor(),
        error,
        &Target::of(&flow, Side::Src),
        Some(Side::Dst),
    )
    .ok_or(Verdict::NotWritable)?;
    Ok(Verdict::IcmpToEndpoint)
}
