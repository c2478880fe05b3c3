//! Packets that skip the host's stack (`--host-routing=bpf`): routed here, and sent to another device at once.
//!
//! Netfilter does not see them, so the kernel's conntrack must see neither direction: whether a flow takes this way is
//! decided when it begins, for both (finding 8 of the design). It needs a route from client to endpoint and one
//! back. Who needs SNAT, is switched on a bridge, or speaks SCTP goes by the stack. As everywhere, what is not
//! certain is the stack's: a reply is translated here only if its flow is one of these.

use lb_common::{flow::Flow, parse::Transport, tables::Device};

use crate::{
    config, egress,
    exit::{Exit, Step},
    maps::{self, Tables},
    pieces,
    route::Route,
    skb::Skb,
    twin,
};

/// The way of a packet that comes in by device `from`: ifindex of the device that it leaves by, and whether that is a
/// veth to a pod.
#[inline(always)]
fn find_exit<A: Tables>(skb: &Skb, from: u32, src: &A, dst: &A, proto: u8) -> Option<(u32, bool)> {
    let mut route = Route::question(from, src, dst, proto);
    let answer = route.find(skb.as_ptr(), 0);
    // Without a neighbour there is a route all the same: it is resolved when the packet leaves.
    if answer != Route::FOUND && answer != Route::NO_NEIGHBOUR {
        return None;
    }
    let is_peer =
        maps::find_device(route.ifindex).is_some_and(|device| device.role & Device::PEER != 0);
    Some((route.ifindex, is_peer))
}

/// The device by which the stack would see the packet come in, and whether it is a bridge.
#[inline(always)]
fn find_entry(skb: &Skb) -> (u32, bool) {
    match maps::find_device(skb.ifindex()) {
        Some(device) if device.bridge != 0 => (device.bridge, true),
        _ => (skb.ifindex(), false),
    }
}

/// Whether answers that come in by a device lack what it takes to be sent on at once: their link layer.
#[inline(always)]
fn is_bare(device: &Device) -> bool {
    device.role & Device::NO_LINK != 0 || device.attached & Device::XDP_GENERIC != 0
}

/// Decides on a flow that has just been opened.
#[inline(never)]
pub fn decide<A: Tables>(skb: &Skb, packet: &Transport<A>) {
    let tuple = &packet.tuple;
    let Some(flow) = maps::find_flow(tuple) else {
        return;
    };
    if packet.is_sctp() || packet.l3 == 0 || flow.flags & Flow::<A>::MASQUERADED != 0 {
        return;
    }
    let (entry, is_bridge) = find_entry(skb);
    let there = find_exit(skb, entry, &tuple.src, &flow.peer, tuple.protocol());
    let Some((out, is_peer)) = there.filter(|(out, _)| !is_bridge || *out != entry) else {
        return;
    };
    if maps::find_device(out).is_some_and(is_bare) {
        return;
    }
    let Some((back, is_peer_back)) = find_exit(skb, out, &flow.peer, &tuple.src, tuple.protocol())
    else {
        return;
    };
    let Some(reply) = twin::find_reply(&flow.reply_key(tuple)) else {
        return;
    };
    flow.set_exit(out, is_peer);
    reply.set_exit(back, is_peer_back);
    flow.flags = flow.flags & !Flow::<A>::L2_PENDING | Flow::<A>::FAST;
    reply.flags |= Flow::<A>::FAST;
}

/// Once a tick: whether the route is still the same.
#[inline(never)]
pub fn refresh<A: Tables>(skb: &Skb, packet: &Transport<A>, flow: &mut Flow<A>) {
    flow.flags &= !Flow::<A>::L2_PENDING;
    let (entry, _) = find_entry(skb);
    let src = &packet.tuple.src;
    if let Some((out, is_peer)) = find_exit(skb, entry, src, &flow.peer, packet.tuple.protocol()) {
        flow.set_exit(out, is_peer);
    }
}

/// A packet that may be an endpoint's answer: if its flow is one of these, it is sent to its client.
#[inline(always)]
pub fn to_client<A: Tables>(skb: &mut Skb, packet: &Transport<A>) -> Step<()> {
    let Some(flow) = maps::find_flow(&packet.tuple) else {
        return Ok(());
    };
    let kind = Flow::<A>::REPLY | Flow::<A>::FAST;
    if flow.flags & kind != kind || packet.l3 == 0 {
        return Ok(());
    }
    // 0: the entry was lost and made again by a packet of the client's.
    let is_late = flow.seen != config::now() || flow.exit().0 == 0;
    egress::follow(packet, flow)?;
    if is_late {
        refresh_reply(skb, packet, flow);
    }
    // What is too long is the stack's, which tells the endpoint; so it must not be translated yet.
    if !skb.fits(flow.exit().0) {
        return Ok(());
    }
    if packet.is_fragment() {
        pieces::note(skb, packet, false)?;
    }
    egress::pass(skb, packet, flow)?;
    skb.redirect(flow.exit());
    Err(Exit::SentToClient)
}

/// Once a tick: whether the route back is still the same.
#[inline(never)]
fn refresh_reply<A: Tables>(skb: &Skb, packet: &Transport<A>, flow: &mut Flow<A>) {
    let tuple = &packet.tuple;
    let (entry, _) = find_entry(skb);
    let exit = find_exit(skb, entry, &tuple.src, &tuple.dst, tuple.protocol());
    if let Some((back, is_peer)) = exit {
        flow.set_exit(back, is_peer);
    }
}
