//! An agent without a kernel: what its user space would have the datapath do with a new flow.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use duolb::{
    control::{
        desired::{DesiredFamily, DesiredFrontend, DesiredPort, List, find_desired},
        index::Index,
    },
    model::{NodeAddress, ObjectKey},
    source::{
        Event,
        manifests::{Content, Manifests, ServiceCidrs},
    },
};
use ipnet::IpNet;
use lb_common::{
    address::{Address, Family, V4, V6},
    tables::{Endpoint, Frontend},
};
use serde_json::Value;

use crate::cases::{Addresses, Client, Outcome};

/// The manifests source and the index of one node's agent.
pub(crate) struct Agent {
    node: String,
    manifests: Manifests,
    index: Index,
}

impl Agent {
    pub(crate) fn new(node: &str) -> Self {
        let mut index = Index::new(node);
        let both = |name: &str| Family::BOTH.map(|family| Plain.node(name, family));
        let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let own = [loopback, both(node), both("other")].concat();
        let own = own.into_iter().map(|ip| NodeAddress { ip });
        index.apply(Event::NodeAddresses(own.collect()));
        Self {
            node: node.to_owned(),
            manifests: Manifests::new(Path::new("dir"), node, ServiceCidrs::default(), Vec::new()),
            index,
        }
    }

    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// The cluster looks like this now; nothing may be wrong with it.
    pub(crate) fn read(&mut self, list: &Value) {
        self.read_text(list.to_string());
    }

    pub(crate) fn read_text(&mut self, text: String) {
        let content = Content::Bytes(text.into_bytes());
        let update = self
            .manifests
            .update(BTreeMap::from([("x.json".to_owned(), content)]));
        let problems: Vec<String> = update.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems, [""; 0], "on {}", self.node);
        for event in update.events {
            self.index.apply(event);
        }
        assert!(self.index.is_complete(), "the listings are complete");
    }

    /// What becomes of a client's new flow to `vip`.
    pub(crate) fn answer(&self, client: Client, vip: IpAddr, port: u16, protocol: u8) -> Outcome {
        let to = (vip, port, protocol);
        match Family::of(&vip) {
            Family::V4 => self.answer_in::<V4>(client, to, |port| port.v4.as_ref()),
            Family::V6 => self.answer_in::<V6>(client, to, |port| port.v6.as_ref()),
        }
    }

    /// The policies under which `service` is counted as lacking local endpoints (rule 87).
    pub(crate) fn lacking(&self, service: &str) -> Vec<&'static str> {
        let desired = find_desired(&self.index, &ObjectKey::new("default", service));
        let lacks = desired.expect("no problem").expect("it exists").lacks_local;
        let policies = [(lacks.internal, "internal"), (lacks.external, "external")];
        let lacking = policies.into_iter().filter(|(lacks, _)| *lacks);
        lacking.map(|(_, policy)| policy).collect()
    }

    fn answer_in<A: Address>(
        &self,
        client: Client,
        (vip, port, protocol): (IpAddr, u16, u8),
        of: impl Fn(&DesiredPort) -> Option<&DesiredFamily<A>>,
    ) -> Outcome {
        let mut is_marked = false;
        // Of two that claim one frontend the newer gets it (rule 90).
        let mut found: Option<(u64, Outcome)> = None;
        for key in self.index.services() {
            let desired = find_desired(&self.index, key).expect("no problem");
            let desired = desired.expect("the index has just named it");
            for family in desired.ports.iter().filter_map(&of) {
                for frontend in &family.frontends {
                    let key = frontend.key;
                    let number = (u16::from_be(key.port), key.proto);
                    let is_hidden =
                        frontend.flags & Frontend::HOST_ONLY != 0 && client != Client::Host;
                    if key.addr.to_ip() != vip || is_hidden {
                        continue;
                    }
                    is_marked |= number == (0, 0) && frontend.list == List::None;
                    let is_newer = found
                        .as_ref()
                        .is_none_or(|(since, _)| *since < desired.since);
                    if number == (port, protocol) && is_newer {
                        found = Some((desired.since, outcome(client, family, frontend)));
                    }
                }
            }
        }
        let in_range = || {
            self.index
                .service_cidrs()
                .iter()
                .any(|net| net.contains(&vip))
        };
        match found {
            Some((_, outcome)) => outcome,
            None if is_marked => Outcome::Refused,
            None if in_range() => Outcome::Dropped,
            None => Outcome::Passed,
        }
    }
}

