//! Does a Service get the policy, families and refusals that the API server gives?

use super::*;

/// `ipFamilyPolicy/families` and what addresses there are, or the message.
fn outcome(cidrs: &str, spec: &str) -> String {
    let update = read(cidrs, &service("s", spec));
    let Some(service) = services(&update).remove("s") else {
        return messages(&update)
            .join("; ")
            .replace("dir/x.yaml:5: Service default/s: ", "");
    };
    assert_eq!(messages(&update), [""; 0], "{spec}");
    let policy = service
        .ip_family_policy
        .map_or("none".to_owned(), |policy| policy.to_string());
    let families: Vec<&str> = service
        .ip_families
        .iter()
        .map(|family| family.name())
        .collect();
    for (ip, family) in service.cluster_ips.iter().zip(&service.ip_families) {
        assert_eq!(lb_common::address::Family::of(ip), *family, "{spec}");
    }
    if service.kind.is_served() {
        assert_eq!(service.cluster_ips.len(), families.len(), "{spec}");
    } else {
        assert!(service.cluster_ips.is_empty(), "{spec}");
    }
    format!("{policy} {}", families.join(","))
}

const V4: &str = "10.96.0.0/16";
const V6: &str = "fd00:10:96::/112";
const SIX_FIRST: &str = "fd00:10:96::/112,10.96.0.0/16";

#[test]
fn policy_and_families_are_those_of_the_api_server() {
    for (cidrs, spec, expected) in [
        (V4, "", "SingleStack IPv4"),
        (V6, "", "SingleStack IPv6"),
        (DUAL, "", "SingleStack IPv4"),
        (SIX_FIRST, "", "SingleStack IPv6"),
        (DUAL, "ipFamilies: [IPv6]", "SingleStack IPv6"),
        (
            DUAL,
            "ipFamilyPolicy: SingleStack, ipFamilies: [IPv6]",
            "SingleStack IPv6",
        ),
        (
            DUAL,
            "ipFamilyPolicy: PreferDualStack",
            "PreferDualStack IPv4,IPv6",
        ),
        (
            SIX_FIRST,
            "ipFamilyPolicy: PreferDualStack",
            "PreferDualStack IPv6,IPv4",
        ),
        (
            V4,
            "ipFamilyPolicy: PreferDualStack",
            "PreferDualStack IPv4",
        ),
        (
            V6,
            "ipFamilyPolicy: PreferDualStack",
            "PreferDualStack IPv6",
        ),
        (
            DUAL,
            "ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv6]",
            "PreferDualStack IPv6,IPv4",
        ),
        (
            DUAL,
            "ipFamilyPolicy: RequireDualStack",
            "RequireDualStack IPv4,IPv6",
        ),
        (
            DUAL,
            "ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6]",
            "RequireDualStack IPv6,IPv4",
        ),
        (
            DUAL,
            "ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6, IPv4]",
            "RequireDualStack IPv6,IPv4",
        ),
        (
            DUAL,
            "ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv4, IPv6]",
            "PreferDualStack IPv4,IPv6",
        ),
        (DUAL, "type: NodePort", "SingleStack IPv4"),
        (
            DUAL,
            "type: LoadBalancer, ipFamilyPolicy: PreferDualStack",
            "PreferDualStack IPv4,IPv6",
        ),
        // An address tells the family, and the policy adds the other one.
        (DUAL, "clusterIP: 'fd00:10:96::7'", "SingleStack IPv6"),
        (
            DUAL,
            "ipFamilyPolicy: PreferDualStack, clusterIP: 'fd00:10:96::7'",
            "PreferDualStack IPv6,IPv4",
        ),
        (DUAL, "clusterIP: ''", "SingleStack IPv4"),
        // Headless with a selector: like the others, without addresses.
        (
            DUAL,
            "clusterIP: None, selector: {a: b}",
            "SingleStack IPv4",
        ),
        (
            DUAL,
            "clusterIP: None, selector: {a: b}, ipFamilyPolicy: PreferDualStack",
            "PreferDualStack IPv4,IPv6",
        ),
        // Headless without: both families, whatever the cluster has.
        (DUAL, "clusterIP: None", "RequireDualStack IPv4,IPv6"),
        (SIX_FIRST, "clusterIP: None", "RequireDualStack IPv6,IPv4"),
        (V4, "clusterIP: None", "RequireDualStack IPv4,IPv6"),
        (
            V6,
            "clusterIP: None, selector: {}",
            "RequireDualStack IPv6,IPv4",
        ),
        (
            DUAL,
            "clusterIP: None, ipFamilyPolicy: SingleStack",
            "SingleStack IPv4",
        ),
        (
            V4,
            "clusterIP: None, ipFamilies: [IPv6]",
            "RequireDualStack IPv6,IPv4",
        ),
        (
            DUAL,
            "clusterIP: None, clusterIPs: [None]",
            "RequireDualStack IPv4,IPv6",
        ),
        (
            DUAL,
            "type: ExternalName, externalName: example.org",
            "none ",
        ),
        // Rule 3: a stale address there means nothing.
        (
            DUAL,
            "type: ExternalName, externalName: a.b, clusterIP: 10.96.0.9",
            "none ",
        ),
        // Without ranges, what is given is taken, and nothing is assigned.
        ("", "clusterIP: 192.0.2.1", "SingleStack IPv4"),
        (
            "",
            "clusterIP: 192.0.2.1, ipFamilyPolicy: PreferDualStack",
            "PreferDualStack IPv4",
        ),
        (
            "",
            "clusterIP: 'fd00::1', clusterIPs: ['fd00::1', 192.0.2.1], ipFamilyPolicy: RequireDualStack",
            "RequireDualStack IPv6,IPv4",
        ),
        ("", "clusterIP: None, selector: {a: b}", "SingleStack IPv4"),
    ] {
        assert_eq!(outcome(cidrs, spec), expected, "{cidrs}: {spec}");
    }
}

