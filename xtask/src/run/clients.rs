//! Who probes, and what each may expect of a frontend that a node serves. Pure, once read from the lab.
//!
//! ```text
//!   client pods    what their own node serves, but for what is its own processes' alone
//!   the nodes      what they serve themselves: a process there is a client as well
//!   outside        what packets come to a node for that serves it: node ports, load balancers, externalIPs
//! ```
//!
//! Rules 42, 45 and 100: pods and the node itself may have other endpoints than who is outside. Rule 47: source
//! ranges bind all of them. Who is outside keeps its address where the endpoint is on the node its packets come
//! to, and has one of that node elsewhere (rule 44, as we have it).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    frontends::{Backend, Clients, Frontend},
    promise::Promise,
};
use crate::lab::{Addresses, Lab, Netns, Shape};

/// Where a client stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In a pod of this node.
    Pod(String),
    /// On this node itself.
    Node(String),
    /// Outside of the cluster.
    Outside,
}

/// One who probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Client {
    /// What the lab calls it.
    pub(super) name: String,
    /// Where it stands.
    pub(super) place: Place,
    /// Its addresses.
    pub(super) addresses: BTreeSet<IpAddr>,
}

/// All who probe, and what is needed to know what they may expect.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    /// All of them.
    pub(super) clients: Vec<Client>,
    /// Every pod's name and node.
    pub(super) pods: BTreeMap<IpAddr, (String, String)>,
    /// Of what is no address of a node: who is asked where packets from outside come in.
    pub(super) entrances: Vec<(ipnet::IpNet, String)>,
}

impl Client {
    /// Its namespace.
    pub(super) fn netns<'a>(&self, lab: &'a Lab) -> &'a Netns {
        match self.place {
            Place::Pod(_) => &lab.pod(&self.name).netns,
            Place::Node(_) | Place::Outside => &lab.node(&self.name).netns,
        }
    }
}

impl Surroundings {
    /// Those of a lab.
    pub(super) fn of(lab: &Lab) -> Self {
        let pods = lab.clients().map(|pod| Client {
            name: pod.name.clone(),
            place: Place::Pod(pod.node.clone()),
            addresses: pod.addresses.both().into(),
        });
        let nodes = lab.nodes().map(|host| {
            let gateway = host
                .node
                .filter(|(_, shape)| *shape == Shape::Bridged)
                .map(|(number, _)| Addresses::of_gateway(number).both());
            Client {
                name: host.name.clone(),
                place: Place::Node(host.name.clone()),
                addresses: gateway
                    .into_iter()
                    .flatten()
                    .chain(host.addresses.both())
                    .collect(),
            }
        });
        let outside = Client {
            name: lab.outside().name.clone(),
            place: Place::Outside,
            addresses: lab.outside().addresses.both().into(),
        };
        Self {
            clients: pods.chain(nodes).chain([outside]).collect(),
            pods: lab
                .pods()
                .flat_map(|pod| {
                    let pod_and_node = (pod.name.clone(), pod.node.clone());
                    pod.addresses.both().map(|ip| (ip, pod_and_node.clone()))
                })
                .collect(),
            entrances: lab
                .entrances()
                .map(|(range, node)| (range, node.name.clone()))
                .collect(),
        }
    }

    /// All who probe.
    pub(super) fn clients(&self) -> impl Iterator<Item = &Client> {
        self.clients.iter()
    }

    /// What a frontend that `node` serves promises to whom.
    pub(super) fn promises(&self, node: &str, frontend: &Frontend) -> Vec<(String, Promise)> {
        let clients = self.clients.iter();
        let clients = clients.filter(|client| self.has_way(client, node, frontend));
        clients
            .map(|client| (client.name.clone(), self.promise(client, node, frontend)))
            .collect()
    }

    /// Whether the client's packets come to this frontend of this node.
    fn has_way(&self, client: &Client, node: &str, frontend: &Frontend) -> bool {
        let ip = frontend.key.socket().ip();
        match &client.place {
            Place::Node(own) => own == node,
            Place::Pod(own) => own == node && !frontend.host_only,
            Place::Outside => !frontend.host_only && self.entrance(ip) == Some(node),
        }
    }

    /// The node that packets from outside come to.
    fn entrance(&self, ip: IpAddr) -> Option<&str> {
        let has = self.clients.iter().find_map(|client| match &client.place {
            Place::Node(node) if client.addresses.contains(&ip) => Some(node),
            _ => None,
        });
        let routed = || {
            let mut ranges = self.entrances.iter();
            ranges.find_map(|(range, node)| range.contains(&ip).then_some(node))
        };
        has.or_else(routed).map(String::as_str)
    }

    fn promise(&self, client: &Client, node: &str, frontend: &Frontend) -> Promise {
        let is_denied = frontend.sources.as_ref().is_some_and(|sources| {
            let mut addresses = client.addresses.iter();
            !addresses.any(|ip| sources.iter().any(|range| range.contains(ip)))
        });
        if is_denied {
            return Promise {
                drops: true,
                ..Promise::default()
            };
        }
        let inside = frontend
            .inside
            .as_ref()
            .filter(|_| client.place != Place::Outside);
        let endpoints = inside.unwrap_or(&frontend.endpoints);
        let endpoints = endpoints
            .iter()
            .map(|endpoint| self.seen(client, node, endpoint));
        Promise {
            endpoints: endpoints.collect(),
            sticks: frontend.affinity > 0,
            // For who is inside, no endpoint is no endpoint anywhere.
            drops: inside.is_none() && frontend.clients == Clients::Dropped,
        }
    }

