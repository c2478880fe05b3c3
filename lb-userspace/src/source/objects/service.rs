//! A v1 Service as it is written: what it says itself, with nothing filled in.
//!
//! Only what its own text can tell is checked here; what depends on the cluster (ranges, families,
//! other Services) is `families` and `resolve`.

use std::net::IpAddr;

use lb_common::address::Family;

use super::{
    loose_ip, ports,
    problem::{Fault, Wrong},
    traffic::{self, Traffic},
    tree::{At, Node, Value},
};
use crate::model::{IpFamilyPolicy, ObjectKey, Service, ServiceKind, ServicePort};

/// Whoever sets this label on a Service serves it himself (rule 1).
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";

/// What a manifest says about a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::source) struct ServiceSpec {
    pub(in crate::source) key: ObjectKey,
    pub(in crate::source) kind: ServiceKind,
    /// Whether there is a selector; a headless Service without one defaults differently.
    pub(in crate::source) has_selector: bool,
    pub(in crate::source) policy: Option<At<IpFamilyPolicy>>,
    /// `ipFamilies`, at most two, different ones.
    pub(in crate::source) families: Vec<At<Family>>,
    /// `clusterIPs`, or `clusterIP` alone; at most two, of different families. Empty when headless.
    pub(in crate::source) cluster_ips: Vec<At<IpAddr>>,
    pub(in crate::source) ports: Vec<ServicePort>,
    /// What needs no filling in.
    pub(in crate::source) traffic: Traffic,
}

impl ServiceSpec {
    /// Path of the explicit address at `index`.
    pub(in crate::source) fn address_field(&self, index: usize) -> String {
        match self.cluster_ips.len() {
            1 => "spec.clusterIP".to_owned(),
            _ => format!("spec.clusterIPs[{index}]"),
        }
    }

    /// The Service, with what the cluster has filled in.
    pub(in crate::source) fn complete(
        &self,
        ip_family_policy: Option<IpFamilyPolicy>,
        ip_families: Vec<Family>,
        cluster_ips: Vec<IpAddr>,
    ) -> Service {
        let Traffic {
            internal_policy,
            external_policy,
            affinity,
            external_ips,
            load_balancer_ips,
            source_ranges,
            health_check_node_port,
        } = self.traffic.clone();
        Service {
            key: self.key.clone(),
            kind: self.kind,
            ip_family_policy,
            ip_families,
            cluster_ips,
            ports: self.ports.clone(),
            internal_policy,
            external_policy,
            affinity,
            external_ips,
            load_balancer_ips,
            source_ranges,
            health_check_node_port,
        }
    }

    /// The Service as an API server shows it, which has filled in everything already. Where families are not
    /// said, the addresses say them (rule 21); one without any address is served nowhere (rule 3).
    pub(in crate::source) fn as_stated(&self) -> Service {
        let cluster_ips: Vec<IpAddr> = self.cluster_ips.iter().map(|ip| ip.value).collect();
        let families = if self.families.is_empty() {
            cluster_ips.iter().map(Family::of).collect()
        } else {
            self.families.iter().map(|family| family.value).collect()
        };
        self.complete(
            self.policy.map(|policy| policy.value),
            families,
            cluster_ips,
        )
    }

    /// Line and path of what states the family at `index`; `line` if nothing does.
    pub(in crate::source) fn family_field(&self, line: u32, index: usize) -> (u32, String) {
        match (self.families.get(index), self.cluster_ips.get(index)) {
            (Some(family), _) => (family.line, format!("spec.ipFamilies[{index}]")),
            (None, Some(ip)) => (ip.line, self.address_field(index)),
            (None, None) => (line, format!("spec.ipFamilies[{index}]")),
        }
    }
}

/// Reads the Service `key` from its document. `None` if it is another proxy's (rule 1). What can be left out of
/// it goes to `skipped`.
pub(in crate::source) fn read(
    node: &Node,
    key: ObjectKey,
    skipped: &mut Vec<Wrong>,
) -> Result<Option<ServiceSpec>, Wrong> {
    // Whatever its value: the label's presence counts.
    let foreign = node.meta("labels", PROXY_NAME_LABEL, |_| Ok(()))?;
    if foreign.is_some() {
        return Ok(None);
    }
    let mut spec = node.required("spec", |spec| read_spec(spec, key))?;
    if spec.kind.is_served() {
        spec.traffic = traffic::read(node, spec.kind, skipped)?;
    }
    Ok(Some(spec))
}

fn read_spec(spec: &Node, key: ObjectKey) -> Result<ServiceSpec, Wrong> {
    let declared = spec
        .field("type", declared_kind)?
        .unwrap_or(ServiceKind::ClusterIp);
    if declared == ServiceKind::ExternalName {
        spec.required("externalName", |name| name.text().map(drop))?;
        // Addresses and families of such a Service mean nothing, stale or not (rule 3).
        let ports = ports::read_service_ports(spec, declared)?;
        let (policy, families, cluster_ips) = (None, Vec::new(), Vec::new());
        let kind = declared;
        return Ok(ServiceSpec {
            key,
            kind,
            has_selector: false,
            policy,
            families,
            cluster_ips,
            ports,
            traffic: Traffic::default(),
        });
    }
    let families = spec.entries("ipFamilies", |entry| family(entry).map(|f| entry.at(f)))?;
    distinct(&families, |family| *family, "ipFamilies", spec)?;
    let cluster_ips = read_cluster_ips(spec)?;
    let kind = match cluster_ips {
        None if declared == ServiceKind::ClusterIp => ServiceKind::Headless,
        None => {
            let fault = Fault::Contradiction(format!("type {declared}"));
            return Err(Wrong::of(spec.line, "clusterIP", "None", fault));
        }
        Some(_) => declared,
    };
    Ok(ServiceSpec {
        key,
        kind,
        has_selector: spec
            .field("selector", |s| Ok(!s.map()?.is_empty()))?
            .unwrap_or(false),
        policy: spec.field("ipFamilyPolicy", |entry| policy(entry).map(|p| entry.at(p)))?,
        families,
        cluster_ips: cluster_ips.unwrap_or_default(),
        ports: ports::read_service_ports(spec, kind)?,
        traffic: Traffic::default(),
    })
}

