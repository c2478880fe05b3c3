//! The kernel's own tools read the rules; what they do is checked where they are timed.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use super::{Service, iptables, nftables};

fn services() -> Vec<Service> {
    let service = |name: &str, vip: &str, protocol, endpoints: &[&str]| Service {
        name: name.to_owned(),
        vip: vip.parse().unwrap(),
        protocol,
        endpoints: endpoints.iter().map(|text| text.parse().unwrap()).collect(),
    };
    vec![
        service(
            "bench/web:http",
            "10.96.0.1:80",
            "tcp",
            &["10.244.1.2:8080", "10.244.1.3:8080"],
        ),
        service("bench/dns:dns", "10.96.0.2:53", "udp", &["10.244.1.2:53"]),
        service(
            "bench/web:http",
            "[fd00:10:96::1]:80",
            "tcp",
            &["[fd00:10:244::2]:8080"],
        ),
    ]
}

fn pods(v6: bool) -> &'static str {
    if v6 {
        "fd00:10:244::/48"
    } else {
        "10.244.0.0/16"
    }
}

#[test]
fn every_service_of_the_family_has_a_way_to_each_of_its_endpoints_and_no_other_has() {
    let nft = nftables::rules(&services(), false, pods(false));
    assert_eq!(nft.matches(" dnat to ").count(), 3);
    assert!(nft.contains("numgen random mod 2"));
    assert!(!nft.contains("fd00:10:96::1"));
    let iptables = iptables::rules(&services(), true, pods(true));
    assert_eq!(iptables.matches("-j DNAT").count(), 1);
    assert!(iptables.contains("--to-destination [fd00:10:244::2]:8080"));
}

#[test]
fn shares_of_endpoints_are_equal() {
    let mut services = services();
    services[0]
        .endpoints
        .push("10.244.1.4:8080".parse().unwrap());
    let rules = iptables::rules(&services, false, pods(false));
    for share in ["0.3333333333", "0.5000000000"] {
        assert_eq!(rules.matches(share).count(), 1, "{share}");
    }
}

#[test]
fn the_kernels_tools_take_the_rules() {
    let tools: [(&str, &[&str], bool); 3] = [
        ("nft", &["-c", "-f", "-"], true),
        ("iptables-legacy-restore", &["--test"], false),
        ("ip6tables-legacy-restore", &["--test"], false),
    ];
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    for (tool, args, is_nft) in tools {
        for v6 in [false, true] {
            if !is_nft && v6 != tool.starts_with("ip6") {
                continue;
            }
            let rules = if is_nft {
                nftables::rules(&services(), v6, pods(v6))
            } else {
                iptables::rules(&services(), v6, pods(v6))
            };
            let child = Command::new(tool).args(args).stdin(Stdio::piped()).spawn();
            let Ok(mut child) = child else {
                eprintln!("{tool} is not installed: not checked");
                continue;
            };
            child
                .stdin
                .take()
                .unwrap()
                .write_all(rules.as_bytes())
                .unwrap();
            assert!(child.wait().unwrap().success(), "{tool}:\n{rules}");
        }
    }
}
