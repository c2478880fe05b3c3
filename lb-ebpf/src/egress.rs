//! Packets that leave by a device: from an endpoint back to the client (rev-NAT), or from a client that gets
//! another address to an endpoint (SNAT).

use lb_common::{
    flow::Flow,
    headers::Tcp,
    ip::Side,
    parse::{Packet, Transport, parse},
    verdict::Verdict,
};

use crate::{
    apart::is_apart,
    config,
    exit::{Exit, Step, end},
    maps::{self, Tables},
    moved, pass,
    skb::Skb,
    snat, twin,
};

/// A packet whose IP header stands at `l3`.
#[inline(never)]
pub fn run<A: Tables>(skb: &mut Skb, l3: u16) -> Exit {
    match parse::<A>(&skb.cursor(), l3) {
        Some(Packet::Transport(packet)) => end(to_client(skb, &packet)).settle(skb, false),
        Some(Packet::Icmp) => Exit::Icmp,
        Some(Packet::Piece) => Exit::Piece,
        None => Exit::NotOurs,
    }
}

#[inline(always)]
fn to_client<A: Tables>(skb: &mut Skb, packet: &Transport<A>) -> Step<Verdict> {
    let flow = maps::find_flow(&packet.tuple).ok_or(Exit::NotOurs)?;
    if flow.flags & (Flow::<A>::REPLY | Flow::<A>::SNAT) == 0 {
        return Err(Exit::NotOurs);
    }
    if flow.flags & Flow::<A>::SNAT != 0 {
        snat::go_out(&packet.tuple, packet.flags, flow)?;
    } else {
        follow(packet, flow)?;
    }
    if is_apart(packet) {
        return Err(Exit::Apart);
    }
    let verdict = pass::run(skb, packet, flow, Side::Src)?;
    if matches!(verdict, Verdict::PortMoved) {
        moved::passed(config::now());
    }
    Ok(verdict)
}

/// Notes what a packet from an endpoint says about its connection; none of ours if it is another's.
#[inline(always)]
pub fn follow<A: Tables>(packet: &Transport<A>, flow: &mut Flow<A>) -> Step<()> {
    if flow.flags & Flow::<A>::AWAITS_SYN_ACK != 0 {
        if packet.flags & (Tcp::SYN | Tcp::RST) == 0 && moved::give_back(packet, flow) {
            return Err(Exit::NotOurs);
        }
        flow.flags &= !Flow::<A>::AWAITS_SYN_ACK;
    }
    let now = config::now();
    if flow.seen != now {
        flow.seen = now;
    }
    twin::note(
        packet.flags,
        flow,
        &packet.tuple,
        |flow| flow.forward_key(&packet.tuple),
        Flow::<A>::FIN_ENDPOINT,
    );
    Ok(())
}