/// The addresses asked for; `None` for `clusterIP: None`.
fn read_cluster_ips(spec: &Node) -> Result<Option<Vec<At<IpAddr>>>, Wrong> {
    let single = spec.field("clusterIP", address_or_none)?.flatten();
    let several = spec.entries("clusterIPs", |entry| {
        address_or_none(entry)?.ok_or_else(|| Wrong::new(entry, Fault::Missing))
    })?;
    match (single, several.first()) {
        (None, None) => return Ok(Some(Vec::new())),
        // As the API server has it: the list may say more than the single field, but not without it.
        (None, Some(first)) => {
            return Err(Wrong::absent(first.line, "clusterIP", Fault::Missing));
        }
        (Some(single), Some(first)) if single.value != first.value => {
            let first = first.value.map_or("None".to_owned(), |ip| ip.to_string());
            let fault = Fault::Contradiction(format!("clusterIPs[0], which is {first}"));
            let single_text = single.value.map_or("None".to_owned(), |ip| ip.to_string());
            return Err(Wrong::of(single.line, "clusterIP", single_text, fault));
        }
        _ => {}
    }
    let asked = if several.is_empty() {
        Vec::from_iter(single)
    } else {
        several
    };
    if let [At { value: None, .. }] = asked[..] {
        return Ok(None);
    }
    let addresses = asked.iter().enumerate().map(|(index, entry)| {
        let value = entry.value.ok_or_else(|| {
            let fault = Fault::Contradiction("addresses beside it".to_owned());
            Wrong::of(entry.line, format!("clusterIPs[{index}]"), "None", fault)
        })?;
        Ok(At {
            line: entry.line,
            value,
        })
    });
    let addresses: Vec<At<IpAddr>> = addresses.collect::<Result<_, Wrong>>()?;
    distinct(&addresses, Family::of, "clusterIPs", spec)?;
    Ok(Some(addresses))
}

/// `None` for an empty text, which the API server takes as absent, and `Some(None)` for "None".
fn address_or_none(node: &Node) -> Result<Option<At<Option<IpAddr>>>, Wrong> {
    match &node.value {
        Value::Text(text) if text.is_empty() => Ok(None),
        Value::Text(text) if text == "None" => Ok(Some(node.at(None))),
        _ => loose_ip::address(node).map(|ip| Some(node.at(Some(ip)))),
    }
}

/// Makes sure that there are at most two entries, of different families.
fn distinct<T>(
    entries: &[At<T>],
    family: impl Fn(&T) -> Family,
    field: &str,
    spec: &Node,
) -> Result<(), Wrong> {
    match entries {
        [a, b] if family(&a.value) == family(&b.value) => Err(Wrong::of(
            b.line,
            format!("{field}[1]"),
            family(&b.value),
            Fault::Duplicate,
        )),
        [] | [_] | [_, _] => Ok(()),
        [_, _, c, ..] => {
            let fault = Fault::Not("possible: there are two families");
            Err(Wrong::of(
                c.line.max(spec.line),
                field,
                format!("{} entries", entries.len()),
                fault,
            ))
        }
    }
}

fn declared_kind(node: &Node) -> Result<ServiceKind, Wrong> {
    match node.text()? {
        "ClusterIP" => Ok(ServiceKind::ClusterIp),
        "NodePort" => Ok(ServiceKind::NodePort),
        "LoadBalancer" => Ok(ServiceKind::LoadBalancer),
        "ExternalName" => Ok(ServiceKind::ExternalName),
        _ => {
            let what = "a Service type (ClusterIP, NodePort, LoadBalancer, ExternalName)";
            Err(Wrong::new(node, Fault::Not(what)))
        }
    }
}

fn policy(node: &Node) -> Result<IpFamilyPolicy, Wrong> {
    match node.text()? {
        "SingleStack" => Ok(IpFamilyPolicy::SingleStack),
        "PreferDualStack" => Ok(IpFamilyPolicy::PreferDualStack),
        "RequireDualStack" => Ok(IpFamilyPolicy::RequireDualStack),
        _ => {
            let what = "a policy (SingleStack, PreferDualStack, RequireDualStack)";
            Err(Wrong::new(node, Fault::Not(what)))
        }
    }
}

/// `IPv4` or `IPv6`.
pub(in crate::source) fn family(node: &Node) -> Result<Family, Wrong> {
    let text = node.text()?;
    let known = Family::BOTH
        .into_iter()
        .find(|family| family.name() == text);
    known.ok_or_else(|| Wrong::new(node, Fault::Not("a family (IPv4, IPv6)")))
}
