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
use lb_common::{
    address::{Address, V4, V6},
    tables::{Endpoint, Frontend, endpoint_index},
};

/// Frontends by name, with the service port and the endpoints each leads to; and the records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meaning {
    pub(crate) frontends: BTreeMap<String, (String, BTreeSet<SocketAddr>)>,
    pub(crate) records: BTreeSet<String>,
}

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
            let range = value.slot_base as usize..(value.slot_base + value.slot_count) as usize;
            for owner in &mut owners[range.clone()] {
                let before = owner.replace(value.service);
                assert!(
                    before.is_none_or(|before| before == value.service),
                    "{name} shares a slot"
                );
            }
            let is_local = value.flags & Frontend::LOCAL != 0;
            let needed = if is_local {
                Endpoint::<A>::LOCAL
            } else {
                Endpoint::<A>::CLUSTER
            };
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
            self.frontends.insert(name, (port_name(record), sockets));
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
        for (frontend, (port, endpoints)) in &self.frontends {
            let port = port
                .rsplit_once('/')
                .map_or(port.as_str(), |(port, _)| port);
            write!(f, "{frontend} {port} ->")?;
            endpoints
                .iter()
                .try_for_each(|endpoint| write!(f, " {endpoint}"))?;
            writeln!(f)?;
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
