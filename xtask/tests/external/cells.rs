//! Who calls what how: the cells of the table.
//!
//! Services differ in where their endpoints are, so that for each kind of frontend some node has none, some
//! has all, one is a process of a node, one is the caller itself. Pure.

use xtask::lab::Protocol;

use crate::{
    reference::{Client, Endpoint, Fate, Frontend, Policy, Surroundings, fate},
    services::Numbered,
};

/// The numbers of the client pods.
const CLIENT: u8 = 100;

/// One conversation to have again and again, and what the rules say of it.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    /// Who calls.
    pub(crate) client: Client,
    /// What.
    pub(crate) frontend: Frontend,
    /// Index of the Service.
    pub(crate) service: usize,
    /// By IPv6.
    pub(crate) v6: bool,
    /// How.
    pub(crate) protocol: Protocol,
    /// What becomes of it by the rules.
    pub(crate) expected: Fate,
}

/// The endpoint pod that is a Service's only one on a node, and calls it.
const fn lone(node: u8) -> Endpoint {
    Endpoint::Pod { node, number: 11 }
}

/// All Services of the table: every placement under either policy.
pub(crate) fn services() -> Vec<Numbered> {
    let pod = |node| Endpoint::Pod { node, number: 10 };
    let placements: [(&str, &[Endpoint]); 6] = [
        ("nodes-1-2", &[pod(1), pod(2)]),
        ("node-3", &[pod(3)]),
        ("host-1", &[Endpoint::Host { node: 1 }]),
        ("lone-1", &[lone(1)]),
        ("lone-2", &[lone(2)]),
        ("nobody", &[]),
    ];
    let policies = [("cluster", Policy::Cluster), ("local", Policy::Local)];
    let all = policies
        .into_iter()
        .flat_map(|policy| placements.map(|placement| (policy, placement)));
    all.zip(1..)
        .map(|(((policy, it), (placement, endpoints)), number)| {
            Numbered::new(number, &format!("{policy}-{placement}"), it, endpoints)
        })
        .collect()
}

/// All clients.
pub(crate) fn clients() -> Vec<Client> {
    let pods = [1, 2, 3].map(|node| Client::Pod {
        node,
        number: CLIENT,
    });
    let hosts = [1, 2, 3].map(|node| Client::Host { node });
    let lone = [1, 2].map(|node| Client::Pod { node, number: 11 });
    [&pods[..], &hosts, &[Client::Outside], &lone].concat()
}

const FRONTENDS: [Frontend; 8] = [
    Frontend::ClusterIp,
    Frontend::NodePort { node: 1 },
    Frontend::NodePort { node: 2 },
    Frontend::NodePort { node: 3 },
    Frontend::Loopback,
    Frontend::SecondaryAddress { node: 2 },
    Frontend::LoadBalancer,
    Frontend::ExternalIp,
];

/// All cells that a client has a way for.
pub(crate) fn cells(services: &[Numbered], around: &Surroundings) -> Vec<Cell> {
    let mut cells = Vec::new();
    for client in clients() {
        for (at, numbered) in services.iter().enumerate() {
            // Who calls itself calls nobody else.
            let is_lone = matches!(client, Client::Pod { number: 11, .. });
            let own = client
                .node()
                .is_some_and(|node| numbered.service.endpoints.contains(&lone(node)));
            if is_lone && !own {
                continue;
            }
            for frontend in FRONTENDS {
                let expected = fate(client, frontend, &numbered.service, around);
                if expected == Fate::Absent {
                    continue;
                }
                for v6 in [false, true] {
                    for protocol in Protocol::BOTH {
                        cells.push(Cell {
                            client,
                            frontend,
                            service: at,
                            v6,
                            protocol,
                            expected: expected.clone(),
                        });
                    }
                }
            }
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::Seen;

    const AROUND: Surroundings = Surroundings {
        cluster_ips: 3,
        load_balancers: 1,
        external_ips: 2,
        cni_masquerades: false,
    };

    #[test]
    fn every_kind_of_frontend_has_cells_of_every_fate_and_of_every_address_seen() {
        let all = cells(&services(), &AROUND);
        let some = |frontend, wanted: &dyn Fn(&Cell) -> bool| {
            let mut cells = all.iter().filter(|cell| cell.frontend == frontend);
            assert!(cells.any(wanted), "{frontend}");
        };
        let sees = |cell: &Cell, own: bool| match &cell.expected {
            Fate::Answered(all) => all.values().any(|seen| (*seen == Seen::Own) == own),
            _ => false,
        };
        for frontend in [
            Frontend::ClusterIp,
            Frontend::NodePort { node: 1 },
            Frontend::NodePort { node: 2 },
            Frontend::LoadBalancer,
            Frontend::ExternalIp,
        ] {
            some(frontend, &|cell| cell.expected == Fate::Refused);
            some(frontend, &|cell| cell.expected == Fate::Dropped);
            some(frontend, &|cell| sees(cell, true));
            some(frontend, &|cell| sees(cell, false));
            some(frontend, &|cell| {
                cell.client == Client::Outside && sees(cell, false)
            });
        }
    }

    #[test]
    fn numbers_of_services_are_distinct_and_fit_their_addresses() {
        let numbers: Vec<u8> = services().iter().map(|service| service.number).collect();
        assert_eq!(numbers, (1..=12).collect::<Vec<u8>>());
    }
}
