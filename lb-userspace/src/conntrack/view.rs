//! A flow in the words of those who look at it, whatever its family.

use std::net::SocketAddr;

use lb_common::{
    address::Address,
    flow::{
        Flow, FlowKey,
        state::{State, Timeouts},
    },
};

use super::kin::Kin;

/// A flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowView {
    /// IP protocol number.
    pub protocol: u8,
    /// State.
    pub state: State,
    /// Who called.
    pub client: SocketAddr,
    /// By which address; `None` for a flow of no service, and where it is no longer known.
    pub vip: Option<SocketAddr>,
    /// Who answers.
    pub endpoint: SocketAddr,
    /// The client, as the endpoint sees it, if it is another.
    pub snat: Option<SocketAddr>,
    /// The client's port in the endpoint's eyes, where another connection had its own (rule 99).
    pub moved_port: Option<u16>,
    /// [`lb_common::tables::traffic_index`] of the service port.
    pub traffic: Option<u32>,
    /// Ticks since a packet last passed.
    pub idle: u32,
    /// Ticks until it is over, if none comes.
    pub expires: u32,
    /// What else there is to say.
    pub flags: Vec<&'static str>,
    /// Entries there are of it: some of `forward`, `reply`, `snat`, `undo`.
    pub entries: Vec<&'static str>,
    /// Whether its forward entry is missing: a packet of the client's begins it anew.
    pub is_orphan: bool,
}

impl FlowView {
    /// What `kin` is; `None` if there is nothing of it.
    pub fn of<A: Address>(kin: &Kin<A>, now: u32, timeouts: &Timeouts) -> Option<Self> {
        let at = |address: A, port| SocketAddr::new(address.to_ip(), u16::from_be(port));
        let (client, vip, endpoint, inner_port, traffic) = if let Some((key, flow)) = &kin.forward {
            let (client, endpoint) = (at(key.src, key.sport), at(flow.peer, flow.peer_port));
            let vip = at(key.dst, key.dport);
            (client, Some(vip), endpoint, flow.client_port, flow.traffic)
        } else if let Some((key, flow)) = &kin.reply {
            let (client, endpoint) = (at(key.dst, flow.client_port), at(key.src, key.sport));
            let vip = at(flow.peer, flow.peer_port);
            (client, Some(vip), endpoint, key.dport, flow.traffic)
        } else if let Some((key, flow)) = &kin.snat {
            let (client, endpoint) = (at(key.src, key.sport), at(key.dst, key.dport));
            (client, None, endpoint, key.sport, flow.traffic)
        } else {
            let (key, flow) = kin.undo.as_ref()?;
            let (client, endpoint) = (at(flow.peer, flow.peer_port), at(key.src, key.sport));
            (client, None, endpoint, flow.peer_port, flow.traffic)
        };
        let inner_port = u16::from_be(inner_port);
        let has_service = traffic != Flow::<A>::NO_SERVICE;
        let protocol = kin.entries().next().map(|(key, _)| key.protocol())?;
        let is_moved = inner_port != client.port();
        Some(Self {
            protocol,
            state: kin.state(),
            client,
            vip: vip.filter(|_| has_service),
            endpoint,
            snat: snat(kin).map(|(address, port)| at(address, port)),
            moved_port: is_moved.then_some(inner_port),
            traffic: has_service.then_some(traffic),
            idle: kin.idle(now),
            expires: kin.remaining(now, timeouts),
            flags: flags(kin),
            entries: entries(kin),
            is_orphan: kin.forward.is_none(),
        })
    }
}

/// The address and port that the client has towards the endpoint.
fn snat<A: Address>(kin: &Kin<A>) -> Option<(A, u16)> {
    let by_snat = kin
        .snat
        .as_ref()
        .map(|(_, flow)| (flow.peer, flow.peer_port));
    let by_undo = |(key, _): &(FlowKey<A>, Flow<A>)| (key.dst, key.dport);
    by_snat
        .filter(|(_, port)| *port != 0)
        .or_else(|| kin.undo.as_ref().map(by_undo))
}

fn flags<A: Address>(kin: &Kin<A>) -> Vec<&'static str> {
    let flags = kin.entries().fold(0, |flags, (_, flow)| flags | flow.flags);
    let names = [
        (Flow::<A>::L2, "bridge"),
        (Flow::<A>::XDP, "xdp"),
        (Flow::<A>::FAST, "fast"),
        (Flow::<A>::TAKEN, "taken"),
        (Flow::<A>::RST, "reset"),
    ];
    let set = names.into_iter().filter(|(flag, _)| flags & flag != 0);
    set.map(|(_, name)| name).collect()
}

fn entries<A>(kin: &Kin<A>) -> Vec<&'static str> {
    let all = [
        (kin.forward.is_some(), "forward"),
        (kin.reply.is_some(), "reply"),
        (kin.snat.is_some(), "snat"),
        (kin.undo.is_some(), "undo"),
    ];
    let there = all.into_iter().filter(|(is_there, _)| *is_there);
    there.map(|(_, name)| name).collect()
}
