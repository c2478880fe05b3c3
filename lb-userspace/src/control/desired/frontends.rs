//! What clients address of a service port, and which list each address leads to (rules 21, 29, 30, 40, 41).

use lb_common::{
    address::{Address, Family},
    tables::FrontendKey,
};

use super::{About, DesiredFrontend, List, endpoints::Lists};
use crate::model::{Service, ServicePort, TrafficPolicy};

/// Which lists a service port needs in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Uses {
    /// Clients reach it by something else than its cluster IP (rule 29).
    pub(super) is_external: bool,
    /// The Cluster list (rule 30).
    pub(super) cluster: bool,
    /// The Local list (rule 30).
    pub(super) local: bool,
}

impl Uses {
    /// What `port` of `service` needs in family `A`.
    pub(super) fn of<A: Address>(service: &Service, port: &ServicePort) -> Self {
        let external = service.external_ips.iter();
        let mut external = external.chain(&service.load_balancer_ips);
        let is_external = port.node_port != 0 || external.any(|ip| Family::of(ip) == A::FAMILY);
        let is_local = |policy| policy == TrafficPolicy::Local;
        let (internal, external) = (service.internal_policy, service.external_policy);
        Self {
            is_external,
            cluster: !is_local(internal) || is_external,
            local: is_local(internal) || is_local(external) && is_external,
        }
    }
}

/// The cluster IP of family `A`: that which `ipFamilies` names as such, or if it names none the one that is
/// of the family (rule 21).
pub(super) fn cluster_ip<A: Address>(service: &Service) -> Option<A> {
    let mut families = service.ip_families.iter();
    let at = families.position(|family| *family == A::FAMILY);
    match at {
        Some(at) => A::from_ip(*service.cluster_ips.get(at)?),
        None if service.ip_families.is_empty() => A::from_ip(*service.cluster_ips.first()?),
        None => None,
    }
}

/// The frontends, that of the cluster IP first.
pub(super) fn find_frontends<A: Address>(
    about: &About<'_>,
    vip: A,
    lists: Lists,
) -> Vec<DesiredFrontend<A>> {
    let mut frontends = vec![of_cluster_ip(about, vip, lists)];
    if about.is_first {
        frontends.push(mark(vip));
    }
    frontends
}

/// Internal clients get the list of the internal policy; an empty one is a reason to be silent only if others
/// have endpoints (rule 41), else clients are refused (rule 40).
fn of_cluster_ip<A: Address>(about: &About<'_>, vip: A, lists: Lists) -> DesiredFrontend<A> {
    let About { service, port, .. } = about;
    let is_local = service.internal_policy == TrafficPolicy::Local;
    DesiredFrontend {
        key: FrontendKey::new(vip, port.port.to_be(), port.protocol.number()),
        list: if is_local { List::Local } else { List::Cluster },
        drop: is_local && lists.has_any && !lists.has_local,
        affinity: service.affinity.unwrap_or(0),
    }
}

/// The mark of a VIP, one for all ports: its other ports are refused (rule 49) and it is allocated (rule 50).
fn mark<A: Address>(vip: A) -> DesiredFrontend<A> {
    DesiredFrontend {
        key: FrontendKey::mark(vip),
        list: List::None,
        drop: false,
        affinity: 0,
    }
}
