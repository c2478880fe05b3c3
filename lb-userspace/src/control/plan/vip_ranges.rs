//! The ranges that tell the datapath where VIPs are, so that it looks no further for any other address.
//!
//! ServiceCIDRs are written as such, since what nobody has in them is dropped (rule 50). VIPs outside of
//! them, and all VIPs where there are no ServiceCIDRs, are covered by one more range, the *hull*. It never
//! shrinks while the maps live: a Service that is deleted leaves connections behind that are still to be
//! recognised.

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

/// ServiceCIDRs that get a range; the last one is kept for the hull, which may be needed any time.
const MOST_CIDRS: usize = VIP_RANGES as usize - 1;

/// Mirror of the ranges of one family.
#[derive(Clone, Debug)]
pub(in super::super) struct RangePlanner<A> {
    in_force: Vec<VipRange<A>>,
    /// The ServiceCIDRs as last told, of both families.
    told: Vec<IpNet>,
    /// Those of this family, joined where they can be.
    cidrs: Vec<IpNet>,
    hull: Option<IpNet>,
}

impl<A> Default for RangePlanner<A> {
    fn default() -> Self {
        Self {
            in_force: Vec::new(),
            told: Vec::new(),
            cidrs: Vec::new(),
            hull: None,
        }
    }
}

impl<A: Address> RangePlanner<A> {
    /// A mirror of these ranges. One that cannot be ours is written anew.
    pub(in super::super) fn restored(ranges: Vec<VipRange<A>>) -> Self {
        let mut hulls = ranges
            .iter()
            .filter(|range| range.flags == VipRange::<A>::VIPS);
        let hull = hulls.next().and_then(|range| {
            IpNet::with_netmask(range.addr.to_ip(), range.mask.to_ip())
                .ok()
                .map(|net| net.trunc())
        });
        Self {
            in_force: ranges,
            hull,
            ..Self::default()
        }
    }

    /// Takes in all ServiceCIDRs; whether they differ from those told before, so that every VIP is to be
    /// covered anew.
    pub(super) fn tell(&mut self, cidrs: &[IpNet]) -> bool {
        if self.told == cidrs {
            return false;
        }
        self.told = cidrs.to_vec();
        let ours = cidrs
            .iter()
            .filter(|net| Family::of(&net.addr()) == A::FAMILY);
        self.cidrs = IpNet::aggregate(&ours.map(IpNet::trunc).collect());
        self.cidrs.sort_unstable();
        true
    }

    /// Sees to it that a range covers the VIP.
    pub(super) fn cover(&mut self, vip: A) {
        let ip: IpAddr = vip.to_ip();
        if self.served().iter().any(|net| net.contains(&ip)) {
            return;
        }
        let mut hull = self.hull.unwrap_or_else(|| ip.into());
        while !hull.contains(&ip) {
            let Some(wider) = hull.supernet() else {
                return;
            };
            hull = wider;
        }
        self.hull = Some(hull);
    }

    /// Adds what brings the map to the ranges there should be.
    pub(super) fn settle(&mut self, plan: &mut Plan)
    where
        Op: From<FamilyOp<A>>,
    {
        let cidr = VipRange::<A>::VIPS | VipRange::<A>::SERVICE_CIDR;
        let hull = self
            .hull
            .filter(|hull| !self.served().iter().any(|net| net.contains(hull)));
        let cidrs = self.served().iter().map(|net| (*net, cidr));
        // The hull comes last: where it overlaps a ServiceCIDR, that one is found first.
        let wanted: Vec<_> = cidrs
            .chain(hull.map(|net| (net, VipRange::<A>::VIPS)))
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
}

#[cfg(test)]
mod tests;
