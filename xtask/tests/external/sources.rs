//! Source ranges of a load balancer's address: rules 23, 25, 47 and 48.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Result, ensure};
use xtask::lab::{Netns, Protocol, probe::Probe};

use crate::{
    cluster::{Cluster, Kind, Mode},
    needs_root,
    reference::{Client, Endpoint, Frontend, Policy},
    services::Numbered,
};

const POD: Client = Client::Pod {
    node: 1,
    number: 100,
};
const HOST: Client = Client::Host { node: 1 };

fn services() -> [Numbered; 4] {
    let pods = [1, 2].map(|node| Endpoint::Pod { node, number: 10 });
    let service = |number, name, ranges: &[&str]| {
        Numbered::new(number, name, Policy::Cluster, &pods).sources(ranges)
    };
    let outside = ["192.0.2.10/32", "2001:db8::10/128"];
    let nobody = Numbered::new(4, "nobody", Policy::Cluster, &[]).sources(&outside);
    [
        service(1, "outside", &outside),
        service(
            2,
            "inside",
            &[
                "10.244.0.0/16",
                "fd00:10:244::/48",
                "172.18.0.0/24",
                "fd00:172:18::/64",
            ],
        ),
        service(3, "all", &["10.0.0.0/8", "0.0.0.0/0", "::/0"]),
        nobody,
    ]
}

/// Whether `to` answers.
fn answers(netns: &Netns, from: Option<IpAddr>, to: SocketAddr, protocol: Protocol) -> bool {
    let mut probe = Probe::new(protocol, to)
        .timeout(Duration::from_millis(400))
        .attempts(2)
        .connected();
    probe.from = from;
    probe.run_in(netns).is_ok()
}

fn check(mode: Mode) -> Result<()> {
    let services = services();
    let cluster = Cluster::start(Kind::plain(mode), &services, &[])?;
    let outside = cluster.lab.outside();
    // Two more of the same host, just beside the range and in the fabric's route to it.
    let beside: [IpAddr; 2] = ["192.0.2.11".parse()?, "2001:db8::11".parse()?];
    for (ip, own) in beside.iter().zip(outside.addresses.both()) {
        let (ip, own) = (ip.to_string(), own.to_string());
        cluster
            .lab
            .exec(outside, &["ip", "addr", "add", &ip, "dev", "eth0"])?;
        let route = [
            "ip", "route", "replace", &ip, "via", &own, "dev", "outside", "onlink",
        ];
        cluster.lab.exec(cluster.lab.fabric(), &route)?;
    }
    for (v6, own) in outside.addresses.both().into_iter().enumerate() {
        let (v6, beside) = (v6 == 1, beside[v6]);
        let lb = |service: usize| services[service].socket(Frontend::LoadBalancer, v6);
        for protocol in Protocol::BOTH {
            let what = |who: &str| format!("{who} to a load balancer, {protocol}, IPv6 {v6}");
            let from = |ip, to| answers(&outside.netns, Some(ip), to, protocol);
            let pod = |to| answers(cluster.netns(POD), None, to, protocol);
            let host = |to| answers(cluster.netns(HOST), None, to, protocol);
            ensure!(from(own, lb(0)), "{}", what("in the range"));
            let denied = cluster.verdict("source-denied")?;
            ensure!(!from(beside, lb(0)), "{}", what("beside the range"));
            let more = cluster.verdict("source-denied")?;
            ensure!(more > denied, "{}: not counted", what("beside the range"));
            // Rule 47: they bind pods and the node as well.
            ensure!(!pod(lb(0)), "{}", what("a pod not in the range"));
            ensure!(!host(lb(0)), "{}", what("the node, not in the range"));
            ensure!(!from(own, lb(1)), "{}", what("outside of pods' range"));
            ensure!(pod(lb(1)), "{}", what("a pod in the range"));
            ensure!(host(lb(1)), "{}", what("the node, in the range"));
            // Rule 25.
            ensure!(from(beside, lb(2)), "{}", what("anyone"));
            ensure!(pod(lb(2)), "{}", what("any pod"));
            // Rule 47: nothing else of the Service is bound by them.
            for other in [Frontend::NodePort { node: 1 }, Frontend::ExternalIp] {
                let to = services[0].socket(other, v6);
                ensure!(from(beside, to), "{} {other}", what("instead of"));
                ensure!(pod(to), "{} {other}", what("a pod, instead of"));
            }
            let cluster_ip = services[0].socket(Frontend::ClusterIp, v6);
            ensure!(pod(cluster_ip), "{}", what("ClusterIP instead of"));
            // Rule 48: dropped and not refused, even if there is no endpoint.
            let denied = |ip| {
                let probe = Probe::new(protocol, lb(3)).from(ip).connected().attempts(1);
                let error = probe
                    .timeout(Duration::from_millis(400))
                    .run_in(&outside.netns);
                error.expect_err("there is no endpoint").source.kind()
            };
            use std::io::ErrorKind::{ConnectionRefused, TimedOut};
            ensure!(denied(own) == ConnectionRefused, "{}", what("refused"));
            ensure!(denied(beside) == TimedOut, "{}", what("not refused"));
        }
    }
    cluster.check_counters()
}

#[test]
fn source_ranges_bind_all_clients_of_the_load_balancers_address_and_no_other_through_tc()
-> Result<()> {
    needs_root!();
    check(Mode::Tc)
}

#[test]
fn source_ranges_bind_all_clients_of_the_load_balancers_address_and_no_other_through_xdp()
-> Result<()> {
    needs_root!();
    check(Mode::Native)
}
