//! The ranges that tell the datapath where VIPs are, so that it looks no further for any other address.
//!
//! ServiceCIDRs are written as such, since what nobody has in them is dropped (rule 50). VIPs outside of
//! them, and all VIPs where there are no ServiceCIDRs, are covered by a few more ranges, the *hulls*; so are
//! the addresses of load balancers and external ones, which are far from the cluster IPs. One hull over all of
//! them would be most of the Internet, and all its traffic would be looked at twice. An address therefore joins
//! a hull nearby, else it begins one of its own; when there are as many as there may be, the one that has to
//! grow least takes it. Hulls never shrink while the maps live: a Service that is deleted leaves connections
//! behind that are still to be recognised.

use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::{
    address::{Address, Family},
    tables::{VIP_RANGES, VipRange},
};

use super::{FamilyOp, Op, Plan, Step};
use crate::control::{
    maps::Table,
    problem::{Cause, Problem},
};

/// ServiceCIDRs that get a range; the last one is kept for a hull, which may be needed any time.
const MOST_CIDRS: usize = VIP_RANGES as usize - 1;
/// Hulls there may be: few, since the datapath goes through all of them for every other address.
const MOST_HULLS: usize = 3;

/// What is known of addresses, besides what Services say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The ServiceCIDRs, sorted, each once.
    pub cidrs: Vec<IpNet>,
    /// The node's own addresses, sorted, each once.
    pub own: Vec<IpAddr>,
}

/// Mirror of the ranges of one family.
#[derive(Clone, Debug)]
pub(in super::super) struct RangePlanner<A> {
    in_force: Vec<VipRange<A>>,
    /// As last told, of both families.
    told: Surroundings,
    /// Those of this family, joined where they can be.
    cidrs: Vec<IpNet>,
    /// None within another, sorted.
    hulls: Vec<IpNet>,
}

impl<A> Default for RangePlanner<A> {
    fn default() -> Self {
        Self {
            in_force: Vec::new(),
            told: Surroundings::default(),
            cidrs: Vec::new(),
            hulls: Vec::new(),
        }
    }
}

impl<A: Address> RangePlanner<A> {
    /// A mirror of these ranges. One that cannot be ours is written anew.
    pub(in super::super) fn restored(ranges: Vec<VipRange<A>>) -> Self {
        let hulls = ranges
            .iter()
            .filter(|range| range.flags == VipRange::<A>::VIPS)
            .filter_map(|range| {
                let net = IpNet::with_netmask(range.addr.to_ip(), range.mask.to_ip());
                net.ok().map(|net| net.trunc())
            })
            .collect();
        let mut restored = Self {
            in_force: ranges,
            ..Self::default()
        };
        restored.set_hulls(hulls);
        restored
    }

    /// Takes in what is around; whether it differs from what was told before, so that every VIP is to be
    /// covered anew.
    pub(super) fn tell(&mut self, surroundings: &Surroundings) -> bool {
        if self.told == *surroundings {
            return false;
        }
        self.told.clone_from(surroundings);
        let ours = self.told.cidrs.iter();
        let ours = ours.filter(|net| Family::of(&net.addr()) == A::FAMILY);
        self.cidrs = IpNet::aggregate(&ours.map(IpNet::trunc).collect());
        self.cidrs.sort_unstable();
        true
    }

    /// Whether the node itself has that address.
    pub(super) fn is_own(&self, address: A) -> bool {
        self.told.own.binary_search(&address.to_ip()).is_ok()
    }

    /// Sees to it that a range covers the VIP.
    pub(super) fn cover(&mut self, vip: A) {
        let ip: IpAddr = vip.to_ip();
        let mut all = self.served().iter().chain(&self.hulls);
        if all.any(|net| net.contains(&ip)) {
            return;
        }
        let wider = self.hulls.iter().map(|hull| join(*hull, ip.into()));
        let mut hulls = self.hulls.clone();
        let near = wider.clone().filter(|net| self.is_near(net));
        // The longest prefix is the smallest net.
        let joined = match near.max_by_key(IpNet::prefix_len) {
            Some(near) => near,
            None if hulls.len() < self.most_hulls() => ip.into(),
            None => wider
                .max_by_key(IpNet::prefix_len)
                .unwrap_or_else(|| ip.into()),
        };
        hulls.push(joined);
        self.set_hulls(hulls);
    }

    /// Adds what brings the map to the ranges there should be.
    pub(super) fn settle(&mut self, plan: &mut Plan)
    where
        Op: From<FamilyOp<A>>,
    {
        while self.hulls.len() > self.most_hulls() {
            let pairs = (self.hulls.iter().enumerate())
                .flat_map(|(at, a)| self.hulls[at + 1..].iter().map(|b| join(*a, *b)));
            let Some(joined) = pairs.max_by_key(IpNet::prefix_len) else {
                break;
            };
            let mut hulls = self.hulls.clone();
            hulls.push(joined);
            self.set_hulls(hulls);
        }
        let cidr = VipRange::<A>::VIPS | VipRange::<A>::SERVICE_CIDR;
        let hulls = self.hulls.iter();
        let hulls = hulls.filter(|hull| !self.served().iter().any(|net| net.contains(*hull)));
        let cidrs = self.served().iter().map(|net| (*net, cidr));
        // The hulls come last: where one overlaps a ServiceCIDR, that one is found first.
        let wanted: Vec<_> = cidrs
            .chain(hulls.map(|net| (*net, VipRange::<A>::VIPS)))
            .filter_map(|(net, flags)| {
                Some(VipRange {
                    addr: A::from_ip(net.network())?,
                    mask: A::from_ip(net.netmask())?,
                    flags,
                })
            })
            .collect();
        if wanted != self.in_force {
            self.in_force.clone_from(&wanted);
            plan.push(Step::NO_PORT, None, FamilyOp::WriteRanges(wanted).into());
        }
    }

    pub(super) fn in_force(&self) -> &[VipRange<A>] {
        &self.in_force
    }

    /// ServiceCIDRs without a range.
    pub(super) fn problems(&self) -> impl Iterator<Item = Problem> {
        self.cidrs.iter().skip(MOST_CIDRS).map(|net| Problem {
            service: None,
            field: "ServiceCIDR".into(),
            value: net.to_string(),
            cause: Cause::NoRoom(Table::Ranges(A::FAMILY)),
        })
    }

    fn served(&self) -> &[IpNet] {
        &self.cidrs[..self.cidrs.len().min(MOST_CIDRS)]
    }

    fn most_hulls(&self) -> usize {
        MOST_HULLS.min(VIP_RANGES as usize - self.served().len())
    }

    /// Whether the addresses of a net belong together, and none of them is the node's, whose traffic is not to be
    /// looked at twice.
    fn is_near(&self, net: &IpNet) -> bool {
        // As wide as ranges of cluster IPs are: 10.96.0.0/12 is what kubeadm assigns, and /108 the most for IPv6.
        let least = match A::FAMILY {
            Family::V4 => 12,
            Family::V6 => 96,
        };
        let is_own = |ip: &IpAddr| net.contains(ip);
        net.prefix_len() >= least && !self.told.own.iter().any(is_own)
    }

    fn set_hulls(&mut self, hulls: Vec<IpNet>) {
        self.hulls = IpNet::aggregate(&hulls);
        self.hulls.sort_unstable();
    }
}

/// The smallest net that has both in it.
fn join(a: IpNet, b: IpNet) -> IpNet {
    let mut joined = a;
    while !joined.contains(&b) {
        let Some(wider) = joined.supernet() else {
            break;
        };
        joined = wider;
    }
    joined
}

#[cfg(test)]
mod tests;
