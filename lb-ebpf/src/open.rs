//! A flow's first packet: choose an endpoint, claim a reply tuple, remember both directions.

use aya_log_ebpf::info;
use lb_common::{
    flow::{Flow, FlowKey, is_past},
    parse::Transport,
    tables::{Frontend, traffic_index},
    verdict::Verdict,
};

use crate::{
    bridge, config,
    maps::{self, Refused, Tables},
    skb::Skb,
};

/// Source ports tried when the client's own one is taken, before the packet is dropped as `NoPort`.
const PORT_TRIES: u32 = 8;

/// Opens a flow for `packet`, which is addressed to `frontend`: both its entries.
#[inline(never)]
pub fn run<A: Tables>(
    skb: &mut Skb,
    packet: &Transport<A>,
    frontend: &Frontend,
    now: u32,
) -> Result<(), Verdict> {
    if frontend.slot_count == 0 {
        return Err(Verdict::NoEndpoint);
    }
    let hash = packet.tuple.hash(config::hash_seed());
    // Multiply and shift instead of a division: uniform over the range as the hash is over 2^32.
    let slot = (u64::from(hash) * u64::from(frontend.slot_count)) >> 32;
    let endpoint = maps::find_endpoint::<A>(frontend.slot_base.wrapping_add(slot as u32))
        .ok_or(Verdict::BadSlot)?;
    let mut flow = Flow {
        peer: endpoint.addr,
        peer_port: endpoint.port,
        client_port: packet.tuple.sport,
        traffic: traffic_index(frontend.service, A::FAMILY),
        seen: now,
        mac: bridge::no_mac(),
        flags: if packet.is_open() {
            0
        } else {
            Flow::<A>::OPENED
        },
    };
    claim_reply(&packet.tuple, &mut flow, hash)?;
    if bridge::may_switch(skb, packet, &flow) {
        flow.flags |= Flow::<A>::L2_PENDING;
    }
    maps::put_flow(&packet.tuple, &flow).map_err(|_| Verdict::FlowTableFull)?;
    maps::count_traffic(flow.traffic, |traffic| traffic.flows += 1);
    info!(
        skb.ctx(),
        "service {}: new flow, slot {} of {}", frontend.service, slot, frontend.slot_count
    );
    Ok(())
}

/// The tuple of the packets that answer the flow with forward tuple `tuple`.
#[inline(always)]
pub fn reply_key<A: Tables>(tuple: &FlowKey<A>, flow: &Flow<A>) -> FlowKey<A> {
    FlowKey {
        src: flow.peer,
        dst: tuple.src,
        sport: flow.peer_port,
        dport: flow.client_port,
        proto: tuple.proto,
    }
}

#[inline(always)]
fn reply_entry<A: Tables>(tuple: &FlowKey<A>, flow: &Flow<A>) -> Flow<A> {
    Flow {
        peer: tuple.dst,
        peer_port: tuple.dport,
        client_port: tuple.sport,
        traffic: flow.traffic,
        seen: flow.seen,
        mac: bridge::no_mac(),
        flags: Flow::<A>::REPLY,
    }
}

/// Makes the reply tuple of `flow` this flow's own, with another client port in it if a live flow
/// answers by that tuple already (rule 99).
#[inline(never)]
pub fn claim_reply<A: Tables>(
    tuple: &FlowKey<A>,
    flow: &mut Flow<A>,
    hash: u32,
) -> Result<(), Verdict> {
    let mut key = reply_key(tuple, flow);
    let entry = reply_entry(tuple, flow);
    let mut candidate = hash;
    for _ in 0..PORT_TRIES {
        match maps::insert_flow(&key, &entry) {
            Ok(()) => return Ok(()),
            Err(Refused::Full) => return Err(Verdict::FlowTableFull),
            Err(Refused::Exists) => {}
        }
        let is_free = match maps::find_flow(&key) {
            // The same flow's, left from before its forward entry was evicted or its port reused.
            Some(old) => is_same(old, &entry) || is_idle(old, &key, flow.seen),
            None => true,
        };
        if is_free {
            return maps::put_flow(&key, &entry).map_err(|_| Verdict::FlowTableFull);
        }
        // Another port of the upper half, where clients take theirs from; a step that is odd visits
        // them all.
        candidate = candidate.wrapping_mul(0x9e37_79b1).wrapping_add(1);
        flow.client_port = ((candidate >> 16) as u16 | 0x8000).to_be();
        key.dport = flow.client_port;
    }
    Err(Verdict::NoPort)
}

/// Whether two reply entries translate to the same tuple.
#[inline(always)]
fn is_same<A: Tables>(one: &Flow<A>, other: &Flow<A>) -> bool {
    one.flags & Flow::<A>::REPLY != 0
        && one.peer == other.peer
        && one.peer_port == other.peer_port
        && one.client_port == other.client_port
}

/// Whether the endpoint of a flow spoke lately.
#[inline(never)]
pub fn is_answered<A: Tables>(packet: &Transport<A>, flow: &Flow<A>, now: u32) -> bool {
    let Some(reply) = maps::find_flow(&reply_key(&packet.tuple, flow)) else {
        return false;
    };
    is_same(reply, &reply_entry(&packet.tuple, flow))
        && !is_past(reply.seen, now, config::timeout(packet.tuple.proto))
}

/// Whether a flow no longer needs its tuple.
#[inline(always)]
pub fn is_idle<A: Tables>(flow: &Flow<A>, key: &FlowKey<A>, now: u32) -> bool {
    flow.is_closed() || is_past(flow.seen, now, config::timeout(key.proto))
}

/// Once a tick: makes sure that the reply entry still exists, which a flow with few answers might have
/// lost to the LRU.
#[inline(never)]
pub fn ensure_reply<A: Tables>(
    packet: &Transport<A>,
    flow: &Flow<A>,
    now: u32,
) -> Result<(), Verdict> {
    let key = reply_key(&packet.tuple, flow);
    match maps::find_flow(&key) {
        Some(reply) => {
            if reply.seen != now {
                reply.seen = now;
            }
            Ok(())
        }
        None => {
            let entry = reply_entry(&packet.tuple, flow);
            maps::put_flow(&key, &entry).map_err(|_| Verdict::FlowTableFull)
        }
    }
}
