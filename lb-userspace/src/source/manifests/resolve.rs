//! From what manifests say to complete Services: what the API server would fill in and refuse.
//!
//! Addresses are given out in an order that makes them stable: first come those in force, then those an
//! agent before this one had assigned, then those asked for explicitly, and the rest is assigned, each
//! group in the order of the Services' names. A Service that is refused stays as it was.

use std::{collections::BTreeMap, net::IpAddr};

use lb_common::address::Family;

use super::{
    allocate::Pool,
    families::{self, Families, Held},
    ranges::Ranges,
};
use crate::model::{ObjectKey, Service, ServiceKind};
use crate::source::objects::{
    problem::{Fault, Wrong},
    service::ServiceSpec,
    tree::At,
};

/// The addresses that a Service had under an agent before this one, as the pinned maps tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The Service.
    pub service: ObjectKey,
    /// Its `clusterIPs`, primary first.
    pub cluster_ips: Vec<IpAddr>,
}

/// Every Service as it shall be served, and what is wrong with those that could not be taken over.
pub(super) type Resolved = (BTreeMap<ObjectKey, Service>, Vec<(ObjectKey, Wrong)>);

/// A Service on its way: its addresses so far, one for each family.
struct Draft<'a> {
    spec: &'a At<ServiceSpec>,
    families: Families,
    addresses: Vec<Option<IpAddr>>,
}

/// Completes all of `specs`; `in_force` is the result of the last time, `restored` what the maps held
/// when the agent started.
pub(super) fn resolve(
    specs: &BTreeMap<&ObjectKey, &At<ServiceSpec>>,
    cidrs: &Ranges,
    in_force: &BTreeMap<ObjectKey, Service>,
    restored: &BTreeMap<ObjectKey, Vec<IpAddr>>,
) -> Resolved {
    let mut services = BTreeMap::new();
    let mut wrongs = Vec::new();
    let mut pool = Pool::default();
    let mut drafts = Vec::new();

    for (&key, &spec) in specs {
        let held = match (in_force.get(key), restored.get(key)) {
            (Some(service), _) => Held::InForce(service),
            (None, Some(addresses)) => Held::Restored(addresses),
            (None, None) => Held::Nothing,
        };
        match draft(spec, cidrs, held) {
            Ok(Some(draft)) => drafts.push((key, draft)),
            Ok(None) => drop(services.insert(key.clone(), external(&spec.value))),
            Err(wrong) => wrongs.push((key.clone(), wrong)),
        }
    }
    // What is in force is kept: by those that keep it, and by those whose new version is refused.
    for (key, _) in &wrongs {
        let addresses = in_force
            .get(key)
            .map_or(&[][..], |service| &service.cluster_ips);
        addresses.iter().for_each(|&ip| pool.reserve(ip, key));
    }
    for (key, draft) in &drafts {
        if in_force.contains_key(*key) {
            draft
                .addresses
                .iter()
                .flatten()
                .for_each(|&ip| pool.reserve(ip, key));
        }
    }
    for (key, draft) in &mut drafts {
        if !in_force.contains_key(*key) {
            draft.restore(
                &mut pool,
                restored.get(*key).map_or(&[], Vec::as_slice),
                cidrs,
                key,
            );
        }
    }
    let mut refuse = |key: &ObjectKey, wrong| wrongs.push((key.clone(), wrong));
    drafts.retain_mut(|(key, draft)| {
        draft
            .claim(&mut pool, key)
            .map_err(|wrong| refuse(key, wrong))
            .is_ok()
    });
    drafts.retain_mut(|(key, draft)| {
        draft
            .assign(&mut pool, cidrs, key)
            .map_err(|wrong| refuse(key, wrong))
            .is_ok()
    });
    services.extend(
        drafts
            .into_iter()
            .map(|(key, draft)| (key.clone(), draft.finish())),
    );
    for (key, _) in &wrongs {
        services.extend(
            in_force
                .get(key)
                .map(|service| (key.clone(), service.clone())),
        );
    }
    (services, wrongs)
}

/// Families of one Service and the addresses it keeps; `None` for an ExternalName.
fn draft<'a>(
    spec: &'a At<ServiceSpec>,
    cidrs: &Ranges,
    held: Held<'_>,
) -> Result<Option<Draft<'a>>, Wrong> {
    if spec.value.kind == ServiceKind::ExternalName {
        return Ok(None);
    }
    let families = families::resolve(spec, cidrs, held)?;
    for (index, ip) in spec.value.cluster_ips.iter().enumerate() {
        let wrong = |fault| Wrong::of(ip.line, spec.value.address_field(index), ip.value, fault);
        cidrs.check(ip.value).map_err(wrong)?;
    }
    let mut addresses = vec![
        None;
        if spec.value.kind.is_served() {
            families.families.len()
        } else {
            0
        }
    ];
    if let Held::InForce(service) = held {
        check_immutable(spec, &families, service)?;
        for (address, &ip) in addresses.iter_mut().zip(&service.cluster_ips) {
            *address = Some(ip);
        }
    }
    Ok(Some(Draft {
        spec,
        families,
        addresses,
    }))
}

