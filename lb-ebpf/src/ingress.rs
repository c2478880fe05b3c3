//! Packets that enter by a device: from a client to a VIP (DNAT).
//!
//! An established packet pays one frontend lookup and one flow lookup; a packet that is none of ours
//! pays the first only, or a SYN both (see `moved`).

use lb_common::{
    flow::{Flow, is_past},
    headers::Tcp,
    ip::Side,
    parse::{Packet, Transport, parse},
    tables::{Frontend, FrontendKey},
    translate::Target,
    verdict::Verdict,
};

use crate::{
    bridge, config,
    exit::{Exit, Step, end},
    maps::{self, Tables},
    moved, open,
    skb::Skb,
    twin,
};

/// A packet whose IP header stands at `l3`.
#[inline(never)]
pub fn run<A: Tables>(skb: &mut Skb, l3: u16) -> Exit {
    match parse::<A>(&skb.cursor(), l3) {
        Some(Packet::Transport(packet)) => end(to_endpoint(skb, &packet)),
        Some(Packet::Icmp) => Exit::Icmp,
        None => Exit::NotOurs,
    }
}

#[inline(always)]
fn to_endpoint<A: Tables>(skb: &mut Skb, packet: &Transport<A>) -> Step<Verdict> {
    let tuple = &packet.tuple;
    let key = FrontendKey::new(tuple.dst, tuple.dport, tuple.protocol());
    let flow = match maps::find_frontend(&key) {
        Some(frontend) if packet.is_fragment => {
            // The pieces that follow have no ports, so they could not follow (rule 98). Refusing needs
            // no more than the first.
            let refused = frontend.slot_count == 0;
            let verdict = if refused {
                Verdict::NoEndpoint
            } else {
                Verdict::Fragment
            };
            return Err(verdict.into());
        }
        Some(frontend) => find_or_open(skb, packet, frontend)?,
        None if packet.is_tcp() => {
            moved::ensure_flow(packet)?;
            &*find_flow(packet)?
        }
        None => return Err(Exit::NotOurs),
    };
    if flow.flags & Flow::<A>::L2 != 0 {
        skb.set_mac(flow.mac);
    }
    skb.translate(packet, &Target::of(flow, Side::Dst))?;
    if flow.traffic == Flow::<A>::NO_SERVICE {
        return Ok(Verdict::PortMoved);
    }
    let bytes = u64::from(skb.len());
    maps::count_traffic(flow.traffic, |traffic| {
        traffic.packets_in += 1;
        traffic.bytes_in += bytes;
    });
    Ok(Verdict::Dnat)
}

#[inline(always)]
fn find_or_open<A: Tables>(
    skb: &mut Skb,
    packet: &Transport<A>,
    frontend: &Frontend,
) -> Result<&'static Flow<A>, Verdict> {
    let now = config::now();
    let known = maps::find_flow(&packet.tuple);
    let is_taken = known
        .as_ref()
        .is_some_and(|flow| flow.flags & Flow::<A>::TAKEN != 0);
    let flow = if let Some(flow) = known.filter(|flow| !is_over(packet, flow, now)) {
        if packet.is_tcp() {
            follow(packet, flow);
        }
        if flow.seen != now {
            flow.seen = now;
            // The reply tuple of a flow that ended may be another's, or a direct connection's, by now.
            if !flow.is_closed() {
                twin::ensure_reply(packet, flow, now)?;
            }
            if !packet.is_tcp() {
                bridge::ask_again(flow);
            }
        }
        flow
    } else {
        open::run(skb, packet, frontend, now, is_taken)?;
        find_flow(packet)?
    };
    if flow.flags & Flow::<A>::L2_PENDING != 0 {
        bridge::find_neighbour(skb, packet, flow);
    }
    Ok(flow)
}

/// The forward entry that was made just now.
#[inline(always)]
fn find_flow<A: Tables>(packet: &Transport<A>) -> Result<&'static mut Flow<A>, Verdict> {
    maps::find_flow(&packet.tuple).ok_or(Verdict::FlowTableFull)
}

/// Whether the packet begins a new flow on an old one's tuple.
#[inline(always)]
fn is_over<A: Tables>(packet: &Transport<A>, flow: &Flow<A>, now: u32) -> bool {
    if packet.is_tcp() {
        // A SYN after anything else came from the client is a new connection from a reused port (rule
        // 80); a SYN after nothing but SYNs is a retransmission and keeps its endpoint (rule 79), unless
        // it is too long after (else a port would stay bound to an endpoint that never answered) or the
        // endpoint turned out to use the tuple for another connection.
        packet.is_open()
            && (flow.flags & (Flow::<A>::OPENED | Flow::<A>::TAKEN) != 0
                || flow.is_closed()
                || is_past(flow.seen, now, config::SYN_TIMEOUT))
    } else {
        // Answers keep a flow alive as well: a stream from the endpoint needs no packets from the client.
        is_past(flow.seen, now, config::timeout(packet.tuple.proto))
            && !twin::is_answered(packet, flow, now)
    }
}

/// Notes what a segment from the client says about the connection.
#[inline(always)]
fn follow<A: Tables>(packet: &Transport<A>, flow: &mut Flow<A>) {
    if !packet.is_open() && flow.flags & Flow::<A>::OPENED == 0 {
        flow.flags |= Flow::<A>::OPENED;
    }
    if packet.flags & (Tcp::FIN | Tcp::RST) != 0 {
        twin::note_client_end(packet, flow);
    }
}
