//! Do Services get the same addresses from every agent, and keep them?

use std::net::IpAddr;

use proptest::{collection::btree_map, prelude::*, sample::select};

use super::*;
use crate::model::ObjectKey;
use crate::source::manifests::Problem;

/// The name and specs a generated Service may have; a small range makes names meet.
const SMALL: &str = "10.96.0.0/27,fd00:10:96::/123";

fn specs() -> impl Strategy<Value = BTreeMap<String, &'static str>> {
    let spec = select(vec![
        "",
        "ipFamilies: [IPv6]",
        "ipFamilyPolicy: PreferDualStack",
        "ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6, IPv4]",
        "clusterIP: None",
        "clusterIP: 10.96.0.7",
        "clusterIP: 'fd00:10:96::9', ipFamilyPolicy: PreferDualStack",
    ]);
    btree_map("[a-f]{1,2}", spec, 0..16)
}

/// One file with `specs` in the order of `order`.
fn file(specs: &BTreeMap<String, &str>, order: &[usize]) -> String {
    let mut documents: Vec<String> = specs
        .iter()
        .map(|(name, spec)| service(name, spec))
        .collect();
    for (index, &place) in order.iter().enumerate().take(documents.len()) {
        let place = place % documents.len();
        documents.swap(index, place);
    }
    documents.concat()
}

fn addresses(update: &Update) -> BTreeMap<String, Vec<IpAddr>> {
    services(update)
        .into_iter()
        .map(|(name, service)| (name, service.cluster_ips))
        .collect()
}

fn assigned(addresses: &BTreeMap<String, Vec<IpAddr>>) -> Vec<Assigned> {
    let assigned = addresses.iter().map(|(name, ips)| Assigned {
        service: ObjectKey::new("default", name.as_str()),
        cluster_ips: ips.clone(),
    });
    assigned.collect()
}

/// Name of the object a problem is about.
fn name(problem: &Problem) -> &str {
    &problem.object.as_ref().unwrap().key.name
}

proptest! {
    #[test]
    fn any_order_of_documents_gives_the_same_addresses(
        specs in specs(), order in prop::collection::vec(0usize..16, 16),
    ) {
        let one = addresses(&read(SMALL, &file(&specs, &[])));
        prop_assert_eq!(&one, &addresses(&read(SMALL, &file(&specs, &order))));
        // Nor does it matter which file says what.
        let files: Vec<(String, String)> =
            specs.iter().map(|(name, spec)| (format!("{name}.yaml"), service(name, spec))).collect();
        let files: Vec<(&str, &str)> =
            files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        prop_assert_eq!(&one, &addresses(&write(&mut directory(SMALL, Vec::new()), &files)));
    }

    #[test]
    fn no_address_is_given_twice_and_all_are_in_range(specs in specs()) {
        let cidrs: crate::source::manifests::ServiceCidrs = SMALL.parse().unwrap();
        let update = read(SMALL, &file(&specs, &[]));
        let mut all: Vec<IpAddr> = addresses(&update).into_values().flatten().collect();
        for ip in &all {
            let net = cidrs.of(lb_common::address::Family::of(ip)).unwrap();
            prop_assert!(net.contains(ip) && *ip != net.network() && ip.to_string() != "10.96.0.31");
        }
        all.sort();
        let count = all.len();
        all.dedup();
        prop_assert_eq!(all.len(), count);
    }

    #[test]
    fn edits_of_others_change_no_address(before in specs(), mut after in specs()) {
        let mut manifests = directory(SMALL, Vec::new());
        let first = addresses(&write(&mut manifests, &[("x.yaml", &file(&before, &[]))]));
        // Those that are still there are there unchanged.
        after.extend(before.iter().step_by(2).map(|(name, spec)| (name.clone(), *spec)));
        let second = write(&mut manifests, &[("x.yaml", &file(&after, &[]))]);
        for (name, _) in before.iter().step_by(2).filter(|(name, _)| first.contains_key(*name)) {
            prop_assert!(!short(&second).iter().any(|event| event[1..] == **name), "{name} moved");
        }
        // A restarted agent comes to what the running one has.
        let running = manifests.services();
        let running: BTreeMap<String, Vec<IpAddr>> =
            running.values().map(|s| (s.key.name.clone(), s.cluster_ips.clone())).collect();
        let mut restarted = directory(SMALL, assigned(&running));
        let again = write(&mut restarted, &[("x.yaml", &file(&after, &[]))]);
        // Save where the running one keeps what it may not change, of which the other knows nothing.
        let refused: Vec<&str> = second.problems.iter().map(name).collect();
        for (name, ips) in addresses(&again).into_iter().filter(|(name, _)| !refused.contains(&name.as_str())) {
            prop_assert_eq!(running.get(&name), Some(&ips));
        }
    }
}

