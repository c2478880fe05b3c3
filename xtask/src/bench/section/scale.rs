//! Section `scale`: what stays the same from one service to a hundred thousand, and what does not.
//!
//! The programs alone among so many frontends and flows; and real clients, with as many services in the manifests and in
//! kube-proxy's rules. Every number of services has its turn in every round.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::network::{Effort, FAMILIES};
use crate::{
    bench::{
        catalogue::SHORT,
        ground::{Ground, Way},
        load::exchange,
        programs::{Programs, column},
        report::{Gate, Row, Section},
        stats::quantile,
    },
    lab::interrupt,
};

/// Numbers of services: of the programs; of duolb's agent; of rules, which take half a minute to load at ten thousand.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Programs alone.
    pub programs: &'static [u32],
    /// Real clients of duolb.
    pub duolb: &'static [u32],
    /// Real clients of rule sets.
    pub rules: &'static [u32],
}

/// Of a quick run.
pub const QUICK: Sizes = Sizes {
    programs: &[1, 1000, 100_000],
    duolb: &[1, 1000],
    rules: &[1, 1000],
};
/// Of a full one.
pub const FULL: Sizes = Sizes {
    programs: &[1, 100, 1000, 10_000, 30_000, 100_000],
    duolb: &[1, 100, 1000, 10_000, 30_000, 100_000],
    rules: &[1, 100, 1000, 10_000],
};

const DUOLB: &str = "duolb";
const LOOKUP: &str = "a bare lookup";
/// The goal's own number of services.
const MOST: u32 = 100_000;

/// The programs' part.
///
/// # Errors
/// If their tests fail.
pub fn programs(programs: &Programs, rounds: usize, sizes: Sizes) -> Result<Section> {
    let list: Vec<String> = sizes.programs.iter().map(u32::to_string).collect();
    let answer = programs.ask(&format!("scale {rounds} {}", list.join(",")))?;
    Ok(section(&answer))
}

fn section(answer: &Value) -> Section {
    let mut section = Section {
        name: "scale".to_owned(),
        title: "What a packet and a connection cost among more and more services".to_owned(),
        ..Section::default()
    };
    let all = answer["rows"].as_array().cloned().unwrap_or_default();
    for of in &all {
        if of["missing"].as_u64() != Some(0) {
            let note = format!("flows that were not in the table: {}", of["missing"]);
            section.notes.push(note);
        }
        let [nothing, hot, any, bare, bare_any] = [0, 1, 2, 3, 4].map(|at| column(of, at));
        let above = |times: &[f64]| -> Vec<f64> {
            times
                .iter()
                .zip(&nothing)
                .map(|(time, nothing)| time - nothing)
                .collect()
        };
        let family = of["family"].as_str().unwrap_or_default();
        for (what, own, bare) in [
            ("established, always of one service", &hot, &bare),
            ("established, of any service", &any, &bare_any),
        ] {
            let mut row = Row::new(format!("{family} {what}"), "ns", false)
                .with(DUOLB, above(own))
                .with(LOOKUP, above(bare));
            row.at = of["services"]
                .as_u64()
                .and_then(|at| u32::try_from(at).ok());
            section.rows.push(row);
        }
    }
    for family in ["IPv4", "IPv6"] {
        section.gates.extend(gates(&section.rows, family));
    }
    section
}

/// How rounds of a way grow from one service to [`MOST`].
fn growth(rows: &[Row], what: &str, way: &str) -> Option<Vec<f64>> {
    let rounds = |services| {
        let row = rows
            .iter()
            .find(|row| row.what == what && row.at == Some(services));
        row?.rounds.get(way)
    };
    let (one, most) = (rounds(1)?, rounds(MOST)?);
    Some(most.iter().zip(one).map(|(most, one)| most / one).collect())
}

fn gates(rows: &[Row], family: &str) -> [Gate; 2] {
    let hot = format!("{family} established, always of one service");
    let any = format!("{family} established, of any service");
    let own = growth(rows, &hot, DUOLB).unwrap_or_default();
    let grown = growth(rows, &any, DUOLB).unwrap_or_default();
    let bare = growth(rows, &any, LOOKUP).unwrap_or_default();
    let against: Vec<f64> = grown
        .iter()
        .zip(&bare)
        .map(|(own, bare)| own / bare)
        .collect();
    [
        Gate::on("G6", format!("{hot}: at {MOST} / at 1"), &own, 1.05, false),
        Gate::on(
            "G6",
            format!("{any}: growth / growth of a bare lookup"),
            &against,
            1.15,
            false,
        ),
    ]
}

