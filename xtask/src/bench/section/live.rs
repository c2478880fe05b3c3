//! The part of `pps` that comes from outside: packets for an endpoint on another node, through XDP and through rules.
//!
//! The kernel makes them (lb-userspace/tests/programs/bench/live.rs, whose addresses these are); here are the rules that
//! the stack has for them.

use std::{fs, net::SocketAddr};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::network::Effort;
use crate::bench::{
    kube_proxy::{Service, iptables, nftables},
    programs::{Programs, numbers},
    report::{Gate, Row},
};

const DUOLB: &str = "duolb (XDP)";
const REDIRECT: &str = "a bare redirect";
/// One flow, and as many as a port has room for.
const FLOWS: [(u32, &str); 2] = [(1, "1 flow"), (64_512, "64k flows")];
/// The part of the packets that has to arrive.
const LEAST: f64 = 0.9;
/// Not those that the client is in: it comes from outside, and gets an address of the node by these rules as well.
const PODS: [&str; 2] = ["10.245.0.0/16", "fd00:10:245::/48"];

/// The service as kube-proxy would have it.
fn services() -> Vec<Service> {
    let service = |vip: &str, endpoint: &dyn Fn(u8) -> String| Service {
        name: "bench/web:http".to_owned(),
        vip: vip.parse().expect("an address"),
        protocol: "udp",
        endpoints: (21..29)
            .map(|last| endpoint(last).parse::<SocketAddr>().expect("an address"))
            .collect(),
    };
    vec![
        service("10.96.0.1:80", &|last| format!("10.244.1.{last}:8080")),
        service("[fd00:10:96::1]:80", &|last| {
            format!("[fd00:10:244::{last}]:8080")
        }),
    ]
}

/// Measures, and holds against G5.
///
/// # Errors
/// If the programs' tests fail.
pub fn measure(programs: &Programs, effort: Effort) -> Result<(Vec<Row>, Vec<Gate>)> {
    let dir = tempfile::tempdir().context("no directory for rules")?;
    let services = services();
    for ((v6, family), pods) in [(false, "v4"), (true, "v6")].into_iter().zip(PODS) {
        let nft = nftables::rules(&services, v6, pods);
        fs::write(dir.path().join(format!("nft-{family}")), nft)?;
        let iptables = iptables::rules(&services, v6, pods);
        fs::write(dir.path().join(format!("iptables-{family}")), iptables)?;
    }
    let dir = dir.path().to_str().context("not text")?;
    let (mut rows, mut gates) = (Vec::new(), Vec::new());
    for (flows, name) in FLOWS {
        let time = effort.time.as_millis();
        let order = format!("live {} {time} {flows} {dir}", effort.rounds);
        let answer = programs.ask(&order)?;
        for of_family in answer["rows"].as_array().into_iter().flatten() {
            let family = of_family["family"].as_str().unwrap_or_default();
            let what = format!("{family} from outside to another node, {name}");
            let mut row = Row::new(what, "1/s", true);
            for (way, rates) in of_family["ways"].as_object().into_iter().flatten() {
                match arrived(rates) {
                    Ok(rates) => row.rounds.insert(way.clone(), rates).map(drop),
                    Err(why) => row.missing.insert(way.clone(), why).map(drop),
                };
            }
            for (to, limit) in [
                (REDIRECT, 0.55),
                ("kube-proxy nftables", 4.0),
                ("kube-proxy iptables", 4.0),
            ] {
                gates.push(row.gate("G5", DUOLB, to, limit));
            }
            rows.push(row);
        }
    }
    Ok((rows, gates))
}

/// The rates of a way's rounds, if what was sent arrived: else something was dropped fast.
fn arrived(rounds: &Value) -> Result<Vec<f64>, String> {
    let rounds = rounds.as_array().into_iter().flatten().map(numbers);
    let rounds: Vec<Vec<f64>> = rounds.collect();
    let least = rounds.iter().filter_map(|round| round.get(1));
    let least = least.copied().fold(1.0, f64::min);
    if least < LEAST {
        return Err(format!(
            "only {:.0} % of the packets arrived",
            100.0 * least
        ));
    }
    Ok(rounds
        .iter()
        .filter_map(|round| round.first().copied())
        .collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_does_not_arrive_is_no_speed() {
        assert_eq!(
            arrived(&json!([[500.0, 1.0], [400.0, 0.99]])).unwrap(),
            [500.0, 400.0]
        );
        let why = arrived(&json!([[500.0, 1.0], [900.0, 0.25]])).unwrap_err();
        assert_eq!(why, "only 25 % of the packets arrived");
    }
}
