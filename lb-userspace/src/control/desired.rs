//! What the maps should say about one Service: a pure function of the index.
//!
//! For each port its record and, for each family the Service has an address in, the frontend and its
//! endpoints (rules 9 to 22 and 31 to 34). Ids, slots and whatever else is a matter of bookkeeping are
//! the planner's business. One body for both families.

mod endpoints;

use std::sync::Arc;

use lb_common::{
    address::{Address, V4, V6},
    tables::{Endpoint, FrontendKey, ServiceRecord},
};

use super::{
    index::{Entry, Index, SliceSet},
    problem::{Cause, Problem},
    record::{find_frontend, record},
};
use crate::model::{ObjectKey, Service, ServicePort};

/// What one Service should look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredService {
    /// Age of its claims: of two Services that want the same frontend, the one with the higher number
    /// gets it (rule 90).
    pub since: u64,
    /// Its ports, each with another name and protocol (rule 9), or a single one without frontends.
    pub ports: Vec<DesiredPort>,
}

/// What one service port should look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredPort {
    /// Its record, which also names it.
    pub record: Arc<ServiceRecord>,
    /// How IPv4 clients reach it.
    pub v4: Option<DesiredFrontend<V4>>,
    /// How IPv6 clients reach it.
    pub v6: Option<DesiredFrontend<V6>>,
}

/// What one frontend should look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredFrontend<A> {
    /// What clients address.
    pub key: FrontendKey<A>,
    /// Where their flows go: sorted, no duplicates; empty when there is no usable one (rule 40).
    pub endpoints: Arc<[Endpoint<A>]>,
}

/// What the Service `key` should look like; `None` if it does not exist.
///
/// # Errors
/// A [`Problem`] if the Service contradicts itself; it is then left as it is.
pub fn find_desired(index: &Index, key: &ObjectKey) -> Result<Option<DesiredService>, Problem> {
    let Some((entry, service)) = index
        .find(key)
        .and_then(|entry| Some((entry, entry.service.as_ref()?)))
    else {
        return Ok(None);
    };
    let ports = if service.kind.is_served() && !service.ports.is_empty() {
        check_ports(service)?;
        let ports = service.ports.iter();
        ports
            .map(|port| desired_port(entry, service, port))
            .collect::<Result<_, _>>()?
    } else {
        // Rule 3: never served; the record is there to be listed.
        vec![DesiredPort {
            record: record(service, None)?.into(),
            v4: None,
            v6: None,
        }]
    };
    Ok(Some(DesiredService {
        since: entry.since,
        ports,
    }))
}

fn desired_port(
    entry: &Entry,
    service: &Service,
    port: &ServicePort,
) -> Result<DesiredPort, Problem> {
    let record = record(service, Some(port))?;
    let v4 = desired_frontend(&record, port, &entry.v4);
    let v6 = desired_frontend(&record, port, &entry.v6);
    Ok(DesiredPort {
        record: record.into(),
        v4,
        v6,
    })
}

fn desired_frontend<A: Address>(
    record: &ServiceRecord,
    port: &ServicePort,
    slices: &SliceSet<A>,
) -> Option<DesiredFrontend<A>> {
    let key = find_frontend(record)?;
    Some(DesiredFrontend {
        key,
        endpoints: endpoints::usable(port, slices),
    })
}

/// Ports are told apart by name and protocol (rule 9), and clients tell them apart by number and
/// protocol.
fn check_ports(service: &Service) -> Result<(), Problem> {
    for (i, port) in service.ports.iter().enumerate() {
        let problem = |field, value, why| Problem {
            service: Some(Arc::new(service.key.clone())),
            field: format!("spec.ports[{i}].{field}"),
            value,
            cause: Cause::Invalid(why),
        };
        let mut earlier = service.ports[..i]
            .iter()
            .filter(|other| other.protocol == port.protocol);
        if earlier.clone().any(|other| other.name == port.name) {
            return Err(problem(
                "name",
                format!("{:?}", port.name),
                "used by another port",
            ));
        }
        if earlier.any(|other| other.port == port.port) {
            let value = format!("{}/{}", port.port, port.protocol);
            return Err(problem("port", value, "used by another port"));
        }
        if port.port == 0 {
            return Err(problem("port", "0".into(), "not a port"));
        }
    }
    Ok(())
}
