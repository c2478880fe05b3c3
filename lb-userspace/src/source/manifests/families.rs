//! Which families and which policy a Service gets: the API server's defaulting, step by step.
//!
//! Follows `initIPFamilyFields` in kubernetes `pkg/registry/core/service/storage/alloc.go` and the update
//! rules in `pkg/apis/core/validation`. One difference, on purpose: a manifest that does not state a
//! policy has the default one, not the one it stated before it was edited, so that agents that see the
//! same manifests agree whenever they were started.

use std::net::IpAddr;

use lb_common::address::Family;

use super::ranges::Ranges;
use crate::model::{IpFamilyPolicy, Service, ServiceKind};
use crate::source::objects::{
    problem::{Fault, Wrong},
    service::ServiceSpec,
    tree::At,
};

/// What a Service has from before.
#[derive(Clone, Copy, Debug)]
pub(super) enum Held<'a> {
    /// Nothing: it is new.
    Nothing,
    /// These addresses, according to the maps of an agent before this one. Kept where possible.
    Restored(&'a [IpAddr]),
    /// This is what is served now. What Kubernetes calls immutable is, against this.
    InForce(&'a Service),
}

impl Held<'_> {
    /// The addresses it has, primary first.
    pub(super) fn addresses(&self) -> &[IpAddr] {
        match self {
            Self::Nothing => &[],
            Self::Restored(addresses) => addresses,
            Self::InForce(service) => &service.cluster_ips,
        }
    }
}

/// Policy and families of a Service, primary first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Families {
    pub(super) policy: IpFamilyPolicy,
    pub(super) families: Vec<Family>,
}

/// Fills in policy and families of `spec`, which is no ExternalName.
pub(super) fn resolve(
    spec: &At<ServiceSpec>,
    cidrs: &Ranges,
    held: Held<'_>,
) -> Result<Families, Wrong> {
    let At { line, value: spec } = spec;
    let headless = spec.kind == ServiceKind::Headless;
    let lone_headless = headless && !spec.has_selector;
    let policy = spec.policy.map_or(
        if lone_headless {
            IpFamilyPolicy::RequireDualStack
        } else {
            IpFamilyPolicy::SingleStack
        },
        |policy| policy.value,
    );
    let policy_line = spec.policy.map_or(*line, |policy| policy.line);
    let mut families = stated(spec, policy, policy_line, held)?;
    if families.is_empty() {
        // As with the API server, a Service that says nothing stays in the family it is in.
        let served = |family: &Family| cidrs.is_empty() || cidrs.has(*family);
        families.extend(held.addresses().first().map(Family::of).filter(served));
    }
    let single = policy == IpFamilyPolicy::SingleStack;

    if lone_headless {
        // Nothing is ever assigned, so the ranges do not bound what it may name.
        let primary = families
            .first()
            .copied()
            .or(cidrs.default_family())
            .unwrap_or(Family::V4);
        let both = !single || families.len() == 2;
        return Ok(Families {
            policy,
            families: with_other(primary, both),
        });
    }
    if !cidrs.is_empty() {
        for (index, &family) in families.iter().enumerate() {
            if !cidrs.has(family) {
                let (line, field) = spec.family_field(*line, index);
                return Err(Wrong::of(line, field, family, Fault::NoRangeOf(family)));
            }
        }
        if policy == IpFamilyPolicy::RequireDualStack && !cidrs.is_dual_stack() {
            return Err(Wrong::of(
                policy_line,
                "spec.ipFamilyPolicy",
                policy,
                Fault::NotDualStack,
            ));
        }
    } else if !headless && spec.cluster_ips.is_empty() {
        return Err(Wrong::absent(*line, "spec.clusterIP", Fault::NoRange));
    }
    let primary = families
        .first()
        .copied()
        .or(cidrs.default_family())
        .unwrap_or(Family::V4);
    let required = policy == IpFamilyPolicy::RequireDualStack;
    let both = families.len() == 2 || !single && cidrs.is_dual_stack() || required;
    Ok(Families {
        policy,
        families: with_other(primary, both),
    })
}

/// The families that the Service states, by name or by address; those of addresses it holds do not
/// count. Checks that names, addresses and policy agree.
fn stated(
    spec: &ServiceSpec,
    policy: IpFamilyPolicy,
    policy_line: u32,
    held: Held<'_>,
) -> Result<Vec<Family>, Wrong> {
    for (index, (family, ip)) in spec.families.iter().zip(&spec.cluster_ips).enumerate() {
        if Family::of(&ip.value) != family.value {
            let field = spec.address_field(index);
            return Err(Wrong::of(
                ip.line,
                field,
                ip.value,
                Fault::WrongFamily(family.value),
            ));
        }
    }
    let named = spec.families.iter().map(|family| family.value);
    let unnamed = spec.cluster_ips.iter().skip(spec.families.len());
    let mut families: Vec<Family> = named
        .chain(unnamed.map(|ip| Family::of(&ip.value)))
        .collect();
    if policy == IpFamilyPolicy::SingleStack && families.len() == 2 {
        // As `kubectl get` printed it, with only the policy edited: the second family is released.
        let held = held.addresses().first().map(Family::of);
        if spec.policy.is_none() || held != Some(families[0]) {
            let what = if spec.families.len() == 2 {
                "two ipFamilies"
            } else {
                "two clusterIPs"
            };
            let hint = "; PreferDualStack or RequireDualStack does";
            let fault = Fault::Contradiction(format!("{what}{hint}"));
            return Err(Wrong::of(policy_line, "spec.ipFamilyPolicy", policy, fault));
        }
        families.truncate(1);
    }
    if let [a, b] = families[..]
        && a == b
    {
        let (line, field) = spec.family_field(policy_line, 1);
        return Err(Wrong::of(line, field, b, Fault::Duplicate));
    }
    Ok(families)
}

/// `primary`, and the other family after it if `both`.
fn with_other(primary: Family, both: bool) -> Vec<Family> {
    let other = match primary {
        Family::V4 => Family::V6,
        Family::V6 => Family::V4,
    };
    if both {
        vec![primary, other]
    } else {
        vec![primary]
    }
}
