//! Where a case's endpoints are: each is a pod of the lab, on the node that the case first puts it on.
//!
//! Pure. What a case needs and the lab has not got is said here, before anything of it is played.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use lb_common::address::Family;
use xtask::lab;

use crate::cases::{Addresses, Case, Client, Step};

/// Endpoint pods on each node.
pub(super) const PODS: [u8; 3] = [4, 4, 2];
/// The number of the first of them.
pub(super) const FIRST: u8 = 10;

/// The endpoints of one case.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<String, Place>);

/// Of one endpoint.
#[derive(Debug)]
struct Place {
    /// As the case states it; without a node, an endpoint is on no node that anybody knows (rule 16).
    node: Option<String>,
    addresses: lab::Addresses,
}

impl Places {
    /// A pod for every endpoint, or why there is none.
    pub(super) fn find(case: &Case) -> Result<Self, String> {
        if let Some(node) = case.nodes.iter().find(|node| number_of(node).is_none()) {
            return Err(format!("the lab has no node {node}"));
        }
        let mut nodes: BTreeMap<String, Option<String>> = BTreeMap::new();
        for step in &case.steps {
            let Step::Apply(object) = step else { continue };
            for (at, name) in object.endpoints.iter().enumerate() {
                let stated = object.body["endpoints"][at]["nodeName"].as_str();
                let node = nodes.entry(name.clone()).or_default();
                *node = node.take().or(stated.map(str::to_owned));
            }
        }
        let mut places = Self(BTreeMap::new());
        let (on_nodes, anywhere): (Vec<_>, Vec<_>) =
            nodes.into_iter().partition(|(_, node)| node.is_some());
        let mut taken = [0; PODS.len()];
        for (turn, (name, node)) in (0..).zip(on_nodes.into_iter().chain(anywhere)) {
            // A node without agent is any node but those asked: the last one.
            let number = node.as_ref().map(|node| number_of(node).unwrap_or(3));
            let first = number.map_or(turn, |number| usize::from(number) - 1);
            let mut order = (first..).take(PODS.len()).map(|at| at % PODS.len());
            let Some(at) = order.find(|&at| taken[at] < PODS[at]) else {
                return Err(format!("there is no pod left for endpoint {name}"));
            };
            let pod = (
                u8::try_from(at).expect("three nodes") + 1,
                FIRST + taken[at],
            );
            let addresses = lab::Addresses::of_pod(pod.0, pod.1);
            places.0.insert(name, Place { node, addresses });
            taken[at] += 1;
        }
        Ok(places)
    }

    /// The node that an endpoint is known to be on.
    pub(super) fn node_of(&self, endpoint: IpAddr) -> Option<&str> {
        let mut places = self.0.values();
        let place = places.find(|place| place.addresses.both().contains(&endpoint))?;
        place.node.as_deref()
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
        like(&self.0[name].addresses, family)
    }

    fn range(&self, family: Family) -> String {
        range(family).to_owned()
    }

    /// Follows from the name as well.
    fn external(&self, name: &str, family: Family) -> IpAddr {
        let number = name.bytes().fold(0u8, u8::wrapping_add);
        match family {
            Family::V4 => Ipv4Addr::new(198, 18, 0, number).into(),
            Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0x18, 0, 0, 0, 0, number.into()).into(),
        }
    }

    fn node(&self, name: &str, family: Family) -> IpAddr {
        match number_of(name) {
            Some(number) => like(&lab::Addresses::of_node(number), family),
            None => other(family),
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

/// The address that each node has besides its own.
pub(super) fn other(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(172, 18, 1, 1).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x172, 0x18, 1, 0, 0, 0, 1).into(),
    }
}

/// Where all addresses outside are: no device has one of them.
pub(super) fn outside(family: Family) -> &'static str {
    match family {
        Family::V4 => "198.18.0.0/24",
        Family::V6 => "2001:db8:18::/64",
    }
}

fn like(addresses: &lab::Addresses, family: Family) -> IpAddr {
    match family {
        Family::V4 => addresses.v4.into(),
        Family::V6 => addresses.v6.into(),
    }
}

/// Where all VIPs are.
pub(super) fn range(family: Family) -> &'static str {
    match family {
        Family::V4 => "10.96.0.0/24",
        Family::V6 => "fd00:10:96::/112",
    }
}
