//! A discovery.k8s.io/v1 EndpointSlice: read and checked in one go, since nothing is ever filled in.

use jiff::Timestamp;
use lb_common::address::Family;

use super::{
    loose_ip, names, ports,
    problem::{Fault, Wrong},
    service,
    tree::{Node, Value},
};
use crate::model::{Conditions, EndpointSlice, Hints, ObjectKey, SliceEndpoint};

/// Names the Service a slice belongs to (rule 13).
const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// Marks the slices of headless Services (rule 2).
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// When what led to this state of the slice happened (rule 88).
const TRIGGER_ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// Reads the slice `key` from its document. `None` if it is none of our business: without a Service
/// (rule 13), of a headless one (rule 2), or made of host names (rule 14).
///
/// An endpoint with something wrong goes to `skipped`, and the others are served: kube-proxy passes over it
/// as well, and a thousand pods must not wait for one.
pub(in crate::source) fn read(
    node: &Node,
    key: ObjectKey,
    skipped: &mut Vec<Wrong>,
) -> Result<Option<EndpointSlice>, Wrong> {
    let service = node.meta("labels", SERVICE_LABEL, |label| match &label.value {
        Value::Text(text) if text.is_empty() => Ok(None),
        _ => names::label(label).map(Some),
    })?;
    let Some(service) = service.flatten() else {
        tracing::debug!(slice = %key, "no label {SERVICE_LABEL}: ignored");
        return Ok(None);
    };
    // Whatever its value: the label's presence counts.
    let headless = node.meta("labels", HEADLESS_LABEL, |_| Ok(()))?.is_some();
    let host_names = node
        .find("addressType")
        .is_some_and(|kind| kind.text() == Ok("FQDN"));
    if headless || host_names {
        tracing::debug!(slice = %key, "headless or made of host names: ignored");
        return Ok(None);
    }
    let family = node.required("addressType", service::family)?;
    let triggered = node.meta("annotations", TRIGGER_ANNOTATION, |when| {
        Ok(trigger_time(when.text()?))
    })?;
    Ok(Some(EndpointSlice {
        key,
        service,
        family,
        ports: ports::read_slice_ports(node)?,
        endpoints: node.sound_entries("endpoints", skipped, |entry| endpoint(entry, family))?,
        triggered: triggered.flatten(),
    }))
}

/// Milliseconds since 1970 of an RFC 3339 time; `None` if it is none: it only serves a measurement.
fn trigger_time(text: &str) -> Option<u64> {
    let time: Timestamp = text.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}

/// Reads one endpoint; `None` if it has no address (rule 12). Addresses behind the first one are not looked at.
fn endpoint(node: &Node, family: Family) -> Result<Option<SliceEndpoint>, Wrong> {
    let first = |entry: &Node| {
        let ip = loose_ip::address_of(entry, family)?;
        match loose_ip::special(ip) {
            Some(what) => Err(Wrong::new(entry, Fault::Special(what))),
            None => Ok(ip),
        }
    };
    node.map()?;
    let address = node.field("addresses", |addresses| {
        let first = addresses.list()?.first().map(first).transpose();
        first.map_err(|wrong| wrong.under("[0]"))
    })?;
    let Some(address) = address.flatten() else {
        return Ok(None);
    };
    Ok(Some(SliceEndpoint {
        address,
        conditions: node.field("conditions", conditions)?.unwrap_or_default(),
        node: node.field("nodeName", |name| name.text().map(str::to_owned))?,
        hints: node.field("hints", hints)?.unwrap_or_default(),
    }))
}

/// For which nodes and zones an endpoint is meant (rules 35 and 36).
fn hints(node: &Node) -> Result<Hints, Wrong> {
    let name = |entry: &Node| entry.required("name", |name| name.text().map(str::to_owned));
    Ok(Hints {
        nodes: node.entries("forNodes", name)?,
        zones: node.entries("forZones", name)?,
    })
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