/// Real clients: connections a second, and how long the first answer takes.
///
/// # Errors
/// `interrupted`.
pub fn clients(
    section: &mut Section,
    duolb: &Path,
    sizes: Sizes,
    effort: Effort,
    tick: &mut dyn FnMut(Way, u32),
) -> Result<()> {
    let wanted = [
        (Way::DuolbKernel, sizes.duolb),
        (Way::Nftables, sizes.rules),
        (Way::Iptables, sizes.rules),
    ];
    let mut grounds = Vec::new();
    for (way, sizes) in wanted {
        for services in sizes {
            interrupt::check()?;
            tick(way, *services);
            let checked = Ground::start(way, *services, duolb).and_then(|ground| {
                let seen = ground.check_offloads().context("REFUSED")?;
                Ok((ground, seen))
            });
            match checked {
                Ok((ground, seen)) => {
                    let seen = seen.map(|seen| format!("{services} services: {seen}"));
                    section.notes.extend(seen);
                    grounds.push((*services, ground));
                }
                Err(error) => section.notes.push(format!(
                    "{way}, {services} services: not measured: {error:#}"
                )),
            }
        }
    }
    let first = section.rows.len();
    for services in sizes.duolb {
        let families = FAMILIES.into_iter().flat_map(|(_, family)| {
            [
                ("connections", "1/s", true),
                ("first answer, p50", "µs", false),
                ("first answer, p99", "µs", false),
            ]
            .map(|row| (family, row))
        });
        for (family, (what, unit, is_rate)) in families {
            let mut row = Row::new(format!("{family} {what}"), unit, is_rate);
            row.at = Some(*services);
            if !sizes.rules.contains(services) {
                for way in [Way::Nftables, Way::Iptables] {
                    let why = "loading so many rules takes minutes".to_owned();
                    row.missing.insert(way.to_string(), why);
                }
            }
            section.rows.push(row);
        }
    }
    for round in 0..effort.rounds {
        for turn in 0..grounds.len() {
            interrupt::check()?;
            let (services, ground) = &grounds[(round + turn) % grounds.len()];
            tick(ground.way, *services);
            let mut values = Vec::new();
            for (v6, _) in FAMILIES {
                let to = ground.target(v6, SHORT);
                let seen = exchange::connections(ground.client(), to, effort.time)?;
                let latency = |q| quantile(&seen.sorted, q).unwrap_or(f64::NAN) * 1e6;
                values.extend([seen.per_second(), latency(0.5), latency(0.99)]);
            }
            let rows = section.rows[first..].iter_mut();
            let rows = rows.filter(|row| row.at == Some(*services));
            for (row, value) in rows.zip(values) {
                let rounds = row.rounds.entry(ground.way.to_string()).or_default();
                rounds.push(value);
            }
        }
    }
    let way = Way::DuolbKernel.to_string();
    for (_, family) in FAMILIES {
        let what = format!("{family} connections");
        let grown = growth(&section.rows, &what, &way);
        let goal = format!("{what}: {way} at {MOST} / at 1");
        section.gates.push(match grown {
            Some(grown) => Gate::on("G6", goal, &grown, 0.95, true),
            None if sizes.duolb.contains(&MOST) => {
                Gate::unknown("G6", goal, "one of them was not measured, see above")
            }
            None => Gate::unknown("G6", goal, "a quick run goes to 1000: --full"),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn growth_is_held_against_that_of_a_bare_lookup() {
        let of = |services: u32, times: [u32; 5]| json!({"family": "IPv4", "services": services, "missing": 0, "rounds": [times]});
        let section = section(&json!({"rows": [
            of(1, [30, 130, 130, 60, 60]),
            of(100_000, [30, 132, 1030, 60, 330]),
        ]}));
        let value = |at: usize| section.gates[at].value.unwrap().median;
        assert_eq!((value(0), value(1)), (1.02, 1.0));
        assert_eq!(section.gates[2].is_met(), None, "no IPv6 was measured");
        assert!(section.notes.is_empty());
    }

    #[test]
    fn flows_that_are_missing_are_told() {
        let rows = json!({"rows": [{"family": "IPv4", "services": 1, "missing": 3, "rounds": []}]});
        assert_eq!(section(&rows).notes.len(), 1);
    }
}
