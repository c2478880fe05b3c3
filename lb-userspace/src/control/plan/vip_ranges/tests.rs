//! Which ranges there are, from ServiceCIDRs and VIPs.

use lb_common::address::V4;

use super::*;

fn nets(texts: &[&str]) -> Surroundings {
    around(texts, &[])
}

fn around(cidrs: &[&str], own: &[&str]) -> Surroundings {
    Surroundings {
        cidrs: cidrs.iter().map(|text| text.parse().unwrap()).collect(),
        own: own.iter().map(|text| text.parse().unwrap()).collect(),
    }
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
    assert!(ranges.tell(&nets(&[])));
    assert_eq!(settle(&mut ranges).unwrap(), ["10.0.0.1/32"]);
}

#[test]
fn service_cidrs_that_find_no_room_are_reported_and_their_vips_covered_all_the_same() {
    let mut ranges = RangePlanner::<V4>::default();
    let cidrs: Vec<_> = (0..9).map(|i| format!("10.{}.0.0/16", 2 * i)).collect();
    ranges.tell(&nets(&cidrs.iter().map(String::as_str).collect::<Vec<_>>()));
    ranges.cover(vip("10.16.0.1"));
    let written = settle(&mut ranges).unwrap();
    assert_eq!(written.len(), VIP_RANGES as usize);
    assert_eq!(written.last().unwrap(), "10.16.0.1/32");
    let problems: Vec<_> = ranges.problems().map(|it| it.to_string()).collect();
    assert_eq!(
        problems,
        [
            "ServiceCIDR 10.14.0.0/16: no room in map RANGES_V4; fewer and larger ServiceCIDRs fit",
            "ServiceCIDR 10.16.0.0/16: no room in map RANGES_V4; fewer and larger ServiceCIDRs fit"
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

#[test]
fn addresses_far_apart_get_hulls_of_their_own_as_long_as_there_may_be_more() {
    let mut ranges = RangePlanner::<V4>::default();
    for address in [
        "10.96.0.1",
        "203.0.113.7",
        "10.96.128.1",
        "203.0.113.9",
        "192.0.2.1",
    ] {
        ranges.cover(vip(address));
    }
    let three = ["10.96.0.0/16", "192.0.2.1/32", "203.0.113.0/28"];
    assert_eq!(settle(&mut ranges).unwrap(), three);
    // Then the one that has to grow least takes it.
    ranges.cover(vip("198.51.100.1"));
    let three = ["10.96.0.0/16", "192.0.0.0/5", "203.0.113.0/28"];
    assert_eq!(settle(&mut ranges).unwrap(), three);
}

#[test]
fn a_hull_does_not_grow_over_the_nodes_own_addresses_if_it_need_not() {
    let mut ranges = RangePlanner::<V4>::default();
    ranges.tell(&around(&[], &["192.168.1.10"]));
    ranges.cover(vip("192.168.1.1"));
    ranges.cover(vip("192.168.1.240"));
    ranges.cover(vip("192.168.1.250"));
    assert_eq!(
        settle(&mut ranges).unwrap(),
        ["192.168.1.1/32", "192.168.1.240/28"]
    );
}

#[test]
fn hulls_make_room_for_service_cidrs_and_stay_where_they_are_over_a_restart() {
    let mut ranges = RangePlanner::<V4>::default();
    for address in ["203.0.113.7", "10.0.0.1", "192.0.2.1"] {
        ranges.cover(vip(address));
    }
    let written = settle(&mut ranges).unwrap();
    let mut restarted = RangePlanner::restored(ranges.in_force.clone());
    for address in ["192.0.2.1", "203.0.113.7", "10.0.0.1"] {
        restarted.cover(vip(address));
    }
    assert_eq!(settle(&mut restarted), None, "{written:?}");
    let cidrs: Vec<_> = (0..7)
        .map(|i| format!("10.{}.0.0/16", 2 * i + 16))
        .collect();
    ranges.tell(&nets(&cidrs.iter().map(String::as_str).collect::<Vec<_>>()));
    let written = settle(&mut ranges).unwrap();
    assert_eq!(written.len(), VIP_RANGES as usize);
    assert_eq!(written.last().unwrap(), "0.0.0.0/0");
}
