//! Where a case's endpoints are: each is a pod of the lab, on the node that the case first puts it on.
//!
//! Pure. What a case needs and the lab has not got is said here, before anything of it is played.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use lb_common::address::Family;
use xtask::lab;

use crate::cases::{Addresses, Case, Client, Step, Target};

/// Endpoint pods on each node.
pub(super) const PODS: [u8; 3] = [4, 4, 2];
/// The number of the first of them.
pub(super) const FIRST: u8 = 10;

/// The endpoints of one case.
#[derive(Debug)]
pub(super) struct Places(BTreeMap<String, lab::Addresses>);

impl Places {
    /// A pod for every endpoint, or why there is none.
    pub(super) fn find(case: &Case) -> Result<Self, String> {
        if let Some(node) = case.nodes.iter().find(|node| number_of(node).is_none()) {
            return Err(format!("the lab has no node {node}"));
        }
        let asks = case.steps.iter().filter_map(|step| match step {
            Step::Ask(ask) => Some(ask),
            _ => None,
        });
        for ask in asks {
            let is_pod = |(_, client): &(String, Client)| *client == Client::Pod;
            if !matches!(ask.target, Target::Vip(_)) || !ask.clients.iter().all(is_pod) {
                return Err("only pods that call cluster IPs are asked here".to_owned());
            }
        }
        let mut nodes: BTreeMap<String, Option<u8>> = BTreeMap::new();
        for step in &case.steps {
            let Step::Apply(object) = step else { continue };
            for (at, name) in object.endpoints.iter().enumerate() {
                let stated = object.body["endpoints"][at]["nodeName"].as_str();
                // A node without agent is any node but those asked: the last one.
                let stated = stated.map(|node| number_of(node).unwrap_or(3));
                let node = nodes.entry(name.clone()).or_default();
                *node = node.or(stated);
            }
        }
        let mut places = Self(BTreeMap::new());
        let (on_nodes, anywhere): (Vec<_>, Vec<_>) =
            nodes.into_iter().partition(|(_, node)| node.is_some());
        let mut taken = [0; PODS.len()];
        for (turn, (name, node)) in (0..).zip(on_nodes.into_iter().chain(anywhere)) {
            let first = node.map_or(turn, |node| usize::from(node) - 1);
            let mut order = (first..).take(PODS.len()).map(|at| at % PODS.len());
            let Some(at) = order.find(|&at| taken[at] < PODS[at]) else {
                return Err(format!("there is no pod left for endpoint {name}"));
            };
            let pod = (
                u8::try_from(at).expect("three nodes") + 1,
                FIRST + taken[at],
            );
            places.0.insert(name, lab::Addresses::of_pod(pod.0, pod.1));
            taken[at] += 1;
        }
        Ok(places)
    }
}

/// The number of node `n1` to `n3`.
fn number_of(node: &str) -> Option<u8> {
    let number: u8 = node.strip_prefix('n')?.parse().ok()?;
    (1..=3).contains(&number).then_some(number)
}

impl Addresses for Places {
    /// Follows from the name: all its letters count.
    fn vip(&self, service: &str, family: Family) -> IpAddr {
        vip(service.bytes().fold(0, u8::wrapping_add), family)
    }

    fn endpoint(&self, name: &str, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.0[name].v4.into(),
            Family::V6 => self.0[name].v6.into(),
        }
    }

    fn range(&self, family: Family) -> String {
        range(family).to_owned()
    }

    /// Behind the nodes' default route, and no VIP. Follows from the name.
    fn external(&self, name: &str, family: Family) -> IpAddr {
        let number = name.bytes().fold(0u8, u8::wrapping_add);
        match family {
            Family::V4 => Ipv4Addr::new(203, 0, 113, number).into(),
            Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, number.into()).into(),
        }
    }

    fn node(&self, name: &str, family: Family) -> IpAddr {
        // A node that the lab has not got is asked nothing.
        let node = lab::Addresses::of_node(number_of(name).unwrap_or(250));
        match family {
            Family::V4 => node.v4.into(),
            Family::V6 => node.v6.into(),
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

/// The VIP with that number.
pub(super) fn vip(number: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 96, 0, number).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, number.into()).into(),
    }
}

/// Where all VIPs are.
pub(super) fn range(family: Family) -> &'static str {
    match family {
        Family::V4 => "10.96.0.0/24",
        Family::V6 => "fd00:10:96::/112",
    }
}
