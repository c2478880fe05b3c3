//! A Service as the API server stores it, which has everything filled in already.
//!
//! The manifests source defaults and assigns what is missing; here what is missing is not there. A Service
//! without a cluster IP is not served (rule 3), and each family's address is found the way kube-proxy finds
//! it (rule 21).

use lb_common::address::Family;

use crate::{
    model::Service,
    source::objects::{
        problem::{Fault, Wrong},
        service::ServiceSpec,
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
            let (field, fault) = (spec.address_field(index), Fault::WrongFamily(family.value));
            return Err(Wrong::of(ip.line, field, ip.value, fault));
        }
    }
    Ok(Some(spec.as_stated()))
}
