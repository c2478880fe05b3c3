//! Packets that enter by a device: from a client to a VIP (DNAT).
//!
//! A packet of a known flow pays one lookup, its flow's (a datagram one more in each tick); a packet that is none of ours pays
//! none (`lb_common::filter`), or a SYN one (see `moved`). The endpoint's entry in an array costs nothing
//! beside that: a flow whose endpoint has left is recognised here, and nobody scans the flow table for it.

use lb_common::{
    flow::{Flow, is_past},
    ip::Side,
    parse::{Packet, Transport, parse},
    tables::{Endpoint, Frontend, FrontendKey, traffic_index},
    verdict::Verdict,
};

use crate::{
    apart::is_apart,
    bridge, config,
    exit::{Exit, Step, end},
    fast,
    maps::{self, Tables},
    moved, pass,
    skb::Skb,
    snat, twin, vips,
};

/// A packet whose IP header stands at `l3`.
#[inline(never)]
pub fn run<A: Tables>(skb: &mut Skb, l3: u16) -> Exit {
    match parse::<A>(&skb.cursor(), l3) {
        Some(Packet::Transport(packet)) => end(to_endpoint(skb, &packet)).settle(skb, true),
        Some(Packet::Icmp) => Exit::Icmp,
        Some(Packet::Piece) => Exit::Piece,
        None => Exit::NotOurs,
    }
}

#[inline(always)]
fn to_endpoint<A: Tables>(skb: &mut Skb, packet: &Transport<A>) -> Step<Verdict> {
    let flow = match find_known(packet, config::now()) {
        Ok(flow) => {
            if flow.flags & Flow::<A>::L2_PENDING != 0 {
                if config::skips_stack() && flow.flags & Flow::<A>::FAST != 0 {
                    fast::refresh(skb, packet, flow);
                } else {
                    bridge::find_neighbour(skb, packet, flow);
                }
            }
            flow
        }
        Err(Exit::NoFrontend) => find_other(skb, packet)?,
        Err(exit) => return Err(exit),
    };
    forward(skb, packet, flow)
}

/// The flow of a packet that is addressed to no frontend.
#[inline(always)]
fn find_other<A: Tables>(skb: &mut Skb, packet: &Transport<A>) -> Step<&'static mut Flow<A>> {
    if snat::may_be_answer(packet)
        && let Some(flow) = snat::find_undo(packet)
    {
        snat::go_back(packet, flow)?;
        return Ok(flow);
    }
    if config::skips_stack() {
        fast::to_client(skb, packet)?;
    }
    if vips::may_be(&packet.tuple.dst) {
        return Err(Exit::Vip);
    }
    if packet.is_udp() {
        return Err(Exit::NotOurs);
    }
    if vips::may_be_node_port(packet) {
        return Err(Exit::Vip);
    }
    if !packet.is_tcp() || !moved::may_concern(packet) {
        return Err(Exit::NotOurs);
    }
    moved::ensure_flow(packet)?;
    let flow = find_flow(packet)?;
    follow(packet, flow);
    Ok(flow)
}

/// Sends a packet of `flow` on its way.
#[inline(always)]
pub fn forward<A: Tables>(skb: &mut Skb, packet: &Transport<A>, flow: &Flow<A>) -> Step<Verdict> {
    if flow.flags & Flow::<A>::L2 != 0 && packet.l3 != 0 {
        skb.set_mac(flow.mac);
    }
    if is_apart(packet) {
        return Err(Exit::Apart);
    }
    let verdict = pass::run(skb, packet, flow, Side::Dst)?;
    leave(skb, packet.l3, flow, verdict)
}

/// Has a packet of `flow` that is translated skip the stack, if it can.
#[inline(always)]
pub fn leave<A: Tables>(skb: &mut Skb, l3: u16, flow: &Flow<A>, verdict: Verdict) -> Step<Verdict> {
    // What is too long is the stack's, which tells the client.
    if config::skips_stack()
        && flow.flags & Flow::<A>::FAST != 0
        && l3 != 0
        && skb.fits(flow.exit().0)
    {
        skb.redirect(flow.exit());
        return Err(Exit::SentToEndpoint);
    }
    Ok(verdict)
}

/// The flow of a packet that is addressed to a frontend, if it does not begin one.
#[inline(always)]
pub fn find_known<A: Tables>(packet: &Transport<A>, now: u32) -> Step<&'static mut Flow<A>> {
    let tuple = &packet.tuple;
    let key = FrontendKey::new(tuple.dst, tuple.dport, tuple.protocol());
    if !maps::may_be_frontend(&key) {
        return Err(Exit::NoFrontend);
    }
    let Some(flow) = maps::find_flow(tuple) else {
        find_frontend(&key)?;
        return Err(Exit::Open);
    };
    if !is_settled(packet, flow, now) && is_over(packet, flow, find_frontend(&key)?, now) {
        return Err(if flow.flags & Flow::<A>::TAKEN == 0 {
            Exit::Open
        } else {
            Exit::OpenElsewhere
        });
    }
    go_on(packet, flow, now)?;
    Ok(flow)
}

