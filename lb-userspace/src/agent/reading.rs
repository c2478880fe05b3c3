//! What the kernel has counted, for the metrics: read from the pins, as the reading commands do.

use std::collections::BTreeMap;

use lb_common::{
    address::Family,
    tables::{ServiceRecord, Traffic},
};

use crate::{
    control::record::parse_record,
    datapath::{pins::Pins, view::View},
    metrics::{Reading, ServiceTraffic, Snapshot},
};

/// The pinned maps.
#[derive(Debug)]
pub(super) struct Pinned {
    pins: Pins,
    /// Service ports with this id or a higher one are told as one sum.
    limit: u32,
}

impl Pinned {
    pub(super) fn new(pins: Pins, limit: u32) -> Self {
        Self { pins, limit }
    }
}

impl Reading for Pinned {
    fn read(&self) -> anyhow::Result<Snapshot> {
        let view = View::open(self.pins.clone())?;
        let records: BTreeMap<u32, ServiceRecord> = view.services()?.into_iter().collect();
        let traffic = view.traffic(records.keys().copied())?;
        Ok(Snapshot {
            verdicts: view.verdicts()?,
            traffic: name_traffic(&records, &traffic, self.limit),
            maps: view.maps()?,
            flows: view.flow_stats()?,
        })
    }
}

/// Gives `traffic` its names. Ports that do not exist in a family have no traffic to tell; ids from `limit` on
/// are summed up, by family.
fn name_traffic(
    records: &BTreeMap<u32, ServiceRecord>,
    traffic: &[(u32, Family, Traffic)],
    limit: u32,
) -> Vec<ServiceTraffic> {
    let mut named = Vec::new();
    let mut others: BTreeMap<Family, Traffic> = BTreeMap::new();
    for (id, family, traffic) in traffic {
        let Some(parsed) = records.get(id).and_then(|record| parse_record(record).ok()) else {
            continue;
        };
        let (service, Some(port)) = (parsed.service, parsed.port) else {
            continue;
        };
        if !service.ip_families.contains(family) {
            continue;
        }
        if *id >= limit {
            add(others.entry(*family).or_default(), traffic);
            continue;
        }
        named.push(ServiceTraffic {
            namespace: service.key.namespace,
            service: service.key.name,
            port: (port.port.to_string(), port.protocol.to_string()),
            family: *family,
            traffic: *traffic,
        });
    }
    named.extend(others.into_iter().map(|(family, traffic)| ServiceTraffic {
        namespace: String::new(),
        service: "(others)".to_owned(),
        port: (String::new(), String::new()),
        family,
        traffic,
    }));
    named
}

fn add(sum: &mut Traffic, one: &Traffic) {
    sum.flows += one.flows;
    sum.packets_in += one.packets_in;
    sum.bytes_in += one.bytes_in;
    sum.packets_out += one.packets_out;
    sum.bytes_out += one.bytes_out;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, port: u16, families: [u8; 2]) -> ServiceRecord {
        let padded = |text: &str| {
            let mut bytes = [0; 64];
            bytes[..text.len()].copy_from_slice(text.as_bytes());
            bytes
        };
        let mut cluster_ips = [[0; 16]; 2];
        for (ip, family) in cluster_ips.iter_mut().zip(families) {
            if family != 0 {
                ip[3] = 1;
            }
        }
        ServiceRecord {
            namespace: padded("shop"),
            name: padded(name),
            port_name: padded(""),
            cluster_ips,
            families,
            port,
            protocol: 6,
            policy: 1,
            kind: 0,
            pad: 0,
        }
    }

    fn flows(flows: u64) -> Traffic {
        Traffic {
            flows,
            ..Traffic::default()
        }
    }

    #[test]
    fn service_ports_over_the_limit_are_one_sum() {
        let v4 = [Family::V4 as u8, 0];
        let records = BTreeMap::from([
            (0, record("a", 80, v4)),
            (1, record("b", 81, v4)),
            (2, record("c", 82, v4)),
        ]);
        let traffic = [
            (0, Family::V4, flows(1)),
            (0, Family::V6, flows(0)),
            (1, Family::V4, flows(10)),
            (2, Family::V4, flows(100)),
        ];
        let named = name_traffic(&records, &traffic, 1);
        let told: Vec<_> = named
            .iter()
            .map(|one| (one.service.as_str(), one.port.0.as_str(), one.traffic.flows))
            .collect();
        assert_eq!(told, [("a", "80", 1), ("(others)", "", 110)]);
    }
}