#[test]
fn what_the_api_server_refuses_is_refused() {
    for (cidrs, spec, part) in [
        (
            V4,
            "ipFamilyPolicy: RequireDualStack",
            "spec.ipFamilyPolicy: RequireDualStack is not possible: --service-cluster-ip-range has no second range",
        ),
        (
            V4,
            "ipFamilies: [IPv6]",
            "spec.ipFamilies[0]: IPv6 is not possible: --service-cluster-ip-range has no IPv6 range",
        ),
        (
            V4,
            "ipFamilyPolicy: RequireDualStack, clusterIP: None, selector: {a: b}",
            "no second range",
        ),
        (
            DUAL,
            "ipFamilies: [IPv4, IPv6]",
            "SingleStack does not go with two ipFamilies; PreferDualStack",
        ),
        (
            DUAL,
            "ipFamilyPolicy: SingleStack, ipFamilies: [IPv6, IPv4]",
            "does not go with two ipFamilies",
        ),
        (
            DUAL,
            "clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7, 'fd00:10:96::7']",
            "does not go with two clusterIPs",
        ),
        (
            DUAL,
            "ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv4, IPv4]",
            "spec.ipFamilies[1]: IPv4 is there twice",
        ),
        (
            DUAL,
            "ipFamilyPolicy: PreferDualStack, clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7, 10.96.0.8]",
            "spec.clusterIPs[1]: IPv4 is there twice",
        ),
        (
            DUAL,
            "ipFamilies: [IPv4, IPv6, IPv4]",
            "spec.ipFamilies: 3 entries",
        ),
        (
            DUAL,
            "clusterIP: 10.96.0.7, clusterIPs: [10.96.0.8]",
            "spec.clusterIP: 10.96.0.7 does not go with clusterIPs[0], which is 10.96.0.8",
        ),
        (DUAL, "clusterIPs: [10.96.0.8]", "spec.clusterIP: missing"),
        (
            DUAL,
            "ipFamilies: [IPv6], clusterIP: 10.96.0.7",
            "spec.clusterIP: 10.96.0.7 is not an IPv6 address",
        ),
        (
            DUAL,
            "clusterIP: 10.97.0.7",
            "spec.clusterIP: 10.97.0.7 is outside the service range 10.96.0.0/16",
        ),
        (
            DUAL,
            "clusterIP: 10.96.0.0",
            "spec.clusterIP: 10.96.0.0 is the network or broadcast address",
        ),
        (
            DUAL,
            "clusterIP: 10.96.255.255",
            "is the network or broadcast address",
        ),
        (V4, "clusterIP: 'fd00:10:96::7'", "IPv6 is not possible"),
        (
            DUAL,
            "clusterIP: '::ffff:10.96.0.7'",
            "\"::ffff:10.96.0.7\" is not an IP address",
        ),
        (
            DUAL,
            "clusterIP: None, type: NodePort",
            "spec.clusterIP: None does not go with type NodePort",
        ),
        (
            "",
            "",
            "spec.clusterIP: missing, and no address can be assigned without --service-cluster-ip-range",
        ),
        (
            "",
            "ipFamilyPolicy: RequireDualStack, clusterIP: 192.0.2.1",
            "without --service-cluster-ip-range",
        ),
        (
            "10.96.0.0/30",
            "ipFamilyPolicy: DualStack",
            "\"DualStack\" is not a policy",
        ),
    ] {
        let outcome = outcome(cidrs, spec);
        assert!(outcome.contains(part), "{cidrs}: {spec}: {outcome}");
    }
}

#[test]
fn the_first_family_is_the_cluster_ip() {
    let text = service(
        "s",
        "ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6, IPv4]",
    );
    let service = services(&read(DUAL, &text)).remove("s").unwrap();
    assert!(service.cluster_ips[0].is_ipv6() && service.cluster_ips[1].is_ipv4());
}
