//! The two entries of a flow, seen from one of them: find the other, keep it, tell it how the flow ends.

use lb_common::{
    flow::{Flow, FlowKey, is_past},
    headers::Tcp,
    parse::Transport,
    verdict::Verdict,
};

use crate::{
    config,
    exit::{Exit, Step},
    maps::{self, Refused, Tables},
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

/// Whether nobody has spoken for too long on a flow that its client has been silent on since an earlier tick.
/// Answers keep it alive as well: a stream from the endpoint needs no packets from the client.
#[inline(never)]
pub fn is_silent<A: Tables>(packet: &Transport<A>, flow: &Flow<A>, now: u32) -> bool {
    if !is_past(
        flow.seen,
        now,
        config::timeout(packet.tuple.proto, flow.flags),
    ) {
        return false;
    }
    let Some(reply) = maps::find_flow(&flow.reply_key(&packet.tuple)) else {
        return true;
    };
    !reply.is_same_reply(&flow.reply_entry(&packet.tuple))
        || is_past(
            reply.seen,
            now,
            config::timeout(packet.tuple.proto, reply.flags),
        )
}

/// Whether a flow no longer needs its tuple.
#[inline(always)]
pub fn is_idle<A: Tables>(flow: &Flow<A>, key: &FlowKey<A>, now: u32) -> bool {
    flow.is_closed() || is_past(flow.seen, now, config::timeout(key.proto, flow.flags))
}

/// Once a tick: makes sure that the reply entry still exists, which a flow with few answers might have
/// lost to the LRU. A flow that was silent for too long and lost it to another one begins anew.
#[inline(never)]
pub fn ensure_reply<A: Tables>(packet: &Transport<A>, flow: &mut Flow<A>, now: u32) -> Step<()> {
    let key = flow.reply_key(&packet.tuple);
    let entry = flow.reply_entry(&packet.tuple);
    match maps::find_flow(&key) {
        Some(reply) if reply.is_same_reply(&entry) => {
            if reply.seen != now {
                reply.seen = now;
            }
            Ok(())
        }
        // By it, its packets would be taken for the other's. Should it find no endpoint, its next packet asks again.
        Some(reply) if !is_idle(reply, &key, now) => {
            flow.seen = now.wrapping_sub(1);
            Err(Exit::Open)
        }
        Some(_) => maps::put_flow(&key, &entry).map_err(|_| Verdict::FlowTableFull.into()),
        None => match maps::insert_flow(&key, &entry) {
            Err(Refused::Full) => Err(Verdict::FlowTableFull.into()),
            // Another CPU has just done it.
            _ => Ok(()),
        },
    }
}

/// Notes in both entries, this one, which is `tuple`'s, and that of the key that `other` makes, what a `segment` says about the flow's
/// [state](lb_common::flow::state): that its side, which the flag `fin` stands for, has spoken for the first time, or
/// ends the connection.
#[inline(always)]
pub fn note<A: Tables>(
    segment: u8,
    flow: &mut Flow<A>,
    tuple: &FlowKey<A>,
    other: impl FnOnce(&Flow<A>) -> FlowKey<A>,
    fin: u16,
) {
    let is_news = flow.flags & spoken::<A>(segment, fin) != spoken::<A>(segment, fin);
    if is_news || segment & (Tcp::FIN | Tcp::RST) != 0 {
        // Made here: nearly no packet has anything to say.
        let other = other(flow);
        note_in(segment, flow, tuple, &other, fin);
    }
}

#[inline(never)]
fn note_in<A: Tables>(
    segment: u8,
    flow: &mut Flow<A>,
    tuple: &FlowKey<A>,
    other: &FlowKey<A>,
    fin: u16,
) {
    let flags = end_flags::<A>(segment, fin) | spoken::<A>(segment, fin);
    flow.flags |= flags;
    // One that is over may have lost its other entry to another flow, which goes on.
    if let Some(other) = maps::find_flow(other)
        && other.is_twin(tuple)
    {
        other.flags |= flags;
    }
}

/// The flow flag that says that the side `fin` stands for has spoken; a client that opens has not yet.
#[inline(always)]
fn spoken<A>(segment: u8, fin: u16) -> u16 {
    if fin == Flow::<A>::FIN_ENDPOINT {
        Flow::<A>::ANSWERED
    } else if segment & (Tcp::SYN | Tcp::ACK) == Tcp::SYN {
        0
    } else {
        Flow::<A>::OPENED
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
