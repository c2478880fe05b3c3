//! The report as tables: `report.md`, and the same on the terminal.
//!
//! Ratios first: they are what holds on another day. A way that could not be measured says why.

use std::fmt::{self, Write as _};

use super::{Gate, Report, Row, Section};
use crate::bench::goals::GOALS;

/// The whole report.
pub fn page(report: &Report) -> String {
    let mut text = String::new();
    // A String takes everything.
    let _ = write_page(&mut text, report);
    text
}

fn write_page(out: &mut String, report: &Report) -> fmt::Result {
    let machine = &report.machine;
    let scope = if report.full { "full" } else { "quick" };
    writeln!(
        out,
        "# Bench\n\n{} x {}, {:.0} GiB, Linux {}, load before {}, TCP by {}; {scope} run.\n\
         Ratios are medians of the rounds' ratios, ± half the distance of the quartiles.",
        machine.processors,
        machine.processor,
        gib(machine.memory),
        machine.kernel,
        machine.load,
        machine.congestion,
    )?;
    write_goals(out, report)?;
    report
        .sections
        .iter()
        .try_for_each(|section| write_section(out, section))
}

/// A line for each of [`GOALS`]: reached, missed, or not measured and why.
fn write_goals(out: &mut String, report: &Report) -> fmt::Result {
    writeln!(out, "\n| goal | | |\n|---|---|---|")?;
    for (id, goal) in GOALS {
        writeln!(out, "| {id} | {goal} | {} |", outcome(report, id))?;
    }
    Ok(())
}

