//! Clients on a bridge: keep both directions of a flow on the same path.
//!
//! The client sends a frame for a VIP to its gateway, the bridge itself. After DNAT the endpoint may
//! turn out to be on the same bridge; routed, the request would pass the node's firewall while the
//! switched answer would not, and a firewall that drops what conntrack finds invalid would cut the flow
//! in half. So the frame is addressed to the endpoint's MAC instead, and both directions are switched,
//! as the pods' direct traffic is. The routing table is asked when a flow
//! begins, and for UDP once a tick.

use lb_common::{flow::Flow, headers::Eth, parse::Transport};

use crate::{
    maps::{self, Tables},
    route::Route,
    skb::Skb,
};

/// Once a tick: has the next lookup be made with this packet, for an endpoint's address may have gone to
/// another pod, with another MAC. Not for TCP, whose connections end with the pod: if the neighbour has
/// been forgotten, the packet is the stack's, and conntrack would find a segment in mid-connection
/// invalid.
#[inline(always)]
pub fn ask_again<A: Tables>(flow: &mut Flow<A>) {
    if flow.flags & (Flow::<A>::L2 | Flow::<A>::FAST) != 0 {
        flow.flags |= Flow::<A>::L2_PENDING;
    }
}

/// Looks for the endpoint's MAC on the bridge that the packet came in by.
#[inline(never)]
pub fn find_neighbour<A: Tables>(skb: &mut Skb, packet: &Transport<A>, flow: &mut Flow<A>) {
    let bridge = maps::find_device(skb.ifindex()).map_or(0, |device| device.bridge);
    if bridge == 0 {
        return;
    }
    let mut route = Route::question(
        bridge,
        &packet.tuple.src,
        &flow.peer,
        packet.tuple.protocol(),
    );
    let answer = route.find(skb.as_ptr(), 0);
    flow.flags &= !(Flow::<A>::L2 | Flow::<A>::L2_PENDING);
    if route.ifindex != bridge {
        return;
    }
    match answer {
        // The neighbour is not known yet: this packet is the stack's, which resolves it; the next asks
        // again.
        Route::NO_NEIGHBOUR => flow.flags |= Flow::<A>::L2_PENDING,
        Route::FOUND
            if skb
                .cursor()
                .get::<Eth>(0)
                .is_some_and(|eth| eth.dst == route.smac) =>
        {
            flow.mac = route.dmac;
            flow.flags |= Flow::<A>::L2;
        }
        _ => {}
    }
}
