//! Packets without a service whose tuple collides with a flow through a VIP.
//!
//! A client that used port p to a VIP and then uses p directly to the same endpoint would get its
//! answers translated, as if they were the VIP's. A SYN that is no service's therefore looks for a reply
//! entry in its way: one that is over is removed, one that is alive makes this connection take another
//! source port. Only while such connections exist do other packets look for them. Where the direct
//! connection was there first, its endpoint tells, and the flow through the VIP moves (`give_back`).

use lb_common::{
    flow::{Flow, FlowKey, is_past, no_mac},
    parse::Transport,
    verdict::Verdict,
};

use crate::{
    config,
    exit::{Exit, Step},
    maps::{self, Tables},
    open, twin,
};

/// Whether a segment that is addressed to no frontend is to be looked at: nearly none is, and need not be called for.
#[inline(always)]
pub fn may_concern<A: Tables>(packet: &Transport<A>) -> bool {
    packet.is_open() || maps::last_moved() != 0 || maps::former::has_flows::<A>()
}

/// A segment from a client that is addressed to no frontend: makes sure that there is a flow for it if
/// it has to be moved; else it is none of ours.
#[inline(never)]
pub fn ensure_flow<A: Tables>(packet: &Transport<A>) -> Step<()> {
    let mut last = maps::last_moved();
    if maps::former::has_flows::<A>() {
        // Programs that count elsewhere may have moved some.
        last = config::now() | 1;
    }
    if last == 0 && !packet.is_open() {
        return Err(Exit::NotOurs);
    }
    let now = config::now();
    if !has_moved(packet, last, now) {
        if !packet.is_open() {
            return Err(Exit::NotOurs);
        }
        move_port(packet, now)?;
    }
    passed(now);
    Ok(())
}

/// An endpoint answers a client's SYN by something else than SYN-ACK or RST: it has a connection with the
/// client by this very tuple, one that was there before and that nobody told us of. The tuple is left to
/// that one, and the client's next SYN to the VIP takes another port. False if it is not so: the client
/// has gone on, so the SYN-ACK has reached it some other way.
#[inline(never)]
pub fn give_back<A: Tables>(packet: &Transport<A>, reply: &Flow<A>) -> bool {
    let Some(forward) = maps::find_flow(&reply.forward_key(&packet.tuple)) else {
        return false;
    };
    if forward.flags & Flow::<A>::OPENED != 0 {
        return false;
    }
    forward.flags |= Flow::<A>::TAKEN;
    maps::remove_flow(&packet.tuple);
    true
}

/// Notes that moved connections are alive.
#[inline(always)]
pub fn passed(now: u32) {
    if maps::last_moved() != now | 1 {
        maps::set_last_moved(now);
    }
}

/// Whether the packet belongs to a connection that was moved before.
#[inline(always)]
fn has_moved<A: Tables>(packet: &Transport<A>, last: u32, now: u32) -> bool {
    if last == 0 || is_past(last, now, config::longest_timeout(packet.tuple.proto)) {
        return false;
    }
    let Some(flow) = maps::find_flow(&packet.tuple) else {
        return false;
    };
    if flow.traffic != Flow::<A>::NO_SERVICE || flow.flags & Flow::<A>::NOT_FORWARD != 0 {
        return false;
    }
    // A new connection looks for itself what is in its way; if nothing is, it keeps its port.
    let is_over = packet.is_open() && flow.is_closed()
        || flow.seen != now && twin::is_silent(packet, flow, now);
    if is_over {
        maps::remove_flow(&packet.tuple);
        return false;
    }
    if flow.seen != now {
        flow.seen = now;
    }
    true
}

/// Whether there is a live flow by that reply tuple; one that is over is removed. The tuple is gone with the
/// return, so that what follows may use its place on the stack.
#[inline(always)]
fn is_in_the_way<A: Tables>(reply_key: &FlowKey<A>, now: u32) -> bool {
    let Some(flow) = twin::find_reply(reply_key) else {
        return false;
    };
    if twin::is_idle(flow, reply_key, now) {
        maps::remove_flow(reply_key);
        return false;
    }
    true
}

/// Opens a flow for a connection that has a live one in its way.
#[inline(always)]
fn move_port<A: Tables>(packet: &Transport<A>, now: u32) -> Step<()> {
    let is_free = {
        let reply_key = packet.tuple.reversed();
        !is_in_the_way(&reply_key, now)
    };
    if is_free {
        return Err(Exit::NotOurs);
    }
    let mut flow = Flow {
        peer: packet.tuple.dst,
        peer_port: packet.tuple.dport,
        client_port: packet.tuple.sport,
        traffic: Flow::<A>::NO_SERVICE,
        endpoint: 0,
        seen: now,
        mac: no_mac(),
        flags: 0,
        #[cfg(feature = "next-schema")]
        grown: [0; 2],
    };
    open::claim_reply(
        &packet.tuple,
        &mut flow,
        packet.tuple.hash(config::hash_seed()),
        true,
    )
    .count::<A>()?;
    maps::put_flow(&packet.tuple, &flow).map_err(|_| Verdict::FlowTableFull)?;
    Ok(())
}
