//! Listens for the health checks of Services, on the node's addresses, as Services come and go.
//!
//! One that cannot be listened on is told about its Service (rule 84) and tried again; the others go on.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use lb_common::address::Family;

use crate::{
    control::{
        health_check::HealthCheck,
        node_ports::{Named, NodePortSettings, find_named},
    },
    model::{Node, ObjectKey},
    serve::{ServiceHealth, SharedHealth},
};

/// How soon an address that could not be listened on is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// A health check at an address.
type Place = (Arc<ObjectKey>, SocketAddr);

/// The health checks that are being served.
pub(super) struct ServiceHealths {
    settings: NodePortSettings,
    health: SharedHealth,
    served: BTreeMap<Place, ServiceHealth>,
    /// Those that could not be listened on, and when.
    refused: BTreeMap<Place, Instant>,
}

/// A health check that nobody can ask.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) service: Arc<ObjectKey>,
    pub(super) address: SocketAddr,
    pub(super) reason: io::Error,
}

impl ServiceHealths {
    /// None yet; they will be on those of the node's addresses that `settings` name.
    pub(super) fn new(settings: NodePortSettings, health: SharedHealth) -> Self {
        Self {
            settings,
            health,
            served: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// When to call [`Self::update`] again if nothing happens before.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.refused.values().min().map(|at| *at + RETRY)
    }

    /// Serves these and no others; what could not be listened on for the first time.
    pub(super) fn update(
        &mut self,
        checks: &BTreeMap<Arc<ObjectKey>, HealthCheck>,
        node: Option<&Node>,
        now: Instant,
    ) -> Vec<Refused> {
        if checks.is_empty() && self.served.is_empty() && self.refused.is_empty() {
            return Vec::new();
        }
        let on = Family::BOTH.map(|family| addresses_of(&self.settings, node, family));
        let mut wanted: BTreeMap<Place, usize> = BTreeMap::new();
        for (service, check) in checks {
            for (local, on) in check.local.iter().zip(&on) {
                let Some(local) = local else { continue };
                for ip in on {
                    wanted.insert((service.clone(), (*ip, check.port).into()), *local);
                }
            }
        }
        self.served.retain(|place, _| wanted.contains_key(place));
        self.refused.retain(|place, _| wanted.contains_key(place));
        let mut refused = Vec::new();
        for (place, local) in wanted {
            if let Some(served) = self.served.get(&place) {
                served.set(local);
                continue;
            }
            let before = self.refused.get(&place).copied();
            if before.is_some_and(|at| now < at + RETRY) {
                continue;
            }
            let (service, address) = place.clone();
            match ServiceHealth::start(service.clone(), address, local, self.health.clone()) {
                Ok(server) => {
                    self.refused.remove(&place);
                    self.served.insert(place, server);
                }
                Err(reason) => {
                    self.refused.insert(place, now);
                    if before.is_none() {
                        refused.push(Refused {
                            service,
                            address,
                            reason,
                        });
                    }
                }
            }
        }
        refused
    }
}

/// The addresses of one family to listen on (rules 62 to 64). The unspecified one stands for all.
fn addresses_of(
    settings: &NodePortSettings,
    node: Option<&Node>,
    family: Family,
) -> BTreeSet<IpAddr> {
    match find_named(settings, node, family) {
        Named::All => BTreeSet::from([match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }]),
        Named::Some {
            mut addresses,
            networks,
        } => {
            let own = node.into_iter().flat_map(|node| &node.addresses).copied();
            addresses.extend(own.filter(|ip| networks.iter().any(|net| net.contains(ip))));
            addresses
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NodePortAddress;

    fn settings(addresses: &[NodePortAddress]) -> NodePortSettings {
        NodePortSettings {
            addresses: addresses.to_vec(),
            node_ip: None,
        }
    }

    fn node(addresses: &[&str]) -> Node {
        Node {
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            ..Node::default()
        }
    }

    fn on(wanted: &[NodePortAddress], node: Option<&Node>, family: Family) -> Vec<String> {
        let found = addresses_of(&settings(wanted), node, family);
        found.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn rule_84_a_port_in_use_is_told_once_and_tried_again_and_the_others_are_served() {
        use std::net::{TcpListener, TcpStream};
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let busy = taken.local_addr().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = free.local_addr().unwrap();
        let health = SharedHealth::new(crate::health::Health::new(true).into());
        drop(free);
        let check = |port| HealthCheck {
            port,
            local: [Some(1), None],
        };
        let key = |name| Arc::new(ObjectKey::new("default", name));
        let checks = BTreeMap::from([
            (key("busy"), check(busy.port())),
            (key("open"), check(open.port())),
        ]);
        let mut healths = ServiceHealths::new(settings(&[NodePortAddress::Localhost]), health);
        let now = Instant::now();
        let refused = healths.update(&checks, None, now);
        assert_eq!(refused.len(), 1);
        assert_eq!(
            (refused[0].address, &*refused[0].service.name),
            (busy, "busy")
        );
        assert_eq!(refused[0].reason.kind(), io::ErrorKind::AddrInUse);
        TcpStream::connect(open).unwrap();
        assert!(healths.update(&checks, None, now).is_empty(), "told twice");
        drop(taken);
        let later = healths.next_retry().unwrap();
        assert!(healths.update(&checks, None, later).is_empty());
        assert_eq!(healths.next_retry(), None);
        TcpStream::connect(busy).unwrap();
        // A Service that goes takes its listener along.
        healths.update(&BTreeMap::new(), None, later);
        let start = Instant::now();
        while TcpStream::connect(busy).is_ok() {
            assert!(start.elapsed() < Duration::from_secs(5), "it still listens");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[test]
    fn rules_62_to_64_health_checks_are_on_the_addresses_of_node_ports() {
        use NodePortAddress::{All, Localhost, Network, Primary};
        let node = node(&["10.0.0.1", "fd00::1", "192.0.2.1"]);
        let net = |text: &str| Network(text.parse().unwrap());
        let v4 = |wanted: &[_]| on(wanted, Some(&node), Family::V4);
        assert_eq!(v4(&[Primary]), ["10.0.0.1"]);
        assert_eq!(on(&[Primary], Some(&node), Family::V6), ["fd00::1"]);
        assert_eq!(v4(&[net("192.0.2.0/24")]), ["192.0.2.1"]);
        assert_eq!(v4(&[net("0.0.0.0/0")]), ["0.0.0.0"]);
        // Rule 63: nothing is said of this family.
        assert_eq!(v4(&[net("fd00::/64")]), ["0.0.0.0"]);
        assert_eq!(v4(&[net("198.51.100.0/24")]), Vec::<String>::new());
        assert_eq!(v4(&[All]), ["0.0.0.0"]);
        assert_eq!(on(&[Localhost], None, Family::V6), ["::1"]);
        assert_eq!(on(&[Primary], None, Family::V4), ["0.0.0.0"]);
    }
}