    /// An endpoint's name, and the addresses by which it may know the client.
    fn seen(&self, client: &Client, node: &str, endpoint: &Backend) -> (String, BTreeSet<IpAddr>) {
        let own = client.addresses.clone();
        let Some((name, at)) = self.pods.get(&endpoint.address) else {
            return (endpoint.address.to_string(), own);
        };
        if client.place != Place::Outside || at == node {
            return (name.clone(), own);
        }
        let mut clients = self.clients.iter();
        let node = clients.find(|client| client.place == Place::Node(node.to_owned()));
        (
            name.clone(),
            node.map_or(own, |node| node.addresses.clone()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// A pod on and a process of `node-1`, and one outside, who comes in there.
    fn around() -> Surroundings {
        let client = |name: &str, place, address| Client {
            name: name.to_owned(),
            place,
            addresses: [ip(address)].into(),
        };
        let node = || "node-1".to_owned();
        let pod = |number, node: &str| {
            let name = format!("pod-{number}");
            (ip(&format!("10.244.0.{number}")), (name, node.to_owned()))
        };
        Surroundings {
            clients: vec![
                client("client-1", Place::Pod(node()), "10.244.1.100"),
                client("node-1", Place::Node(node()), "172.18.0.1"),
                client("outside", Place::Outside, "192.0.2.10"),
            ],
            pods: [pod(1, "node-1"), pod(2, "node-2")].into(),
            entrances: vec![("198.51.100.0/24".parse().unwrap(), node())],
        }
    }

    /// Who is promised which endpoints, and sees what.
    fn promised(json: serde_json::Value) -> Vec<(String, Vec<String>)> {
        let mut frontend = serde_json::json!({
            "namespace": "default", "name": "web", "protocol": "TCP", "port": 80,
        });
        for (field, value) in json.as_object().unwrap() {
            frontend[field] = value.clone();
        }
        let frontend: Frontend = serde_json::from_value(frontend).unwrap();
        let promises = around().promises("node-1", &frontend).into_iter();
        let shown = promises.map(|(client, promise)| {
            let endpoints = promise.endpoints.iter();
            let mut shown: Vec<String> = endpoints
                .map(|(name, seen)| format!("{name} sees {seen:?}"))
                .collect();
            if shown.is_empty() {
                shown.push(if promise.drops { "drops" } else { "refuses" }.to_owned());
            }
            (client, shown)
        });
        shown.collect()
    }

    fn line(client: &str, shown: &[&str]) -> (String, Vec<String>) {
        let shown = shown.iter().map(|&text| text.to_owned());
        (client.to_owned(), shown.collect())
    }

    #[test]
    fn rules_42_and_45_who_is_outside_may_hear_nothing_where_others_are_answered() {
        let shown = promised(serde_json::json!({
            "address": "198.51.100.1", "kind": "LoadBalancer", "clients": "dropped",
            "endpoints": [], "insideEndpoints": [{"address": "10.244.0.2"}],
        }));
        let expected = [
            line("client-1", &["pod-2 sees {10.244.1.100}"]),
            line("node-1", &["pod-2 sees {172.18.0.1}"]),
            line("outside", &["drops"]),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn rule_44_who_is_outside_has_the_nodes_address_at_endpoints_elsewhere() {
        let shown = promised(serde_json::json!({
            "address": "172.18.0.1", "kind": "NodePort", "clients": "answered",
            "endpoints": [{"address": "10.244.0.1"}, {"address": "10.244.0.2"}],
        }));
        let outside = line(
            "outside",
            &["pod-1 sees {192.0.2.10}", "pod-2 sees {172.18.0.1}"],
        );
        assert_eq!(shown[2], outside);
    }

    #[test]
    fn rule_47_who_is_in_no_source_range_hears_nothing() {
        let shown = promised(serde_json::json!({
            "address": "198.51.100.1", "kind": "LoadBalancer", "clients": "answered",
            "endpoints": [{"address": "10.244.0.1"}], "sourceRanges": ["10.244.0.0/16"],
        }));
        let expected = [
            line("client-1", &["pod-1 sees {10.244.1.100}"]),
            line("node-1", &["drops"]),
            line("outside", &["drops"]),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn rule_65_loopback_is_for_the_nodes_own_processes() {
        let shown = promised(serde_json::json!({
            "address": "127.0.0.1", "kind": "NodePort", "clients": "refused", "hostOnly": true,
        }));
        assert_eq!(shown, [line("node-1", &["refuses"])]);
    }

    #[test]
    fn no_way_leads_to_a_cluster_ip_from_outside() {
        let shown = promised(serde_json::json!({
            "address": "10.96.0.1", "clients": "refused",
        }));
        let expected = [line("client-1", &["refuses"]), line("node-1", &["refuses"])];
        assert_eq!(shown, expected);
    }
}
