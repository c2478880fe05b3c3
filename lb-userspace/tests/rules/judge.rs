//! An agent without a kernel: what its user space would have the datapath do with a new flow.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use duolb::{
    control::{
        desired::{DesiredFamily, DesiredFrontend, DesiredPort, List, find_desired},
        index::Index,
    },
    model::ObjectKey,
    source::manifests::{Content, Manifests, ServiceCidrs},
};
use lb_common::{
    address::{Address, Family, V4, V6},
    tables::Endpoint,
};
use serde_json::Value;

use crate::cases::{Addresses, Outcome};

/// The manifests source and the index of one node's agent.
pub(crate) struct Agent {
    node: String,
    manifests: Manifests,
    index: Index,
}

impl Agent {
    pub(crate) fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            manifests: Manifests::new(Path::new("dir"), node, ServiceCidrs::default(), Vec::new()),
            index: Index::new(node),
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

    /// What becomes of a new flow to `vip`.
    pub(crate) fn answer(&self, vip: IpAddr, port: u16, protocol: u8) -> Outcome {
        match Family::of(&vip) {
            Family::V4 => self.answer_in::<V4>(vip, port, protocol, |port| port.v4.as_ref()),
            Family::V6 => self.answer_in::<V6>(vip, port, protocol, |port| port.v6.as_ref()),
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
        vip: IpAddr,
        port: u16,
        protocol: u8,
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
                    if key.addr.to_ip() != vip {
                        continue;
                    }
                    is_marked |= number == (0, 0) && frontend.list == List::None;
                    let is_newer = found
                        .as_ref()
                        .is_none_or(|(since, _)| *since < desired.since);
                    if number == (port, protocol) && is_newer {
                        found = Some((desired.since, outcome(family, frontend)));
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

fn outcome<A: Address>(family: &DesiredFamily<A>, frontend: &DesiredFrontend<A>) -> Outcome {
    let wanted = match frontend.list {
        List::Cluster => Endpoint::<A>::CLUSTER,
        List::Local => Endpoint::<A>::LOCAL,
        List::None => 0,
    };
    let usable = family
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.state & wanted != 0);
    let sockets = usable.map(|e| SocketAddr::new(e.addr.to_ip(), u16::from_be(e.port)));
    let sockets: Vec<_> = sockets.collect();
    match (sockets.is_empty(), frontend.drop) {
        (false, false) => Outcome::Answered(sockets, frontend.affinity),
        (false, true) => panic!("{frontend:?} drops what it has endpoints for"),
        (true, true) => Outcome::Dropped,
        (true, false) => Outcome::Refused,
    }
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
}
