//! A discovery.k8s.io/v1 EndpointSlice: read and checked in one go, since nothing is ever filled in.

use std::net::IpAddr;

use lb_common::address::Family;

use super::{
    loose_ip, names, ports,
    problem::{Fault, Wrong},
    service,
    tree::Node,
};
use crate::model::{Conditions, EndpointSlice, ObjectKey, SliceEndpoint};

/// Names the Service a slice belongs to (rule 13).
const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// Marks the slices of headless Services (rule 2).
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// Reads the slice `key` from its document. `None` if it is none of our business: without a Service
/// (rule 13), of a headless one (rule 2), or made of host names (rule 14).
pub(in crate::source) fn read(node: &Node, key: ObjectKey) -> Result<Option<EndpointSlice>, Wrong> {
    let labels = |labels: &Node| {
        let headless = labels.find(HEADLESS_LABEL).is_some();
        Ok((labels.field(SERVICE_LABEL, names::label)?, headless))
    };
    let labels = node
        .field("metadata", |metadata| metadata.field("labels", labels))?
        .flatten();
    let Some((Some(service), headless)) = labels else {
        tracing::debug!(slice = %key, "no label {SERVICE_LABEL}: ignored");
        return Ok(None);
    };
    let host_names = node
        .find("addressType")
        .is_some_and(|kind| kind.text() == Ok("FQDN"));
    if headless || host_names {
        tracing::debug!(slice = %key, "headless or made of host names: ignored");
        return Ok(None);
    }
    let family = node.required("addressType", service::family)?;
    let endpoints = node.entries("endpoints", |entry| endpoint(entry, family))?;
    Ok(Some(EndpointSlice {
        key,
        service,
        family,
        ports: ports::read_slice_ports(node)?,
        endpoints: endpoints.into_iter().flatten().collect(),
        triggered: None,
    }))
}

/// Reads one endpoint; `None` if it has no address (rule 12).
fn endpoint(node: &Node, family: Family) -> Result<Option<SliceEndpoint>, Wrong> {
    let addresses = node.entries("addresses", |entry| {
        let ip = loose_ip::address_of(entry, family)?;
        match special(ip) {
            Some(what) => Err(Wrong::new(entry, Fault::Special(what))),
            None => Ok(ip),
        }
    })?;
    let Some(&address) = addresses.first() else {
        return Ok(None);
    };
    Ok(Some(SliceEndpoint {
        address,
        conditions: node.field("conditions", conditions)?.unwrap_or_default(),
        node: node.field("nodeName", |name| name.text().map(str::to_owned))?,
        hints: crate::model::Hints::default(),
    }))
}

/// Conditions with Kubernetes' defaults where nothing is said (rule 15).
fn conditions(node: &Node) -> Result<Conditions, Wrong> {
    let default = Conditions::default();
    Ok(Conditions {
        ready: node.field("ready", Node::bool)?.unwrap_or(default.ready),
        serving: node
            .field("serving", Node::bool)?
            .unwrap_or(default.serving),
        terminating: node
            .field("terminating", Node::bool)?
            .unwrap_or(default.terminating),
    })
}

/// What kind of address no endpoint can have, as the API server sees it: traffic for it would never
/// leave the node, or leave it to nowhere.
fn special(ip: IpAddr) -> Option<&'static str> {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    match ip {
        _ if ip.is_unspecified() => Some("the unspecified address"),
        _ if ip.is_loopback() => Some("a loopback address"),
        _ if ip.is_multicast() => Some("a multicast address"),
        _ if link_local => Some("a link-local address"),
        _ => None,
    }
}
