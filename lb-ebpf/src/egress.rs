//! Packets that leave by a device: from an endpoint back to the client (rev-NAT).

use lb_common::{
    flow::{Flow, FlowKey},
    headers::Tcp,
    parse::{Packet, Side, Transport, parse},
    translate::Target,
    verdict::Verdict,
};

use crate::{
    config,
    exit::{Exit, Step, end},
    ingress::end_flags,
    maps::{self, Tables},
    moved,
    skb::Skb,
};

/// A packet whose IP header stands at `l3`.
#[inline(never)]
pub fn run<A: Tables>(skb: &mut Skb, l3: u16) -> Exit {
    match parse::<A>(&skb.cursor(), l3) {
        Some(Packet::Transport(packet)) => end(to_client(skb, &packet)),
        Some(Packet::Icmp) => Exit::Icmp,
        None => Exit::NotOurs,
    }
}

#[inline(always)]
fn to_client<A: Tables>(skb: &mut Skb, packet: &Transport<A>) -> Step<Verdict> {
    let flow = find_reply(&packet.tuple).ok_or(Exit::NotOurs)?;
    if packet.is_fragment {
        return Err(Verdict::Fragment.into());
    }
    let now = config::now();
    if flow.seen != now {
        flow.seen = now;
    }
    if packet.flags & (Tcp::FIN | Tcp::RST) != 0 {
        note_end(packet, flow);
    }
    skb.translate(packet, &Target::of(flow, Side::Src))?;
    if flow.traffic == Flow::<A>::NO_SERVICE {
        moved::passed(now);
        return Ok(Verdict::PortMoved);
    }
    let bytes = u64::from(skb.len());
    maps::count_traffic(flow.traffic, |traffic| {
        traffic.packets_out += 1;
        traffic.bytes_out += bytes;
    });
    Ok(Verdict::RevNat)
}

/// The reply entry for the tuple of a packet from an endpoint.
#[inline(always)]
pub fn find_reply<A: Tables>(tuple: &FlowKey<A>) -> Option<&'static mut Flow<A>> {
    let flow = maps::find_flow(tuple)?;
    if flow.flags & Flow::<A>::REPLY == 0 {
        None
    } else {
        Some(flow)
    }
}

/// Notes in both entries that the endpoint ends the connection.
#[inline(never)]
fn note_end<A: Tables>(packet: &Transport<A>, reply: &mut Flow<A>) {
    let flags = end_flags::<A>(packet.flags, Flow::<A>::FIN_ENDPOINT);
    reply.flags |= flags;
    if let Some(forward) = maps::find_flow(&forward_key(&packet.tuple, reply)) {
        forward.flags |= flags;
    }
}

/// The key of the forward entry, from the reply's tuple and entry.
#[inline(always)]
fn forward_key<A: Tables>(tuple: &FlowKey<A>, reply: &Flow<A>) -> FlowKey<A> {
    FlowKey {
        src: tuple.dst,
        dst: reply.peer,
        sport: reply.client_port,
        dport: reply.peer_port,
        proto: tuple.proto,
    }
}
