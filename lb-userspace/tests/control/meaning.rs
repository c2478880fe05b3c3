//! What maps mean, whatever ids and slots are used to say it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
};

use duolb::{
    control::{
        maps::{FamilyMaps, Maps},
        record::{RecordedService, frontend_name, parse_record},
    },
    model::ServiceKind,
};
use ipnet::IpNet;
use lb_common::{
    address::{Address, V4, V6},
    tables::{Endpoint, Frontend, endpoint_index},
};

/// Frontends by name, with the service port and where each leads to; the records; and the source ranges of
/// service ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meaning {
    pub(crate) frontends: BTreeMap<String, (String, Ways)>,
    pub(crate) records: BTreeSet<String>,
    pub(crate) sources: BTreeSet<(String, IpNet)>,
}

/// Where a frontend leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ways {
    /// What it is, in words; nothing for a cluster IP's.
    pub(crate) words: Vec<&'static str>,
    pub(crate) endpoints: BTreeSet<SocketAddr>,
    /// The endpoints of clients inside, if it tells them from others.
    pub(crate) inside: Option<BTreeSet<SocketAddr>>,
}

/// Flags of frontends in words.
pub(crate) const WORDS: [(u32, &str); 7] = [
    (Frontend::NODE_PORT, "NodePort"),
    (Frontend::LOAD_BALANCER, "LoadBalancer"),
    (Frontend::EXTERNAL_IP, "ExternalIP"),
    (Frontend::HOST_ONLY, "host-only"),
    (Frontend::SOURCE_RANGES, "restricted"),
    (Frontend::NODE_DENIED, "node-denied"),
    (Frontend::DROP, "drop"),
];

/// `default/web:http/TCP`, or `default/db Headless` where there is no port.
pub(crate) fn port_name(recorded: &RecordedService) -> String {
    let (key, kind) = (&recorded.service.key, recorded.service.kind);
    match &recorded.port {
        Some(port) => format!("{key}:{}/{}", port.name, port.protocol),
        None => format!("{key} {kind}"),
    }
}

impl Meaning {
    pub(crate) fn of(maps: &impl Maps) -> Self {
        let records = maps.services().expect("the inner maps can be read");
        let records: BTreeMap<u32, RecordedService> = records
            .into_iter()
            .map(|(id, record)| (id, parse_record(&record).expect("a record of ours")))
            .collect();
        let mut meaning = Self::default();
        for record in records.values() {
            assert!(
                meaning.records.insert(port_name(record)),
                "two records for {record:?}"
            );
        }
        meaning.add::<V4>(maps, &records);
        meaning.add::<V6>(maps, &records);
        meaning
    }

    fn add<A: Address>(
        &mut self,
        maps: &impl FamilyMaps<A>,
        records: &BTreeMap<u32, RecordedService>,
    ) {
        let dump = maps.dump().expect("the inner maps can be read");
        let mut owners = vec![None; dump.slots.len()];
        for (key, value) in dump.frontends {
            let name = frontend_name(&key);
            let record = records.get(&value.service);
            let record = record.unwrap_or_else(|| panic!("{name}: no record {}", value.service));
            if value.flags & Frontend::VIP != 0 {
                continue;
            }
            let is_split = value.flags & Frontend::SPLIT != 0;
            let is_local = value.flags & (Frontend::LOCAL | Frontend::SPLIT) != 0;
            let needed = if is_local {
                Endpoint::<A>::LOCAL
            } else {
                Endpoint::<A>::CLUSTER
            };
            let mut sockets = |base: u32, count: u32, needed: u16| {
                let range = base as usize..(base + count) as usize;
                for owner in &mut owners[range.clone()] {
                    let before = owner.replace(value.service);
                    assert!(
                        before.is_none_or(|before| before == value.service),
                        "{name} shares a slot"
                    );
                }
                let socket = |id: &u32| {
                    let endpoint = dump.endpoints[endpoint_index(*id) as usize];
                    assert_eq!(
                        endpoint.id, *id,
                        "{name}: a slot leads to another's endpoint"
                    );
                    assert_eq!(endpoint.service, value.service, "{name}: {endpoint:?}");
                    assert_ne!(endpoint.state & needed, 0, "{name}: {endpoint:?}");
                    SocketAddr::new(endpoint.addr.to_ip(), u16::from_be(endpoint.port))
                };
                let sockets: BTreeSet<_> = dump.slots[range.clone()].iter().map(socket).collect();
                assert_eq!(
                    sockets.len(),
                    range.len(),
                    "{name}: an endpoint stands twice"
                );
                sockets
            };
            let words = WORDS.iter().filter(|(flag, _)| value.flags & flag != 0);
            let ways = Ways {
                words: words.map(|(_, word)| *word).collect(),
                endpoints: sockets(value.slot_base, value.slot_count, needed),
                inside: is_split
                    .then(|| sockets(value.inner_base, value.inner_count, Endpoint::<A>::CLUSTER)),
            };
            assert!(is_split || value.inner_count == 0, "{name}: {value:?}");
            self.frontends.insert(name, (port_name(record), ways));
        }
        for range in dump.sources {
            let record = records.get(&range.source.service);
            let record = record.unwrap_or_else(|| panic!("no record for {range:?}"));
            let prefix = u8::try_from(range.prefix - 32).expect("a prefix");
            let net = IpNet::new(range.source.addr.to_ip(), prefix).expect("a network");
            assert_eq!(net, net.trunc());
            self.sources.insert((port_name(record), net));
        }
        for endpoint in dump.endpoints.iter().filter(|it| it.state != 0) {
            let owner = records.get(&endpoint.service);
            assert!(owner.is_some(), "{endpoint:?} is nobody's and not gone");
        }
    }
}

/// One line for each frontend and for each record without a port; the others are implied.
impl fmt::Display for Meaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (frontend, (port, ways)) in &self.frontends {
            let port = port
                .rsplit_once('/')
                .map_or(port.as_str(), |(port, _)| port);
            write!(f, "{frontend} {port}")?;
            ways.words
                .iter()
                .try_for_each(|word| write!(f, " {word}"))?;
            write!(f, " ->")?;
            let list = |endpoints: &BTreeSet<SocketAddr>| {
                let endpoints = endpoints.iter().map(|endpoint| format!(" {endpoint}"));
                endpoints.collect::<String>()
            };
            write!(f, "{}", list(&ways.endpoints))?;
            if let Some(inside) = &ways.inside {
                write!(f, "; inside ->{}", list(inside))?;
            }
            writeln!(f)?;
        }
        for (port, net) in &self.sources {
            writeln!(f, "source {port} {net}")?;
        }
        let served: BTreeSet<_> = self.frontends.values().map(|(port, _)| port).collect();
        for record in self
            .records
            .iter()
            .filter(|record| !served.contains(record))
        {
            writeln!(f, "record {record}")?;
        }
        Ok(())
    }
}

/// Whether a Service of that kind gets frontends.
pub(crate) fn is_served(kind: ServiceKind) -> bool {
    matches!(
        kind,
        ServiceKind::ClusterIp | ServiceKind::NodePort | ServiceKind::LoadBalancer
    )
}