/// Refuses what the API server refuses to change during a Service's life.
fn check_immutable(spec: &At<ServiceSpec>, new: &Families, old: &Service) -> Result<(), Wrong> {
    let At { line, value: spec } = spec;
    if old.kind == ServiceKind::ExternalName {
        return Ok(());
    }
    let (was, is) = (
        old.kind == ServiceKind::Headless,
        spec.kind == ServiceKind::Headless,
    );
    if was != is {
        let line = spec.cluster_ips.first().map_or(*line, |ip| ip.line);
        let asked = spec.cluster_ips.first().map(|ip| ip.value.to_string());
        let value =
            asked.unwrap_or_else(|| if is { "None" } else { "an assigned address" }.to_owned());
        let old = old
            .cluster_ips
            .first()
            .map_or("None".to_owned(), IpAddr::to_string);
        return Err(Wrong::of(
            line,
            "spec.clusterIP",
            value,
            Fault::Immutable { was: old },
        ));
    }
    // Headless, neither family nor address is in use.
    let kept = old
        .ip_families
        .iter()
        .zip(&new.families)
        .enumerate()
        .take(if is { 0 } else { 2 });
    for (index, (old, new)) in kept {
        if old != new {
            let (line, field) = spec.family_field(*line, index);
            return Err(Wrong::of(
                line,
                field,
                new,
                Fault::Immutable {
                    was: old.to_string(),
                },
            ));
        }
    }
    for (index, (old, new)) in old.cluster_ips.iter().zip(&spec.cluster_ips).enumerate() {
        if *old != new.value {
            let fault = Fault::Immutable {
                was: old.to_string(),
            };
            return Err(Wrong::of(
                new.line,
                spec.address_field(index),
                new.value,
                fault,
            ));
        }
    }
    Ok(())
}

impl Draft<'_> {
    /// Takes up those of the `restored` addresses that still fit.
    fn restore(&mut self, pool: &mut Pool, restored: &[IpAddr], cidrs: &Ranges, key: &ObjectKey) {
        for (index, address) in self.addresses.iter_mut().enumerate() {
            let family = self.families.families[index];
            let asked = self.spec.value.cluster_ips.get(index);
            *address = restored.iter().copied().find(|&ip| {
                Family::of(&ip) == family
                    && asked.is_none_or(|asked| asked.value == ip)
                    && cidrs.check(ip).is_ok()
                    && pool.find_other(ip, key).is_none()
            });
            address.iter().for_each(|&ip| pool.reserve(ip, key));
        }
    }

    /// Takes up the addresses that the Service asks for, all or none.
    fn claim(&mut self, pool: &mut Pool, key: &ObjectKey) -> Result<(), Wrong> {
        let asked = &self.spec.value.cluster_ips[..];
        for (index, ip) in asked.iter().enumerate().take(self.addresses.len()) {
            if let Some(holder) = pool.find_other(ip.value, key) {
                let field = self.spec.value.address_field(index);
                return Err(Wrong::of(
                    ip.line,
                    field,
                    ip.value,
                    Fault::Taken(holder.clone()),
                ));
            }
        }
        for (address, ip) in self.addresses.iter_mut().zip(asked) {
            pool.reserve(ip.value, key);
            *address = Some(ip.value);
        }
        Ok(())
    }

    /// Assigns the addresses that are still missing, all or none.
    fn assign(&mut self, pool: &mut Pool, cidrs: &Ranges, key: &ObjectKey) -> Result<(), Wrong> {
        for (address, &family) in self.addresses.iter_mut().zip(&self.families.families) {
            if address.is_some() {
                continue;
            }
            let missing = |fault| Wrong::absent(self.spec.line, "spec.clusterIP", fault);
            let mut nets = cidrs.assignable(family).peekable();
            let first = *nets.peek().ok_or_else(|| missing(Fault::NoRange))?;
            let ip = nets
                .find_map(|net| pool.find_free(net, key))
                .ok_or_else(|| missing(Fault::Exhausted(first)))?;
            *address = Some(ip);
        }
        // The two families do not compete, so reserving afterwards is soon enough.
        self.addresses
            .iter()
            .flatten()
            .for_each(|&ip| pool.reserve(ip, key));
        Ok(())
    }

    fn finish(self) -> Service {
        let cluster_ips = self.addresses.into_iter().flatten().collect();
        let Families { policy, families } = self.families;
        self.spec
            .value
            .complete(Some(policy), families, cluster_ips)
    }
}

/// An ExternalName Service: nothing is filled in, nothing is served.
fn external(spec: &ServiceSpec) -> Service {
    spec.complete(None, Vec::new(), Vec::new())
}
