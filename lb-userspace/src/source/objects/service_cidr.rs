//! A networking.k8s.io/v1 ServiceCIDR: a range that cluster IPs are assigned from (rule 50).

use super::{networks, problem::Wrong, tree::Node};
use crate::model::{ObjectKey, ServiceCidr};

/// Reads the ServiceCIDR `key` from its document.
///
/// One that is being deleted still counts: it stays till no Service has an address in it.
pub(in crate::source) fn read(node: &Node, key: ObjectKey) -> Result<ServiceCidr, Wrong> {
    let cidrs = node.required("spec", |spec| spec.entries("cidrs", networks::network))?;
    Ok(ServiceCidr {
        name: key.name,
        cidrs,
    })
}
