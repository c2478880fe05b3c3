//! How clients reach a Service besides its cluster IP, and which endpoints they then get: policies, affinity,
//! addresses from outside (rules 20, 23 to 28).
//!
//! The API server fills in the defaults of these fields; they are the same for every cluster, so they are
//! applied here and both sources agree.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    loose_ip, networks,
    problem::{Fault, Wrong},
    tree::{Node, Value},
};
use crate::model::{ServiceKind, TrafficPolicy};

/// Seconds of session affinity if the Service does not say (`DefaultClientIPServiceAffinitySeconds`).
const AFFINITY_DEFAULT: u32 = 10_800;
/// Most seconds the API server allows.
const AFFINITY_LIMIT: u32 = 86_400;

/// The fields of that name of a [`Service`](crate::model::Service).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::source) struct Traffic {
    pub(in crate::source) internal_policy: TrafficPolicy,
    pub(in crate::source) external_policy: TrafficPolicy,
    pub(in crate::source) affinity: Option<u32>,
    pub(in crate::source) external_ips: Vec<IpAddr>,
    pub(in crate::source) load_balancer_ips: Vec<IpAddr>,
    pub(in crate::source) source_ranges: Vec<IpNet>,
    pub(in crate::source) health_check_node_port: Option<u16>,
}

/// Reads them from a Service of kind `kind`.
///
/// An address or range that makes no sense goes to `skipped`. If no source range is left there is no
/// restriction any more, as with kube-proxy. The annotation
/// `service.beta.kubernetes.io/load-balancer-source-ranges` is for cloud providers; kube-proxy does not read it.
pub(super) fn read(
    service: &Node,
    kind: ServiceKind,
    skipped: &mut Vec<Wrong>,
) -> Result<Traffic, Wrong> {
    let mut of_spec = Vec::new();
    let traffic = service.required("spec", |spec| read_spec(spec, kind, &mut of_spec))?;
    skipped.extend(of_spec.into_iter().map(|wrong| wrong.under("spec")));
    let mut of_status = Vec::new();
    let ingress = service.field("status", |status| {
        status.field("loadBalancer", |balancer| {
            balancer.sound_entries("ingress", &mut of_status, ingress_ip)
        })
    })?;
    let of_status = of_status.into_iter();
    skipped.extend(of_status.map(|wrong| wrong.under("loadBalancer").under("status")));
    Ok(Traffic {
        load_balancer_ips: unique(ingress.flatten().unwrap_or_default()),
        ..traffic
    })
}

fn read_spec(spec: &Node, kind: ServiceKind, skipped: &mut Vec<Wrong>) -> Result<Traffic, Wrong> {
    let external_ips = spec.sound_entries("externalIPs", skipped, |entry| {
        let ip = loose_ip::address(entry)?;
        match loose_ip::special(ip) {
            Some(what) => Err(Wrong::new(entry, Fault::Special(what))),
            None => Ok(Some(ip)),
        }
    })?;
    let source_ranges = spec.sound_entries("loadBalancerSourceRanges", skipped, |entry| {
        let text = entry.text()?.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let network = networks::parse_loose_network(text);
        let fault = Fault::Not("a network such as 10.0.0.0/8");
        network.map(Some).ok_or_else(|| Wrong::new(entry, fault))
    })?;
    // As `ExternallyAccessible` in pkg/api/v1/service: else the policy has no meaning.
    let is_external = matches!(kind, ServiceKind::NodePort | ServiceKind::LoadBalancer)
        || kind == ServiceKind::ClusterIp && !external_ips.is_empty();
    let external_policy = spec.field("externalTrafficPolicy", policy)?;
    let external_policy = external_policy.filter(|_| is_external).unwrap_or_default();
    let health_check = spec.field("healthCheckNodePort", super::ports::node_port)?;
    // Rule 27.
    let needs_check = kind == ServiceKind::LoadBalancer && external_policy == TrafficPolicy::Local;
    Ok(Traffic {
        internal_policy: spec
            .field("internalTrafficPolicy", policy)?
            .unwrap_or_default(),
        external_policy,
        affinity: affinity(spec)?,
        external_ips: unique(external_ips),
        load_balancer_ips: Vec::new(),
        source_ranges: unique(source_ranges),
        health_check_node_port: health_check.filter(|&port| needs_check && port != 0),
    })
}

/// The address of one entry of `status.loadBalancer.ingress`, if packets for it come to nodes (rule 24):
/// not if it is only a host name, nor with an ipMode other than VIP.
fn ingress_ip(entry: &Node) -> Result<Option<IpAddr>, Wrong> {
    let mode = entry.field("ipMode", |mode| Ok(mode.text()? == "VIP"))?;
    let ip = entry.field("ip", |ip| match &ip.value {
        Value::Text(text) if text.is_empty() => Ok(None),
        _ => loose_ip::address(ip).map(Some),
    })?;
    Ok(ip.flatten().filter(|_| mode != Some(false)))
}

/// Seconds of session affinity (rule 28).
fn affinity(spec: &Node) -> Result<Option<u32>, Wrong> {
    let by_client = spec.field("sessionAffinity", |node| match node.text()? {
        "ClientIP" => Ok(true),
        "None" | "" => Ok(false),
        _ => Err(Wrong::new(node, Fault::Not("an affinity (None, ClientIP)"))),
    })?;
    if by_client != Some(true) {
        return Ok(None);
    }
    let seconds = |node: &Node| {
        let seconds = match node.value {
            Value::Int(value) => u32::try_from(value).ok(),
            _ => None,
        };
        let seconds = seconds.filter(|seconds| (1..=AFFINITY_LIMIT).contains(seconds));
        seconds.ok_or_else(|| Wrong::new(node, Fault::Not("a number of seconds (1..86400)")))
    };
    let stated = spec.field("sessionAffinityConfig", |config| {
        config.field("clientIP", |client| client.field("timeoutSeconds", seconds))
    })?;
    Ok(Some(stated.flatten().flatten().unwrap_or(AFFINITY_DEFAULT)))
}

fn policy(node: &Node) -> Result<TrafficPolicy, Wrong> {
    match node.text()? {
        // Empty is what a field without a value looks like in older API versions.
        "Cluster" | "" => Ok(TrafficPolicy::Cluster),
        "Local" => Ok(TrafficPolicy::Local),
        _ => Err(Wrong::new(
            node,
            Fault::Not("a traffic policy (Cluster, Local)"),
        )),
    }
}

/// The same without what stands there again, in the order of the first mention.
fn unique<T: PartialEq>(entries: Vec<T>) -> Vec<T> {
    let mut unique = Vec::with_capacity(entries.len());
    for entry in entries {
        if !unique.contains(&entry) {
            unique.push(entry);
        }
    }
    unique
}
