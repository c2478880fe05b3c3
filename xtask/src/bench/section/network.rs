//! The sections with real sockets: `throughput`, `connections`, `pps`.

use std::time::Duration;

use anyhow::Result;

use super::interleave;
use crate::bench::{
    catalogue::{LONG, SHORT, SINK, STREAM},
    ground::{Ground, Way},
    load::{
        datagrams, exchange,
        iperf::{self, Stream},
    },
    report::{Gate, Row, Section},
    stats::quantile,
};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds of each row.
    pub rounds: usize,
    /// How long a way is measured in each.
    pub time: Duration,
}

/// Both families: whether it is IPv6, and its name.
pub const FAMILIES: [(bool, &str); 2] = [(false, "IPv4"), (true, "IPv6")];

fn row(what: String, unit: &str, more_is_better: bool) -> Row {
    Row::new(what, unit, more_is_better)
}

/// The ways of which a packet that is for no service goes two alike: with duolb and without.
const PAST: [Way; 2] = [Way::Routed, Way::DuolbKernel];

/// Streams: TCP and UDP, one and several.
///
/// # Errors
/// `interrupted`.
pub fn throughput(
    grounds: &[&Ground],
    effort: Effort,
    tick: &mut dyn FnMut(Way),
) -> Result<Section> {
    let mut section = Section {
        name: "throughput".to_owned(),
        title: "How much gets through: iperf3, from pod to pod on one node".to_owned(),
        ..Section::default()
    };
    for (v6, family) in FAMILIES {
        for (stream, what) in [
            (Stream::Tcp(1), "TCP, 1 stream"),
            (Stream::Tcp(4), "TCP, 4 streams"),
            (Stream::Udp, "UDP, 1,400 bytes"),
        ] {
            let mut row = row(format!("{family} {what}"), "Gbit/s", true);
            interleave(&mut row, grounds, effort.rounds, &mut *tick, |ground| {
                let to = ground.target(v6, STREAM);
                iperf::gigabits(&ground.lab, ground.client(), to, stream, effort.time)
            })?;
            if stream == Stream::Tcp(1) {
                section.gates.extend(gates(
                    &row,
                    "G3",
                    &[
                        (Way::DuolbBpf, Way::Direct, 0.90),
                        (Way::DuolbBpf, Way::Nftables, 1.10),
                        (Way::DuolbKernel, Way::Routed, 0.97),
                    ],
                ));
            }
            section.rows.push(row);
        }
        let mut past = row(format!("{family} TCP, to no service"), "Gbit/s", true);
        let grounds = grounds.iter().copied();
        let grounds: Vec<&Ground> = grounds.filter(|g| PAST.contains(&g.way)).collect();
        interleave(&mut past, &grounds, effort.rounds, &mut *tick, |ground| {
            let to = ground.past_services(v6, STREAM);
            let one = Stream::Tcp(1);
            iperf::gigabits(&ground.lab, ground.client(), to, one, effort.time)
        })?;
        let all = [(Way::DuolbKernel, Way::Routed, 0.97)];
        section.gates.extend(gates(&past, "G11", &all));
        section.rows.push(past);
    }
    Ok(section)
}

/// Connections a second, and how long an exchange takes over one that is open.
///
/// # Errors
/// `interrupted`.
pub fn connections(
    grounds: &[&Ground],
    effort: Effort,
    tick: &mut dyn FnMut(Way),
) -> Result<Section> {
    let mut section = Section {
        name: "connections".to_owned(),
        title: "How fast a client is answered: connect, a byte there, a byte back, reset"
            .to_owned(),
        ..Section::default()
    };
    for (v6, family) in FAMILIES {
        let mut rate = row(format!("{family} connections"), "1/s", true);
        let mut slowest: Vec<Row> = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)]
            .map(|(name, _)| row(format!("{family} connection {name}"), "µs", false))
            .into();
        interleave(&mut rate, grounds, effort.rounds, &mut *tick, |ground| {
            let to = ground.target(v6, SHORT);
            let seen = exchange::connections(ground.client(), to, effort.time)?;
            note(&mut slowest, ground.way, &seen.sorted);
            Ok(seen.per_second())
        })?;
        section.gates.extend(gates(
            &rate,
            "G4",
            &[
                (Way::DuolbKernel, Way::Nftables, 1.15),
                (Way::DuolbKernel, Way::Routed, 1.0),
                (Way::DuolbBpf, Way::Direct, 0.92),
            ],
        ));
        section.rows.push(rate);
        section.rows.append(&mut slowest);

        let mut rate = row(
            format!("{family} requests over one connection"),
            "1/s",
            true,
        );
        let mut slowest: Vec<Row> = ["p50", "p99", "p99.9"]
            .map(|name| row(format!("{family} request {name}"), "µs", false))
            .into();
        interleave(&mut rate, grounds, effort.rounds, &mut *tick, |ground| {
            let to = ground.target(v6, LONG);
            // There are several times as many of them.
            let seen = exchange::requests(ground.client(), to, effort.time / 2)?;
            note(&mut slowest, ground.way, &seen.sorted);
            Ok(seen.per_second())
        })?;
        section.gates.extend(gates(
            &slowest[1],
            "G4",
            &[(Way::DuolbBpf, Way::Direct, 1.25)],
        ));
        section.rows.push(rate);
        section.rows.append(&mut slowest);
    }
    Ok(section)
}

/// Small datagrams through TC.
///
/// # Errors
/// `interrupted`.
pub fn datagrams(
    grounds: &[&Ground],
    effort: Effort,
    tick: &mut dyn FnMut(Way),
) -> Result<Section> {
    let mut section = Section {
        name: "pps".to_owned(),
        title: "How many small packets a second: datagrams of 18 bytes, one sender".to_owned(),
        ..Section::default()
    };
    for (v6, family) in FAMILIES {
        let mut row = row(format!("{family} datagrams"), "1/s", true);
        interleave(&mut row, grounds, effort.rounds, &mut *tick, |ground| {
            let to = ground.target(v6, SINK);
            datagrams::per_second(ground.client(), to, ground.endpoint(), effort.time)
        })?;
        section.gates.extend(gates(
            &row,
            "G3",
            &[
                (Way::DuolbKernel, Way::Routed, 0.97),
                (Way::DuolbKernel, Way::Nftables, 1.3),
                (Way::DuolbBpf, Way::Direct, 0.85),
                (Way::DuolbBpf, Way::Nftables, 1.5),
            ],
        ));
        section.rows.push(row);
    }
    Ok(section)
}

fn gates(row: &Row, id: &str, all: &[(Way, Way, f64)]) -> Vec<Gate> {
    all.iter()
        .map(|(way, to, limit)| row.gate(id, &way.to_string(), &to.to_string(), *limit))
        .collect()
}

/// Notes median and slow ends of `sorted` seconds, in microseconds, in the three rows for them.
fn note(rows: &mut [Row], way: Way, sorted: &[f64]) {
    for (row, q) in rows.iter_mut().zip([0.5, 0.99, 0.999]) {
        if let Some(seconds) = quantile(sorted, q) {
            row.rounds
                .entry(way.to_string())
                .or_default()
                .push(seconds * 1e6);
        }
    }
}
