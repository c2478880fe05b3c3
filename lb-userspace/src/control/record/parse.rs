//! Reading records back: what a `SERVICES` map says, as the model says it.
//!
//! A map may have been written by a broken agent or by nobody; nothing here trusts it.

use std::{collections::BTreeMap, net::IpAddr};

use lb_common::{
    address::Family,
    tables::{NAME_LEN, ServiceRecord},
};

use super::ips;
use crate::model::{IpFamilyPolicy, ObjectKey, Protocol, Service, ServiceKind, ServicePort};

/// A record as the model knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedService {
    /// The Service, without its ports: they are spread over as many records.
    pub service: Service,
    /// The port this record is about; `None` for a Service without a port to serve.
    pub port: Option<ServicePort>,
}

/// Why a record cannot be what an agent wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A name is missing or is not text.
    #[error("{field} of the record is not a name")]
    Name {
        /// Which.
        field: &'static str,
    },
    /// A number has no meaning.
    #[error("{field} {value} of the record is unknown")]
    Number {
        /// Which.
        field: &'static str,
        /// Its value.
        value: u8,
    },
}

/// What `record` says.
///
/// # Errors
/// [`RecordError`] if no agent of this version wrote it.
pub fn parse_record(record: &ServiceRecord) -> Result<RecordedService, RecordError> {
    let number = |field, value| RecordError::Number { field, value };
    let port = match record.protocol {
        0 => None,
        protocol => Some(ServicePort {
            name: parse_name("port_name", &record.port_name)?.to_owned(),
            protocol: Protocol::from_number(protocol).ok_or(number("protocol", protocol))?,
            port: record.port,
            node_port: 0,
        }),
    };
    Ok(RecordedService {
        service: Service {
            key: parse_key(record)?,
            kind: match record.kind {
                0 => ServiceKind::ClusterIp,
                1 => ServiceKind::NodePort,
                2 => ServiceKind::LoadBalancer,
                3 => ServiceKind::ExternalName,
                4 => ServiceKind::Headless,
                kind => return Err(number("kind", kind)),
            },
            ip_family_policy: match record.policy {
                0 => None,
                1 => Some(IpFamilyPolicy::SingleStack),
                2 => Some(IpFamilyPolicy::PreferDualStack),
                3 => Some(IpFamilyPolicy::RequireDualStack),
                policy => return Err(number("policy", policy)),
            },
            ip_families: parse_families(record)?,
            cluster_ips: ips(record).into_iter().flatten().collect(),
            ports: Vec::new(),
            ..Service::default()
        },
        port,
    })
}

/// The cluster IPs assigned to each Service in a dump of `SERVICES`, sorted by Service.
///
/// A source that assigns addresses itself starts from these, so that a restart changes none.
pub fn restored_cluster_ips(records: &[(u32, ServiceRecord)]) -> Vec<(ObjectKey, Vec<IpAddr>)> {
    let mut services = BTreeMap::new();
    for (_, record) in records {
        let ips: Vec<IpAddr> = ips(record).into_iter().flatten().collect();
        if let (Ok(key), false) = (parse_key(record), ips.is_empty()) {
            services.entry(key).or_insert(ips);
        }
    }
    services.into_iter().collect()
}

fn parse_key(record: &ServiceRecord) -> Result<ObjectKey, RecordError> {
    let required = |field, name| match parse_name(field, name)? {
        "" => Err(RecordError::Name { field }),
        name => Ok(name),
    };
    Ok(ObjectKey::new(
        required("namespace", &record.namespace)?,
        required("name", &record.name)?,
    ))
}

fn parse_families(record: &ServiceRecord) -> Result<Vec<Family>, RecordError> {
    let named = record.families.into_iter().filter(|&family| family != 0);
    named
        .map(|family| match family {
            4 => Ok(Family::V4),
            6 => Ok(Family::V6),
            value => Err(RecordError::Number {
                field: "families",
                value,
            }),
        })
        .collect()
}

fn parse_name<'a>(field: &'static str, bytes: &'a [u8; NAME_LEN]) -> Result<&'a str, RecordError> {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(NAME_LEN);
    let (name, padding) = bytes.split_at(end);
    if padding.iter().any(|&byte| byte != 0) {
        return Err(RecordError::Name { field });
    }
    std::str::from_utf8(name).map_err(|_| RecordError::Name { field })
}

#[cfg(test)]
mod tests {
    use super::{super::record, *};

    fn service(name: &str, ip: &str) -> Service {
        Service {
            key: ObjectKey::new("default", name),
            kind: ServiceKind::Headless,
            ip_family_policy: Some(IpFamilyPolicy::SingleStack),
            ip_families: vec![Family::V4],
            cluster_ips: ip.parse().into_iter().collect(),
            ports: vec![],
            ..Service::default()
        }
    }

    #[test]
    fn assigned_addresses_are_listed_once_for_each_service_that_has_any() {
        let records: Vec<_> = [
            ("b", "10.96.0.2"),
            ("a", "10.96.0.1"),
            ("a", "10.96.0.1"),
            ("c", ""),
        ]
        .iter()
        .zip(0..)
        .map(|((name, ip), id)| (id, record(&service(name, ip), None).unwrap()))
        .collect();
        let listed = restored_cluster_ips(&records);
        let expected = [("a", "10.96.0.1"), ("b", "10.96.0.2")].map(|(name, ip)| {
            (
                ObjectKey::new("default", name),
                vec![ip.parse::<IpAddr>().unwrap()],
            )
        });
        assert_eq!(listed, expected);
    }

    #[test]
    fn a_record_that_no_agent_wrote_is_an_error_and_not_a_guess() {
        let good = record(&service("web", "10.96.0.1"), None).unwrap();
        assert!(parse_record(&good).is_ok());
        let mut garbage = [good; 5];
        garbage[0].name = [0; NAME_LEN];
        garbage[1].namespace = [0xff; NAME_LEN];
        garbage[2].kind = 9;
        garbage[3].families = [7, 0];
        garbage[4].name[NAME_LEN - 1] = b'x';
        for record in garbage {
            assert!(parse_record(&record).is_err(), "{record:?}");
        }
    }
}