/// Whether a packet of a flow need not look for its frontend: a connection outlives it (rules 53, 77, 78), and what it was for
/// a datagram in this tick it is for the next.
#[inline(always)]
fn is_settled<A: Tables>(packet: &Transport<A>, flow: &Flow<A>, now: u32) -> bool {
    if !is_of_service(flow) {
        return false;
    }
    if packet.is_udp() {
        flow.seen == now
            && maps::has_state::<A>(flow.endpoint, Endpoint::<A>::SERVING)
            && !maps::has_frontend_changed(now)
    } else {
        !packet.is_open()
    }
}

/// The frontend of that key, unless it is the node's own processes' alone.
#[inline(always)]
fn find_frontend<A: Tables>(key: &FrontendKey<A>) -> Step<&'static Frontend> {
    match maps::find_frontend(key) {
        Some(frontend) if frontend.flags & Frontend::HOST_ONLY == 0 => Ok(frontend),
        _ => Err(Exit::NoFrontend),
    }
}

/// A further packet of a flow, unless that has to begin anew.
#[inline(always)]
pub fn go_on<A: Tables>(packet: &Transport<A>, flow: &mut Flow<A>, now: u32) -> Step<()> {
    if !packet.is_udp() {
        follow(packet, flow);
    }
    if config::resets_dead() && packet.is_tcp() && is_dead(flow) {
        twin::note_reset(packet, flow);
        return Err(Verdict::EndpointGone.into());
    }
    if flow.seen != now {
        flow.seen = now;
        // The reply tuple of a flow that ended may be another's, or a direct connection's, by now.
        if !flow.is_closed() {
            twin::ensure_reply(packet, flow, now)?;
            if flow.flags & Flow::<A>::MASQUERADED != 0 {
                snat::ensure(packet, flow)?;
            }
        }
        if packet.is_udp() || config::skips_stack() {
            bridge::ask_again(flow);
        }
    }
    Ok(())
}

/// The forward entry that was made just now.
#[inline(always)]
pub fn find_flow<A: Tables>(packet: &Transport<A>) -> Result<&'static mut Flow<A>, Verdict> {
    maps::find_flow(&packet.tuple).ok_or(Verdict::FlowTableFull)
}

/// Whether the packet does not belong to the flow that its tuple has: it begins a new one, or none.
#[inline(always)]
fn is_over<A: Tables>(
    packet: &Transport<A>,
    flow: &Flow<A>,
    frontend: &Frontend,
    now: u32,
) -> bool {
    if flow.flags & Flow::<A>::NOT_FORWARD != 0 {
        return true;
    }
    if packet.is_udp() {
        // A flow has to end when its endpoint does not answer any more or is another's (rules 73 to 75),
        // and with its service or port.
        !is_served(flow, frontend) || flow.seen != now && twin::is_silent(packet, flow, now)
    } else {
        // A connection outlives its endpoint's place in the slices (rules 53, 77, 78).
        is_reopened(packet, flow, now)
    }
}

/// Whether a packet of a connection begins another one.
///
/// A SYN after anything else came from the client is a new connection from a reused port (rule 80); a SYN
/// after nothing but SYNs is a retransmission and keeps its endpoint (rule 79), unless it is too long after
/// (else a port would stay bound to an endpoint that never answered) or the endpoint turned out to use the
/// tuple for another connection.
#[inline(always)]
pub fn is_reopened<A: Tables>(packet: &Transport<A>, flow: &Flow<A>, now: u32) -> bool {
    packet.is_open()
        && (flow.flags & (Flow::<A>::OPENED | Flow::<A>::TAKEN) != 0
            || flow.is_closed()
            || is_past(flow.seen, now, config::SYN_TIMEOUT))
}

/// Whether the endpoint of a flow is one of the frontend's service still, and answers.
#[inline(always)]
fn is_served<A: Tables>(flow: &Flow<A>, frontend: &Frontend) -> bool {
    flow.traffic == traffic_index(frontend.service, A::FAMILY)
        && maps::has_state::<A>(flow.endpoint, Endpoint::<A>::SERVING)
}

/// Whether this is the forward entry of a flow through a VIP.
#[inline(always)]
pub fn is_of_service<A: Tables>(flow: &Flow<A>) -> bool {
    flow.traffic != Flow::<A>::NO_SERVICE && flow.flags & Flow::<A>::NOT_FORWARD == 0
}

/// Whether the endpoint of a flow has left every slice.
#[inline(always)]
fn is_dead<A: Tables>(flow: &Flow<A>) -> bool {
    is_of_service(flow) && !maps::has_state::<A>(flow.endpoint, Endpoint::<A>::KNOWN)
}

/// Notes what a segment from the client says about the connection.
#[inline(always)]
pub fn follow<A: Tables>(packet: &Transport<A>, flow: &mut Flow<A>) {
    twin::note(
        packet.flags,
        flow,
        &packet.tuple,
        |flow| flow.reply_key(&packet.tuple),
        Flow::<A>::FIN_CLIENT,
    );
}