fn outcome<A: Address>(
    client: Client,
    family: &DesiredFamily<A>,
    frontend: &DesiredFrontend<A>,
) -> Outcome {
    if !is_admitted(client, family, frontend) {
        return Outcome::Dropped; // rule 48
    }
    let is_inside = client != Client::Outside;
    let wanted = match frontend.list {
        List::Split if is_inside => Endpoint::<A>::CLUSTER,
        List::Cluster => Endpoint::<A>::CLUSTER,
        List::Local | List::Split => Endpoint::<A>::LOCAL,
        List::None => 0,
    };
    let drops = frontend.drop && !(frontend.list == List::Split && is_inside);
    let usable = family
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.state & wanted != 0);
    let sockets = usable.map(|e| SocketAddr::new(e.addr.to_ip(), u16::from_be(e.port)));
    let sockets: Vec<_> = sockets.collect();
    match (sockets.is_empty(), drops) {
        (false, false) => Outcome::Answered(sockets, frontend.affinity),
        (false, true) => panic!("{frontend:?} drops what it has endpoints for"),
        (true, true) => Outcome::Dropped,
        (true, false) => Outcome::Refused,
    }
}

/// Rule 47.
fn is_admitted<A: Address>(
    client: Client,
    family: &DesiredFamily<A>,
    frontend: &DesiredFrontend<A>,
) -> bool {
    if frontend.flags & Frontend::SOURCE_RANGES == 0 {
        return true;
    }
    if client == Client::Host {
        return frontend.flags & Frontend::NODE_DENIED == 0;
    }
    let clients: IpNet = Plain.clients(client, A::FAMILY).parse().expect("a network");
    let mut sources = family.sources.iter();
    sources.any(|net| {
        let net = IpNet::new(net.addr.to_ip(), net.prefix).expect("a network");
        net.contains(&clients)
    })
}

/// Addresses that follow from names: of Services all letters count, of endpoints the first one.
pub(crate) struct Plain;

impl Addresses for Plain {
    fn vip(&self, service: &str, family: Family) -> IpAddr {
        let sum = service.bytes().fold(0u8, u8::wrapping_add);
        match family {
            Family::V4 => [10, 96, 0, sum].into(),
            Family::V6 => [0xfd00, 0x10, 0x96, 0, 0, 0, 0, sum.into()].into(),
        }
    }

    fn endpoint(&self, name: &str, family: Family) -> IpAddr {
        let first = name.bytes().next().expect("a name");
        match family {
            Family::V4 => [10, 244, 0, first].into(),
            Family::V6 => [0xfd00, 0x10, 0x244, 0, 0, 0, 0, first.into()].into(),
        }
    }

    fn range(&self, family: Family) -> String {
        match family {
            Family::V4 => "10.96.0.0/24",
            Family::V6 => "fd00:10:96::/112",
        }
        .to_owned()
    }

    fn external(&self, name: &str, family: Family) -> IpAddr {
        let sum = name.bytes().fold(0u8, u8::wrapping_add);
        match family {
            Family::V4 => [203, 0, 113, sum].into(),
            Family::V6 => [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, sum.into()].into(),
        }
    }

    fn node(&self, name: &str, family: Family) -> IpAddr {
        let last = name.bytes().last().expect("a name");
        match family {
            Family::V4 => [172, 18, 0, last].into(),
            Family::V6 => [0xfd00, 0x172, 0x18, 0, 0, 0, 0, last.into()].into(),
        }
    }

    fn clients(&self, client: Client, family: Family) -> String {
        match (client, family) {
            (Client::Pod, Family::V4) => "10.244.0.0/16",
            (Client::Pod, Family::V6) => "fd00:10:244::/48",
            (Client::Host, Family::V4) => "172.18.0.0/24",
            (Client::Host, Family::V6) => "fd00:172:18::/64",
            (Client::Outside, Family::V4) => "192.0.2.0/24",
            (Client::Outside, Family::V6) => "2001:db8::/64",
        }
        .to_owned()
    }
}
