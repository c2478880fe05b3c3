//! A flow's first packet: choose an endpoint, claim a reply tuple, remember both directions.

use aya_log_ebpf::info;
use lb_common::{
    flow::{Flow, FlowKey, no_mac},
    parse::Transport,
    tables::{Frontend, traffic_index},
    verdict::Verdict,
};

use crate::{
    affinity, bridge, config,
    maps::{self, Refused, Tables},
    skb::Skb,
    twin::is_idle,
};

/// Source ports tried when the client's own one is taken, before the packet is dropped as `NoPort`.
const PORT_TRIES: u32 = 8;

/// Opens a flow for `packet`, which is addressed to `frontend`: both its entries. `is_taken`: the client's
/// own port is another connection's.
#[inline(never)]
pub fn run<A: Tables>(
    skb: &mut Skb,
    packet: &Transport<A>,
    frontend: &Frontend,
    now: u32,
    is_taken: bool,
) -> Result<(), Verdict> {
    if frontend.slot_count == 0 {
        return Err(if frontend.flags & Frontend::DROP == 0 {
            Verdict::NoEndpoint
        } else {
            Verdict::NoLocalEndpoint
        });
    }
    // The pieces that follow have no ports, so they could not follow (rule 98). Refusing needs no more
    // than the first.
    if packet.is_fragment() {
        return Err(Verdict::Fragment);
    }
    let hash = packet.tuple.hash(config::hash_seed());
    // Multiply and shift instead of a division: uniform over the range as the hash is over 2^32.
    let slot = ((u64::from(hash) * u64::from(frontend.slot_count)) >> 32) as u32;
    let mut id =
        maps::find_slot::<A>(frontend.slot_base.wrapping_add(slot)).ok_or(Verdict::BadSlot)?;
    if frontend.affinity != 0 {
        id = affinity::ensure(packet, frontend, id, now);
    }
    let endpoint = maps::find_endpoint::<A>(id).ok_or(Verdict::BadSlot)?;
    let mut flow = Flow {
        peer: endpoint.addr,
        peer_port: endpoint.port,
        client_port: packet.tuple.sport,
        traffic: traffic_index(frontend.service, A::FAMILY),
        endpoint: endpoint.id,
        seen: now,
        mac: no_mac(),
        flags: if packet.is_open() {
            0
        } else {
            Flow::<A>::OPENED
        },
    };
    claim_reply(&packet.tuple, &mut flow, hash, is_taken)?;
    if bridge::may_switch(skb, packet, &flow) {
        flow.flags |= Flow::<A>::L2_PENDING;
    }
    maps::put_flow(&packet.tuple, &flow).map_err(|_| Verdict::FlowTableFull)?;
    note::<A>(skb, frontend, slot);
    Ok(())
}

/// Counts a new flow, and says where it goes. A function of its own: in its caller's frame, it would be under
/// the deepest calls there are.
#[inline(never)]
fn note<A: Tables>(skb: &Skb, frontend: &Frontend, slot: u32) {
    let index = traffic_index(frontend.service, A::FAMILY);
    maps::count_traffic(index, |traffic| traffic.flows += 1);
    info!(
        skb.ctx(),
        "service {}: new flow, slot {} of {}", frontend.service, slot, frontend.slot_count
    );
}

/// Makes the reply tuple of `flow` this flow's own, with another client port in it if the client's own
/// `is_taken` or a live flow answers by that tuple already (rule 99).
#[inline(never)]
pub fn claim_reply<A: Tables>(
    tuple: &FlowKey<A>,
    flow: &mut Flow<A>,
    hash: u32,
    is_taken: bool,
) -> Result<(), Verdict> {
    let mut key = flow.reply_key(tuple);
    let entry = flow.reply_entry(tuple);
    let mut candidate = hash;
    for attempt in 0..PORT_TRIES {
        if attempt > 0 || is_taken {
            // Another port of the upper half, where clients take theirs from; a step that is odd visits
            // them all.
            candidate = candidate.wrapping_mul(0x9e37_79b1).wrapping_add(1);
            flow.client_port = ((candidate >> 16) as u16 | 0x8000).to_be();
            key.dport = flow.client_port;
        }
        match maps::insert_flow(&key, &entry) {
            Ok(()) => return Ok(()),
            Err(Refused::Full) => return Err(Verdict::FlowTableFull),
            Err(Refused::Exists) => {}
        }
        let is_free = match maps::find_flow(&key) {
            // The same flow's, left from before its forward entry was evicted or its port reused.
            Some(old) => old.is_same_reply(&entry) || is_idle(old, &key, flow.seen),
            None => true,
        };
        if is_free {
            return maps::put_flow(&key, &entry).map_err(|_| Verdict::FlowTableFull);
        }
    }
    Err(Verdict::NoPort)
}
