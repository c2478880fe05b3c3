//! What clients address of a service port, and which list each address leads to (rules 21 to 26, 29, 30, 40 to 47).

use lb_common::{
    address::{Address, Family},
    tables::{Frontend, FrontendKey},
};

use super::{About, DesiredFrontend, List, Network, endpoints::Lists, sources};
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

/// The frontends, each once, that of the cluster IP first. `sources` are the ranges that clients of load balancer
/// addresses must be in.
///
/// An address that stands in several fields is one frontend. As in kube-proxy's nftables mode, where all of them
/// are keys of one map and the firewall is another map by address, what restricts a load balancer's address is not
/// undone by naming it under `externalIPs` as well.
pub(super) fn find_frontends<A: Address>(
    about: &About<'_>,
    vip: A,
    lists: Lists,
    sources: &[Network<A>],
) -> Vec<DesiredFrontend<A>> {
    let About { service, port, .. } = about;
    let mut frontends = vec![of_cluster_ip(about, vip, lists)];
    if about.is_first {
        frontends.push(mark(vip));
    }
    let clients = about.index.client_addresses(A::FAMILY);
    let balancer = Frontend::LOAD_BALANCER | sources::flags(sources, clients);
    let balancers = service.load_balancer_ips.iter();
    let balancers = balancers.map(|ip| (ip, port.port, balancer));
    let external = service.external_ips.iter();
    let external = external.map(|ip| (ip, port.port, Frontend::EXTERNAL_IP));
    let node = about.index.node_ports(A::FAMILY);
    let served = node.served.iter();
    let served = served.map(|ip| (ip, port.node_port, Frontend::NODE_PORT));
    let host_only = node.host_only.iter();
    let flags = Frontend::NODE_PORT | Frontend::HOST_ONLY;
    let host_only = host_only.map(|ip| (ip, port.node_port, flags));
    for (ip, number, flags) in balancers.chain(external).chain(served).chain(host_only) {
        let Some(addr) = A::from_ip(*ip).filter(|_| number != 0) else {
            continue;
        };
        let key = FrontendKey::new(addr, number.to_be(), port.protocol.number());
        let known = frontends.iter_mut().find(|known| known.key == key);
        match known {
            // The cluster IP stays what it is.
            Some(known) if known.flags & Frontend::EXTERNAL == 0 => {}
            Some(known) => known.flags |= flags & !Frontend::HOST_ONLY,
            None => frontends.push(of_external(about, key, flags, lists)),
        }
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
        flags: 0,
        affinity: service.affinity.unwrap_or(0),
    }
}

/// The internal policy says nothing of it (rule 43). Under the Local one clients inside get the cluster list all
/// the same (rules 45 and 100), and those outside silence where the others have endpoints (rule 42).
fn of_external<A: Address>(
    about: &About<'_>,
    key: FrontendKey<A>,
    flags: u32,
    lists: Lists,
) -> DesiredFrontend<A> {
    let is_local = about.service.external_policy == TrafficPolicy::Local;
    DesiredFrontend {
        key,
        list: if is_local { List::Split } else { List::Cluster },
        drop: is_local && lists.has_any && !lists.has_local,
        flags,
        affinity: about.service.affinity.unwrap_or(0),
    }
}

/// The mark of a VIP, one for all ports: its other ports are refused (rule 49) and it is allocated (rule 50).
fn mark<A: Address>(vip: A) -> DesiredFrontend<A> {
    DesiredFrontend {
        key: FrontendKey::mark(vip),
        list: List::None,
        drop: false,
        flags: 0,
        affinity: 0,
    }
}
