//! What the maps should say about one Service: a pure function of the index.
//!
//! For each port its record and, for each family the Service has an address in, its endpoints and its
//! frontends (rules 9 to 48). Ids, slots and whatever else is a matter of bookkeeping are the
//! planner's business. One body for both families.

mod endpoints;
mod frontends;
mod sources;
mod topology;

use std::sync::Arc;

use lb_common::{
    address::{Address, V4, V6},
    tables::{FrontendKey, ServiceRecord},
};

use self::{
    endpoints::find_endpoints,
    frontends::{Uses, cluster_ip, find_frontends},
    sources::find_sources,
};
use super::{
    index::{Entry, Index, SliceSet},
    problem::{Cause, Problem},
    record::record,
};
use crate::model::{ObjectKey, Service, ServicePort, TrafficPolicy};

/// What one Service should look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredService {
    /// Age of its claims: of two Services that want the same frontend, the one with the higher number
    /// gets it (rule 90).
    pub since: u64,
    /// Its ports, each with another name and protocol (rule 9), or a single one without frontends.
    pub ports: Vec<DesiredPort>,
    /// Whether it has endpoints, but none on this node for a Local policy.
    pub lacks_local: LacksLocal,
}

/// By traffic policy: whether a Service has endpoints somewhere and none on this node, though that policy is
/// Local (rule 87).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LacksLocal {
    /// `internalTrafficPolicy`.
    pub internal: bool,
    /// `externalTrafficPolicy`.
    pub external: bool,
}

/// What one service port should look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredPort {
    /// Its record, which also names it.
    pub record: Arc<ServiceRecord>,
    /// What IPv4 clients get, if the Service has an IPv4 address.
    pub v4: Option<DesiredFamily<V4>>,
    /// What IPv6 clients get, if the Service has an IPv6 address.
    pub v6: Option<DesiredFamily<V6>>,
}

/// What one service port should look like in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredFamily<A> {
    /// Every endpoint that a slice names for it, sorted by address and port, each once.
    pub endpoints: Arc<[DesiredEndpoint<A>]>,
    /// What clients address, each once.
    pub frontends: Vec<DesiredFrontend<A>>,
    /// Who may use the frontends with [`Frontend::SOURCE_RANGES`](lb_common::tables::Frontend::SOURCE_RANGES),
    /// sorted, each once; empty if there are none.
    pub sources: Box<[Network<A>]>,
}

/// A network of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network<A> {
    /// Its first address.
    pub addr: A,
    /// Length of its prefix.
    pub prefix: u8,
}

/// An endpoint as it should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DesiredEndpoint<A> {
    /// Its address.
    pub addr: A,
    /// Its port, network byte order.
    pub port: u16,
    /// What may be done with it: bits of [`Endpoint`](lb_common::tables::Endpoint).
    pub state: u16,
}

/// What one frontend should look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DesiredFrontend<A> {
    /// What clients address.
    pub key: FrontendKey<A>,
    /// Where their new flows go.
    pub list: List,
    /// [`Frontend::DROP`](lb_common::tables::Frontend::DROP) if the list is empty and that is no reason
    /// to refuse (rules 41 and 42).
    pub drop: bool,
    /// What kind it is, and for whom: bits of [`Frontend`](lb_common::tables::Frontend) above `SPLIT`.
    pub flags: u32,
    /// Session affinity in seconds; 0: none.
    pub affinity: u32,
}

/// Which of a service port's endpoints a frontend leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// Those with [`Endpoint::CLUSTER`](lb_common::tables::Endpoint::CLUSTER) (rule 31).
    Cluster,
    /// Those with [`Endpoint::LOCAL`](lb_common::tables::Endpoint::LOCAL) (rule 32).
    Local,
    /// The local list for clients outside, the cluster list for those inside (rules 42 and 45).
    Split,
    /// None: the frontend is the mark of a VIP (rule 49).
    None,
}

/// What the Service `key` should look like; `None` if it does not exist.
///
/// # Errors
/// A [`Problem`] if the Service contradicts itself; it is then left as it is.
pub fn find_desired(index: &Index, key: &ObjectKey) -> Result<Option<DesiredService>, Problem> {
    let Some((entry, service)) = index
        .find(key)
        .and_then(|entry| Some((entry, entry.service.as_deref()?)))
    else {
        return Ok(None);
    };
    let mut lacks_local = LacksLocal::default();
    let ports = if service.kind.is_served() && !service.ports.is_empty() {
        check_ports(service)?;
        let ports = service.ports.iter().enumerate().map(|(at, port)| {
            let about = About {
                index,
                service,
                port,
                is_first: at == 0,
            };
            desired_port(&about, entry, &mut lacks_local)
        });
        ports.collect::<Result<_, _>>()?
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
        lacks_local,
    }))
}

/// The service port in question.
struct About<'a> {
    index: &'a Index,
    service: &'a Service,
    port: &'a ServicePort,
    /// Whether it is the first of its Service, which has what the Service has once.
    is_first: bool,
}

fn desired_port(
    about: &About<'_>,
    entry: &Entry,
    lacks_local: &mut LacksLocal,
) -> Result<DesiredPort, Problem> {
    Ok(DesiredPort {
        record: record(about.service, Some(about.port))?.into(),
        v4: desired_family(about, &entry.v4, lacks_local),
        v6: desired_family(about, &entry.v6, lacks_local),
    })
}

/// `None` without a cluster IP of family `A`: then the family does not see the Service at all, whatever other
/// addresses of it there are (rule 22).
fn desired_family<A: Address>(
    about: &About<'_>,
    slices: &SliceSet<A>,
    lacks_local: &mut LacksLocal,
) -> Option<DesiredFamily<A>> {
    let vip = cluster_ip::<A>(about.service)?;
    let uses = Uses::of::<A>(about.service, about.port);
    let (endpoints, lists) = find_endpoints(about.port, slices, about.index.zones(), uses);
    // Rule 87.
    if lists.has_any && !lists.has_local {
        let is_local = |policy| policy == TrafficPolicy::Local;
        lacks_local.internal |= is_local(about.service.internal_policy);
        lacks_local.external |= is_local(about.service.external_policy) && uses.is_external;
    }
    let sources = find_sources::<A>(about.service);
    Some(DesiredFamily {
        endpoints,
        frontends: find_frontends(about, vip, lists, &sources),
        sources,
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
        if earlier.clone().any(|other| other.port == port.port) {
            let value = format!("{}/{}", port.port, port.protocol);
            return Err(problem("port", value, "used by another port"));
        }
        if port.node_port != 0 && earlier.any(|other| other.node_port == port.node_port) {
            let value = format!("{}/{}", port.node_port, port.protocol);
            return Err(problem("nodePort", value, "used by another port"));
        }
        if port.port == 0 {
            return Err(problem("port", "0".into(), "not a port"));
        }
    }
    Ok(())
}
