//! Which ranges there are, from ServiceCIDRs and VIPs.

use lb_common::address::V4;

use super::*;

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn vip(text: &str) -> V4 {
    V4::from_ip(text.parse().unwrap()).unwrap()
}

/// The ranges after a plan, as `net` for a hull and `net!` for a ServiceCIDR; `None` if none was written.
fn settle(ranges: &mut RangePlanner<V4>) -> Option<Vec<String>> {
    let mut plan = Plan::default();
    ranges.settle(&mut plan);
    let step = plan.steps().first()?;
    let Op::V4(FamilyOp::WriteRanges(written)) = &step.op else {
        panic!("{step:?}");
    };
    assert_eq!(written, ranges.in_force());
    let show = |range: &VipRange<V4>| {
        let net = IpNet::with_netmask(range.addr.to_ip(), range.mask.to_ip()).unwrap();
        let is_cidr = range.flags & VipRange::<V4>::SERVICE_CIDR != 0;
        format!("{net}{}", if is_cidr { "!" } else { "" })
    };
    Some(written.iter().map(show).collect())
}

#[test]
fn without_service_cidrs_one_range_covers_all_vips_and_never_shrinks() {
    let mut ranges = RangePlanner::<V4>::default();
    assert_eq!(settle(&mut ranges), None);
    ranges.cover(vip("10.96.0.1"));
    assert_eq!(settle(&mut ranges).unwrap(), ["10.96.0.1/32"]);
    ranges.cover(vip("10.96.0.10"));
    assert_eq!(settle(&mut ranges).unwrap(), ["10.96.0.0/28"]);
    ranges.cover(vip("10.96.0.3"));
    assert_eq!(settle(&mut ranges), None, "it is covered");
    let mut restarted = RangePlanner::restored(ranges.in_force.clone());
    restarted.cover(vip("10.96.0.3"));
    assert_eq!(settle(&mut restarted), None, "nor by a restart");
}

#[test]
fn service_cidrs_are_joined_and_come_before_the_range_of_what_they_leave() {
    let mut ranges = RangePlanner::<V4>::default();
    let cidrs = nets(&["10.96.1.0/24", "fd00::/112", "10.96.0.0/24", "10.96.1.7/32"]);
    assert!(ranges.tell(&cidrs));
    assert!(!ranges.tell(&cidrs));
    ranges.cover(vip("10.96.1.1"));
    assert_eq!(settle(&mut ranges).unwrap(), ["10.96.0.0/23!"]);
    ranges.cover(vip("10.0.0.1"));
    assert_eq!(
        settle(&mut ranges).unwrap(),
        ["10.96.0.0/23!", "10.0.0.1/32"]
    );
    assert!(ranges.tell(&nets(&["10.0.0.0/8"])));
    assert_eq!(settle(&mut ranges).unwrap(), ["10.0.0.0/8!"]);
    // What was covered once stays so, though its ServiceCIDR goes.
    assert!(ranges.tell(&[]));
    assert_eq!(settle(&mut ranges).unwrap(), ["10.0.0.1/32"]);
}

#[test]
fn service_cidrs_that_find_no_room_are_reported_and_their_vips_covered_all_the_same() {
    let mut ranges = RangePlanner::<V4>::default();
    let cidrs: Vec<_> = (0..9)
        .map(|i| format!("10.{}.0.0/16", 2 * i).parse().unwrap())
        .collect();
    ranges.tell(&cidrs);
    ranges.cover(vip("10.16.0.1"));
    let written = settle(&mut ranges).unwrap();
    assert_eq!(written.len(), VIP_RANGES as usize);
    assert_eq!(written.last().unwrap(), "10.16.0.1/32");
    let problems: Vec<_> = ranges.problems().map(|it| it.to_string()).collect();
    assert_eq!(
        problems,
        [
            "ServiceCIDR 10.14.0.0/16: no room in map RANGES_V4",
            "ServiceCIDR 10.16.0.0/16: no room in map RANGES_V4"
        ]
    );
}

#[test]
fn ranges_that_nobody_of_us_wrote_are_written_anew() {
    let odd = VipRange {
        addr: vip("10.0.0.1"),
        mask: vip("255.0.255.0"),
        flags: VipRange::<V4>::VIPS,
    };
    let mut ranges = RangePlanner::restored(vec![odd]);
    assert_eq!(settle(&mut ranges).unwrap(), Vec::<String>::new());
}