#[test]
fn explicit_addresses_are_reserved_before_any_is_assigned() {
    let assigned = addresses(&read(DUAL, &service("z", "")))["z"][0];
    let explicit = service("a", &format!("clusterIP: {assigned}"));
    let both = addresses(&read(DUAL, &(service("z", "") + &explicit)));
    assert_eq!(both["a"], [assigned]);
    assert_ne!(both["z"], [assigned]);
}

#[test]
fn an_address_that_is_served_is_not_given_away() {
    let mut manifests = directory(DUAL, Vec::new());
    let update = write(&mut manifests, &[("a.yaml", &service("web", ""))]);
    let ip = addresses(&update)["web"][0];
    let claim = service("claim", &format!("clusterIP: {ip}"));
    let update = write(&mut manifests, &[("b.yaml", &claim)]);
    let message = format!(
        "dir/b.yaml:5: Service default/claim: spec.clusterIP: {ip} is taken by Service default/web"
    );
    assert_eq!((messages(&update), short(&update)), (vec![message], vec![]));
    // When its holder goes, the claim is heard, and the holder leaves first.
    let update = write(&mut manifests, &[("a.yaml", "")]);
    assert_eq!(
        (messages(&update).len(), short(&update)),
        (0, vec!["-web".into(), "+claim".into()])
    );
}

#[test]
fn restored_addresses_come_first_where_they_fit() {
    let web = |ips: &[&str]| Assigned {
        service: ObjectKey::new("default", "web"),
        cluster_ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
    };
    for (spec, restored, expected) in [
        ("", vec!["10.96.3.3"], vec!["10.96.3.3"]),
        // A Service that says nothing stays in the family it was in.
        ("", vec!["fd00:10:96::33"], vec!["fd00:10:96::33"]),
        ("", vec!["10.96.3.3", "fd00:10:96::33"], vec!["10.96.3.3"]),
        (
            "ipFamilyPolicy: PreferDualStack",
            vec!["10.96.3.3", "fd00:10:96::33"],
            vec!["10.96.3.3", "fd00:10:96::33"],
        ),
        (
            "ipFamilies: [IPv6]",
            vec!["10.96.3.3", "fd00:10:96::33"],
            vec!["fd00:10:96::33"],
        ),
        ("clusterIP: 10.96.4.4", vec!["10.96.3.3"], vec!["10.96.4.4"]),
        // From another range, or from no usable part of it.
        ("clusterIP: 10.96.4.4", vec!["192.0.2.1"], vec!["10.96.4.4"]),
        ("clusterIP: None", vec!["10.96.3.3"], vec![]),
    ] {
        let mut manifests = directory(DUAL, vec![web(&restored)]);
        let update = write(&mut manifests, &[("x.yaml", &service("web", spec))]);
        let expected: Vec<IpAddr> = expected.iter().map(|ip| ip.parse().unwrap()).collect();
        assert_eq!(
            addresses(&update)["web"],
            expected,
            "{spec} after {restored:?}"
        );
    }
    let fresh = addresses(&read(DUAL, &service("web", "")));
    for useless in ["192.0.2.1", "10.96.0.0", "2001:db8::1"] {
        let mut manifests = directory("10.96.0.0/16", vec![web(&[useless])]);
        let update = write(&mut manifests, &[("x.yaml", &service("web", ""))]);
        assert_eq!(addresses(&update), fresh, "after {useless}");
    }
}

#[test]
fn the_first_address_is_for_default_kubernetes() {
    let update = read(
        "10.96.0.0/30",
        &(service("a", "") + &service("b", "") + &service("kubernetes", "")),
    );
    let addresses = addresses(&update);
    assert_eq!(
        addresses["kubernetes"],
        ["10.96.0.1".parse::<IpAddr>().unwrap()]
    );
    assert_eq!(addresses["a"], ["10.96.0.2".parse::<IpAddr>().unwrap()]);
    let full =
        "spec.clusterIP: missing, and the service range 10.96.0.0/30 has no free address left";
    assert_eq!(
        messages(&update),
        [format!("dir/x.yaml:7: Service default/b: {full}")]
    );
}
