//! Section `program`: what a packet costs by the way that it goes, in lookups of this machine in this minute.

use anyhow::Result;
use serde_json::Value;

use crate::bench::{
    programs::{Programs, column},
    report::{Gate, Row, Section},
};

/// What duolb is held against: one warm lookup with a key as long as a flow's; for a new connection, the least it takes.
const LOOKUP: &str = "a lookup";
const OPENING: &str = "3 lookups + 2 inserts";
const DUOLB: &str = "duolb";
/// What the kernel is asked for is held against what G10 allows.
const ALLOWED: &str = "allowed";

/// Verified instructions, bytes of machine code, milliseconds to load (G10).
const COSTS: [(&str, &str, f64); 3] = [
    ("verified instructions", "", 20_000.0),
    ("machine code", "bytes", 8_192.0),
    ("time to load", "ms", 100.0),
];

/// Times every path, and what its programs ask of the kernel.
///
/// # Errors
/// If the programs do not load, or a packet ends otherwise than it should.
pub fn measure(programs: &Programs, rounds: usize) -> Result<Section> {
    Ok(section(&programs.ask(&format!("program {rounds}"))?))
}

/// The answer as rows and gates.
fn section(answer: &Value) -> Section {
    let mut section = Section {
        name: "program".to_owned(),
        title: "What a packet costs above an empty program, in lookups (test runs on one CPU)"
            .to_owned(),
        notes: vec![
            "Every packet that was timed ended in the verdict that it should have".to_owned(),
        ],
        ..Section::default()
    };
    let list = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
    for path in list("rows") {
        let row = path_row(&path);
        section.gates.extend(gate(&row));
        section.rows.push(row);
    }
    for program in list("costs") {
        let name = program["name"].as_str().unwrap_or_default();
        for (at, (what, unit, limit)) in COSTS.into_iter().enumerate() {
            let value = program["values"][at].as_f64();
            let row = Row::new(format!("{what} of {name}"), unit, false)
                .with(ALLOWED, [limit])
                .with(DUOLB, value);
            section.gates.push(row.gate("G10", DUOLB, ALLOWED, 1.0));
            section.rows.push(row);
        }
    }
    section
}

/// A path: nanoseconds above nothing, beside what they are held against.
fn path_row(path: &Value) -> Row {
    let what = path["what"].as_str().unwrap_or_default();
    let [time, nothing, lookup, insert] = [0, 1, 2, 3].map(|at| column(path, at));
    let own = time
        .iter()
        .zip(&nothing)
        .map(|(time, nothing)| time - nothing);
    let row = Row::new(what, "ns", false).with(DUOLB, own);
    if what.contains(" new ") {
        let least = lookup.iter().zip(&insert);
        row.with(
            OPENING,
            least.map(|(lookup, insert)| 3.0 * lookup + 2.0 * insert),
        )
    } else {
        row.with(LOOKUP, lookup)
    }
}

/// What is asked of a path.
fn gate(row: &Row) -> Option<Gate> {
    let (_, path) = row.what.split_once(' ')?;
    match path {
        "established" | "established, back" => Some(row.gate("G1", DUOLB, LOOKUP, 3.0)),
        "new connection" => Some(row.gate("G2", DUOLB, OPENING, 1.15)),
        "miss" => Some(row.gate("G11", DUOLB, LOOKUP, 1.3)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_told_in_lookups_above_nothing() {
        let section = section(&json!({
            "rows": [
                {"what": "IPv4 established", "rounds": [[130, 30, 40, 500], [150, 30, 40, 500]]},
                {"what": "IPv6 new connection", "rounds": [[1150, 30, 40, 500]]},
                {"what": "IPv6 miss", "rounds": [[100, 30, 40, 500]]},
                {"what": "IPv6 UDP", "rounds": [[100, 30, 40, 500]]},
            ],
            "costs": [{"name": "tc_egress", "values": [10_000, 9_000, 50]}],
        }));
        let gates: Vec<_> = section
            .gates
            .iter()
            .map(|gate| (gate.id.as_str(), gate.value.unwrap().median, gate.is_met()))
            .collect();
        assert_eq!(
            gates,
            [
                ("G1", 2.75, Some(true)),
                ("G2", 1.0, Some(true)),
                ("G11", 1.75, Some(false)),
                ("G10", 0.5, Some(true)),
                ("G10", 9_000.0 / 8_192.0, Some(false)),
                ("G10", 0.5, Some(true)),
            ]
        );
        assert_eq!(section.rows.len(), 4 + 3);
    }
}
