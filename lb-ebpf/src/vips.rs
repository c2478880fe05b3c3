//! Addresses that are VIPs although nothing is served at the port asked for.
//!
//! nftables' kube-proxy refuses the unknown ports of a ClusterIP (rule 49) and drops what goes to no
//! Service's address in a ServiceCIDR (rule 50). Whether an address is a ClusterIP takes a lookup; so that
//! the traffic that is none of ours does not pay it, the few ranges that VIPs are in are searched first,
//! which costs next to nothing.

use lb_common::{
    opaque::opaque,
    parse::{Packet, Transport, parse},
    tables::{Frontend, FrontendKey, VIP_RANGES, VipRange},
    verdict::Verdict,
};

use crate::{
    config,
    exit::{Exit, Step, end},
    ingress,
    maps::{self, Tables},
    moved,
    skb::Skb,
};

/// Ranges that are searched without a call.
const NEAR: u32 = 3;

/// First port that the API server assigns to node ports, unless told otherwise, and how many there are.
const NODE_PORTS: (u32, u32) = (30_000, 2_768);

/// Whether a TCP or SCTP packet may be of a connection through a node port whose Service is gone: node addresses are in no
/// range, for what comes to them is most often none of ours.
#[inline(always)]
pub fn may_be_node_port<A: Tables>(packet: &Transport<A>) -> bool {
    let (first, count) = NODE_PORTS;
    u32::from(u16::from_be(packet.tuple.dport)).wrapping_sub(first) < count && !packet.is_open()
}

/// Whether `address` may be a VIP.
#[inline(always)]
pub fn may_be<A: Tables>(address: &A) -> bool {
    // The first few here and now: most often one or two ranges are all there are, far away.
    for index in 0..NEAR {
        let Some(range) = maps::find_range::<A>(index) else {
            return false;
        };
        if range.contains(address) {
            return true;
        }
    }
    flags(address) != 0
}

/// A packet without a frontend, to what may be a VIP.
#[inline(never)]
pub fn run<A: Tables>(skb: &mut Skb, l3: u16) -> Exit {
    match parse::<A>(&skb.cursor(), l3) {
        Some(Packet::Transport(packet)) => end(to_endpoint(skb, &packet)),
        _ => Exit::NotOurs,
    }
}

#[inline(always)]
fn to_endpoint<A: Tables>(skb: &mut Skb, packet: &Transport<A>) -> Step<Verdict> {
    let now = config::now();
    let flow = match maps::find_flow(&packet.tuple) {
        // A connection outlives its Service and the Service's port (rules 53, 77, 78). UDP does not (rule 75).
        Some(flow)
            if !packet.is_udp()
                && ingress::is_of_service(flow)
                && !ingress::is_reopened(packet, flow, now) =>
        {
            ingress::go_on(packet, flow, now)?;
            flow
        }
        _ => {
            refuse(packet)?;
            if !packet.is_tcp() {
                return Err(Exit::NotOurs);
            }
            moved::ensure_flow(packet)?;
            let flow = ingress::find_flow(packet)?;
            ingress::follow(packet, flow);
            flow
        }
    };
    ingress::forward(skb, packet, flow)
}

/// Refuses a packet that belongs to no flow, unless the address is nobody's business.
#[inline(always)]
fn refuse<A: Tables>(packet: &Transport<A>) -> Result<(), Verdict> {
    refuse_address(&packet.tuple.dst)
}

/// Refuses a flow to `address`, at whose port nothing is served, unless it is nobody's business.
#[inline(always)]
pub fn refuse_address<A: Tables>(address: &A) -> Result<(), Verdict> {
    if is_cluster_ip(address) {
        return Err(Verdict::UnknownPort);
    }
    if flags(address) & VipRange::<A>::SERVICE_CIDR != 0 {
        return Err(Verdict::Unallocated);
    }
    Ok(())
}

/// Whether `address` is the ClusterIP of a Service.
#[inline(always)]
pub fn is_cluster_ip<A: Tables>(address: &A) -> bool {
    let mark = FrontendKey::mark(*address);
    maps::find_frontend(&mark).is_some_and(|mark| mark.flags & Frontend::VIP != 0)
}

/// The flags of all ranges that `address` is in.
#[inline(never)]
fn flags<A: Tables>(address: &A) -> u32 {
    let mut flags = 0;
    // Left a loop: rare.
    for index in 0..opaque(VIP_RANGES) {
        let Some(range) = maps::find_range::<A>(index) else {
            break;
        };
        if range.contains(address) {
            flags |= range.flags;
        }
    }
    flags
}