/// What came of all gates of a goal.
fn outcome(report: &Report, id: &str) -> String {
    let gates = report.sections.iter().flat_map(|section| &section.gates);
    let gates: Vec<&Gate> = gates.filter(|gate| gate.id == id).collect();
    let count = |met| gates.iter().filter(|gate| gate.is_met() == met).count();
    let (met, missed, unknown) = (count(Some(true)), count(Some(false)), count(None));
    if gates.is_empty() {
        return "not measured: its section was not run".to_owned();
    }
    let mut parts = Vec::new();
    for (count, word) in [(missed, "NOT met"), (met, "met"), (unknown, "not measured")] {
        if count > 0 {
            parts.push(if count == gates.len() {
                word.to_owned()
            } else {
                format!("{word} in {count} of {}", gates.len())
            });
        }
    }
    parts.join(", ")
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

fn write_section(out: &mut String, section: &Section) -> fmt::Result {
    writeln!(out, "\n## {}\n\n{}", section.name, section.title)?;
    for note in &section.notes {
        writeln!(out, "\n{note}.")?;
    }
    for row in &section.rows {
        write_row(out, row)?;
    }
    if !section.gates.is_empty() {
        writeln!(
            out,
            "\n| gate | | measured | asked for | |\n|---|---|---|---|---|"
        )?;
    }
    section
        .gates
        .iter()
        .try_for_each(|gate| write_gate(out, gate))
}

/// A table of a row: ways below each other, each against the first.
fn write_row(out: &mut String, row: &Row) -> fmt::Result {
    let Some(base) = row.rounds.keys().next() else {
        return write_missing(out, row);
    };
    writeln!(
        out,
        "\n| {} | of {base} | {} |\n|---|---|---|",
        row.title(),
        row.unit
    )?;
    for way in row.rounds.keys() {
        let ratio = row.ratio(way, base).map_or_else(
            || "-".to_owned(),
            |ratio| format!("{:.2} ± {:.0} %", ratio.median, 100.0 * ratio.spread()),
        );
        let value = row
            .value(way)
            .map_or_else(|| "-".to_owned(), |value| three_digits(value.median));
        writeln!(out, "| {way} | {ratio} | {value} |")?;
    }
    write_missing(out, row)
}

fn write_missing(out: &mut String, row: &Row) -> fmt::Result {
    row.missing.iter().try_for_each(|(way, why)| {
        writeln!(out, "\n{}: {way} was not measured: {why}.", row.title())
    })
}

fn write_gate(out: &mut String, gate: &Gate) -> fmt::Result {
    let sign = if gate.at_least { "≥" } else { "≤" };
    // What is not known to be measurable has no limit either.
    let limit = match gate.limit {
        0.0 => "-".to_owned(),
        limit => format!("{sign} {limit:.2}"),
    };
    let measured = gate
        .value
        .map_or_else(|| "-".to_owned(), |value| format!("{:.2}", value.median));
    let met = match gate.is_met() {
        Some(true) => "met",
        Some(false) => "NOT met",
        None if gate.why.is_empty() => "not measured",
        None => &format!("not measured: {}", gate.why),
    };
    writeln!(
        out,
        "| {} | {} | {measured} | {limit} | {met} |",
        gate.id, gate.what
    )
}

/// What became of each way's ratio since an earlier run: figures of two runs do not compare, ratios do.
pub fn comparison(earlier: &Report, report: &Report) -> String {
    let rows = |report: &Report| -> Vec<Row> {
        let sections = report.sections.iter();
        sections.flat_map(|section| section.rows.clone()).collect()
    };
    let before = rows(earlier);
    let mut text = String::from(
        "\n## Since the earlier run\n\n| | way | then | now | |\n|---|---|---|---|---|\n",
    );
    for row in rows(report) {
        let Some(old) = before.iter().find(|old| old.title() == row.title()) else {
            continue;
        };
        let Some(base) = row.rounds.keys().next() else {
            continue;
        };
        for way in row.rounds.keys().skip(1) {
            let what = row.title();
            if let (Some(then), Some(now)) = (old.ratio(way, base), row.ratio(way, base)) {
                let change = 100.0 * (now.median / then.median - 1.0);
                let spread = 100.0 * (then.spread() + now.spread());
                let noise = if change.abs() <= spread {
                    " (within the spread)"
                } else {
                    ""
                };
                let (then, now) = (then.median, now.median);
                // A String takes everything.
                let _ = writeln!(
                    text,
                    "| {what} | {way} | {then:.2} | {now:.2} | {change:+.0} %{noise} |"
                );
            }
        }
    }
    text
}

/// A number as people read it: three digits that count.
pub fn three_digits(value: f64) -> String {
    let places = match value.abs() {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.places$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::report;

    #[test]
    fn runs_are_compared_by_their_ratios() {
        let mut later = report();
        let rounds = &mut later.sections[0].rows[0].rounds;
        rounds
            .get_mut("duolb (bpf)")
            .unwrap()
            .iter_mut()
            .for_each(|value| *value *= 1.1);
        let table = comparison(&report(), &later);
        assert!(
            table.contains("| duolb (bpf) | 0.90 | 0.99 | +10 % |"),
            "{table}"
        );
        let mut hardly = report();
        let rounds = &mut hardly.sections[0].rows[0].rounds;
        let rounds = rounds.get_mut("duolb (bpf)").unwrap();
        rounds.iter_mut().for_each(|value| *value *= 1.01);
        let table = comparison(&report(), &hardly);
        assert!(table.contains("+1 % (within the spread) |"), "{table}");
    }

    #[test]
    fn the_page_shows_ratios_gates_and_what_is_missing() {
        let page = page(&report());
        assert!(page.contains("TCP by bbr; "), "{page}");
        assert!(
            page.contains("| duolb (bpf) | 0.90 ± 1 % | 19.0 |"),
            "{page}"
        );
        assert!(page.contains("kube-proxy iptables was not measured: iptables-legacy is missing."));
        assert!(page.contains("≥ 0.90 | met |"));
        assert!(page.contains("not measured: kube-proxy iptables: iptables-legacy is missing"));
        assert!(
            page.contains("met in 1 of 2, not measured in 1 of 2 |"),
            "{page}"
        );
        assert!(page.contains("| not measured: its section was not run |"));
        assert!(page.contains("\nchecksums are right."));
    }
}
