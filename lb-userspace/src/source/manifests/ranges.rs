//! The Service ranges in force: those of the flag and those of the ServiceCIDR objects, as one.
//!
//! In a cluster the flag makes an object called "kubernetes", and further objects add ranges. Here both may
//! be given, or neither: a directory that says every address itself needs no range at all.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use lb_common::address::Family;

use super::{
    allocate,
    cidrs::{self, ServiceCidrs, family_of},
};
use crate::{
    model::{ObjectKey, ServiceCidr},
    source::objects::problem::Fault,
};

/// What the object that stands for the flag is called.
const DEFAULT: &str = "kubernetes";

/// All ranges, and how many of them, from the first on, addresses are assigned from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    nets: Vec<IpNet>,
    assigned: usize,
}

/// The ServiceCIDRs that count: the objects, and the flag unless an object has taken its place.
pub(super) fn service_cidrs<'a>(
    flag: &ServiceCidrs,
    objects: impl Iterator<Item = &'a ServiceCidr>,
) -> BTreeMap<ObjectKey, ServiceCidr> {
    let of_flag = ServiceCidr {
        name: DEFAULT.to_owned(),
        cidrs: flag.nets().to_vec(),
    };
    let of_flag = Some(of_flag).filter(|_| !flag.is_empty());
    let objects = objects.cloned();
    // The later of two of one name stays.
    of_flag
        .into_iter()
        .chain(objects)
        .map(|cidr| (ObjectKey::new("", &*cidr.name), cidr))
        .collect()
}

impl Ranges {
    /// The ranges of `flag`, from which addresses are then assigned, and those of `cidrs`; without a flag all
    /// of them are assigned from, those of "kubernetes" first.
    pub(super) fn new(flag: &ServiceCidrs, cidrs: &BTreeMap<ObjectKey, ServiceCidr>) -> Self {
        let (first, others): (Vec<_>, Vec<_>) =
            cidrs.values().partition(|cidr| cidr.name == DEFAULT);
        let objects = first.into_iter().chain(others);
        let objects = objects.flat_map(|cidr| cidr.cidrs.iter().copied());
        let mut nets = flag.nets().to_vec();
        for net in objects {
            if !nets.contains(&net) {
                nets.push(net);
            }
        }
        let assigned = if flag.is_empty() {
            nets.len()
        } else {
            flag.nets().len()
        };
        Self { nets, assigned }
    }

    /// Whether there is a range of `family`.
    pub(super) fn has(&self, family: Family) -> bool {
        self.of(family).next().is_some()
    }

    /// What is wrong with `ip` as the address of a Service, as far as ranges go. Of a family without range
    /// nothing is known.
    pub(super) fn check(&self, ip: IpAddr) -> Result<(), Fault> {
        let Some(first) = self.of(Family::of(&ip)).next() else {
            return Ok(());
        };
        let holder = self.of(Family::of(&ip)).find(|net| net.contains(&ip));
        match holder {
            None => Err(Fault::OutOfRange(first)),
            Some(net) if !allocate::is_usable(net, ip) => Err(Fault::Unusable(net)),
            Some(_) => Ok(()),
        }
    }

    /// The ranges of `family` to assign from, in that order.
    pub(super) fn assignable(&self, family: Family) -> impl Iterator<Item = IpNet> {
        let nets = self.nets.iter().take(self.assigned).copied();
        nets.filter(move |net| family_of(net) == family && cidrs::is_assignable(*net))
    }

    /// The family of a Service that asks for none.
    pub(super) fn default_family(&self) -> Option<Family> {
        self.nets.first().map(family_of)
    }

    /// Whether no range is known: then only addresses given explicitly can be used.
    pub(super) fn is_empty(&self) -> bool {
        self.nets.is_empty()
    }

    /// Whether there is a range of each family.
    pub(super) fn is_dual_stack(&self) -> bool {
        Family::BOTH.into_iter().all(|family| self.has(family))
    }

    fn of(&self, family: Family) -> impl Iterator<Item = IpNet> {
        let nets = self.nets.iter().copied();
        nets.filter(move |net| family_of(net) == family)
    }
}
