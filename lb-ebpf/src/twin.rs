//! The two entries of a flow, seen from one of them: find the other, keep it, tell it how the flow ends.

use lb_common::{
    flow::{Flow, FlowKey, is_past},
    headers::Tcp,
    parse::Transport,
    verdict::Verdict,
};

use crate::{
    config,
    maps::{self, Tables},
};

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

/// Whether the endpoint of a flow spoke lately.
#[inline(never)]
pub fn is_answered<A: Tables>(packet: &Transport<A>, flow: &Flow<A>, now: u32) -> bool {
    let Some(reply) = maps::find_flow(&flow.reply_key(&packet.tuple)) else {
        return false;
    };
    reply.is_same_reply(&flow.reply_entry(&packet.tuple))
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
    let key = flow.reply_key(&packet.tuple);
    let entry = flow.reply_entry(&packet.tuple);
    match maps::find_flow(&key) {
        Some(reply) if reply.is_same_reply(&entry) => {
            if reply.seen != now {
                reply.seen = now;
            }
            Ok(())
        }
        // Another flow answers by it, since this one was silent for too long.
        Some(reply) if !is_idle(reply, &key, now) => Ok(()),
        _ => maps::put_flow(&key, &entry).map_err(|_| Verdict::FlowTableFull),
    }
}

/// Notes in both entries, this one, which is `tuple`'s, and that of the key `other`, that a side ends the connection, if the
/// TCP flags of its `segment` say so: `fin` is that side's flag.
#[inline(always)]
pub fn note_end<A: Tables>(
    segment: u8,
    flow: &mut Flow<A>,
    tuple: &FlowKey<A>,
    other: &FlowKey<A>,
    fin: u16,
) {
    if segment & (Tcp::FIN | Tcp::RST) != 0 {
        note_end_in(segment, flow, tuple, other, fin);
    }
}

#[inline(never)]
fn note_end_in<A: Tables>(
    segment: u8,
    flow: &mut Flow<A>,
    tuple: &FlowKey<A>,
    other: &FlowKey<A>,
    fin: u16,
) {
    let flags = end_flags::<A>(segment, fin);
    flow.flags |= flags;
    // One that is over may have lost its other entry to another flow, which goes on.
    if let Some(other) = maps::find_flow(other)
        && other.is_twin(tuple)
    {
        other.flags |= flags;
    }
}

/// Notes in both entries that we end the connection by a reset.
#[inline(never)]
pub fn note_reset<A: Tables>(packet: &Transport<A>, flow: &mut Flow<A>) {
    flow.flags |= Flow::<A>::RST;
    if let Some(reply) = find_reply(&flow.reply_key(&packet.tuple)) {
        reply.flags |= Flow::<A>::RST;
    }
}

/// The flow flags that a segment's FIN (from the side `fin` stands for) and RST set.
#[inline(always)]
fn end_flags<A>(segment: u8, fin: u16) -> u16 {
    let fin = if segment & Tcp::FIN != 0 { fin } else { 0 };
    let rst = if segment & Tcp::RST != 0 {
        Flow::<A>::RST
    } else {
        0
    };
    fin | rst
}
