//! A v1 Node: of the many things it says, those that concern the agent that runs on it (rules 4, 63, 85).

use std::net::IpAddr;

use super::{
    loose_ip, networks,
    problem::{Fault, Wrong},
    tree::Node as Tree,
};
use crate::model::{Node, ObjectKey};

/// Where the node stands (rules 4 and 39).
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// The autoscaler is about to delete the node (rule 85).
const LEAVING_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

/// Reads the node `key` from its document.
///
/// A host name among its addresses is none, and an address that does not parse is left out: nothing of a node
/// is worth doing without the rest of it.
pub(in crate::source) fn read(node: &Tree, key: ObjectKey) -> Result<Node, Wrong> {
    let zone = node.meta("labels", ZONE_LABEL, |zone| zone.text().map(str::to_owned))?;
    let metadata = |metadata: &Tree| {
        let uid = metadata.field("uid", |uid| uid.text().map(str::to_owned))?;
        Ok((uid, metadata.find("deletionTimestamp").is_some()))
    };
    let (uid, is_deleted) = node.field("metadata", metadata)?.unwrap_or_default();
    let (pod_cidrs, is_tainted) = node.field("spec", spec)?.unwrap_or_default();
    let addresses = node.field("status", addresses)?.unwrap_or_default();
    Ok(Node {
        name: key.name,
        zone: zone.filter(|zone| !zone.is_empty()),
        addresses,
        pod_cidrs,
        is_leaving: is_deleted || is_tainted,
        uid: uid.unwrap_or_default(),
    })
}

/// The node's pod ranges and whether it has the autoscaler's taint.
fn spec(spec: &Tree) -> Result<(Vec<ipnet::IpNet>, bool), Wrong> {
    let several = spec.entries("podCIDRs", networks::network)?;
    let single = spec.field("podCIDR", networks::network)?;
    let pod_cidrs = if several.is_empty() {
        Vec::from_iter(single)
    } else {
        several
    };
    let taints = spec.entries("taints", |taint| {
        taint.required("key", |key| Ok(key.text()? == LEAVING_TAINT))
    })?;
    Ok((pod_cidrs, taints.contains(&true)))
}

/// `status.addresses` as far as they are addresses, the internal ones first.
fn addresses(status: &Tree) -> Result<Vec<IpAddr>, Wrong> {
    let ranked = status.entries("addresses", |entry| {
        let rank = entry.required("type", |kind| {
            Ok(match kind.text()? {
                "InternalIP" => Some(0),
                "ExternalIP" => Some(1),
                _ => None,
            })
        })?;
        let text = entry.required("address", |address| match address.value {
            super::tree::Value::Text(ref text) => Ok(loose_ip::parse_loose(text)),
            _ => Err(Wrong::new(address, Fault::Not("text"))),
        })?;
        Ok(rank.zip(text))
    })?;
    let mut ranked: Vec<(u8, IpAddr)> = ranked.into_iter().flatten().collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    Ok(ranked.into_iter().map(|(_, ip)| ip).collect())
}
