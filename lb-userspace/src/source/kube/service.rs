//! A Service as the API server stores it, which has everything filled in already.
//!
//! The manifests source defaults and assigns what is missing; here what is missing is not there. A Service
//! without a cluster IP is not served (rule 3), and each family's address is found the way kube-proxy finds
//! it (rule 21).

use std::net::IpAddr;

use lb_common::address::Family;

use crate::{
    model::{IpFamilyPolicy, Service, ServiceKind},
    source::objects::{
        problem::{Fault, Wrong},
        service::ServiceSpec,
        tree::At,
    },
};

/// The Service that `spec` stands for; `None` if it has no address yet and needs one.
///
/// # Errors
/// When `clusterIPs` and `ipFamilies` say different things.
pub(super) fn complete(spec: &ServiceSpec) -> Result<Option<Service>, Wrong> {
    if spec.kind.is_served() && spec.cluster_ips.is_empty() {
        return Ok(None);
    }
    for (index, (family, ip)) in spec.families.iter().zip(&spec.cluster_ips).enumerate() {
        if Family::of(&ip.value) != family.value {
            let (field, fault) = (
                spec.address_field(index),
                Fault::WrongFamily(family.value),
            );
            return Err(Wrong::of(ip.line, field, ip.value, fault));
        }
    }
    let values = |ips: &[At<IpAddr>]| ips.iter().map(|ip| ip.value).collect::<Vec<_>>();
    let cluster_ips = values(&spec.cluster_ips);
    let ip_families: Vec<Family> = if spec.families.is_empty() || spec.kind.is_served() {
        cluster_ips.iter().map(Family::of).collect()
    } else {
        spec.families.iter().map(|family| family.value).collect()
    };
    let assumed = match (spec.kind, ip_families.len()) {
        (ServiceKind::ExternalName, _) => None,
        (_, 2) => Some(IpFamilyPolicy::PreferDualStack),
        _ => Some(IpFamilyPolicy::SingleStack),
    };
    let policy = spec.policy.map(|policy| policy.value).or(assumed);
    Ok(Some(spec.complete(policy, ip_families, cluster_ips)))
}
