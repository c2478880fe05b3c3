//! The bench itself, as quickly as it goes: whether every row is there, not what is in it.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Whom a row is about.
const WAYS: [&str; 6] = [
    "direct",
    "routed",
    "duolb (bpf)",
    "duolb (kernel)",
    "kube-proxy nftables",
    "kube-proxy iptables",
];

/// What there is for each family.
const ROWS: [&str; 8] = [
    "connections",
    "connection p50",
    "connection p99",
    "connection p99.9",
    "requests over one connection",
    "request p50",
    "request p99",
    "request p99.9",
];

fn list<'a>(value: &'a Value, name: &str) -> Result<&'a Vec<Value>> {
    value[name].as_array().with_context(|| format!("no {name}"))
}

/// A moment of section `connections` in a directory of its own.
fn run(out: &Path) -> Result<()> {
    let duolb =
        std::env::var_os("DUOLB_BIN").context("DUOLB_BIN is not set: use cargo xtask test")?;
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["bench", "--section", "connections"])
        .args(["--rounds", "2", "--milliseconds", "20"])
        .arg("--duolb")
        .arg(duolb)
        // Of no use to this section.
        .args(["--programs", "/bin/true"])
        .arg("--out")
        .arg(out)
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{errors}");
    Ok(())
}

#[test]
fn a_report_has_all_rows_of_its_section_each_with_every_way_or_why_not() -> Result<()> {
    if !xtask::lab::is_possible(module_path!()) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    run(dir.path())?;
    let report = fs::read_to_string(dir.path().join("report.json"))?;
    let report: Value = serde_json::from_str(&report)?;
    let [section] = &list(&report, "sections")?[..] else {
        anyhow::bail!("one section was asked for");
    };
    let rows = list(section, "rows")?;
    let names: Vec<_> = rows.iter().filter_map(|row| row["what"].as_str()).collect();
    let expected = ["IPv4", "IPv6"].map(|family| ROWS.map(|row| format!("{family} {row}")));
    assert_eq!(names, expected.concat());
    for row in rows {
        for way in WAYS {
            let rounds = row["rounds"][way].as_array().map_or(0, Vec::len);
            // A way's latencies are missing with its rate.
            let is_latency = row["unit"] == "µs";
            let is_explained = row["missing"][way].is_string();
            ensure!(rounds == 2 || is_explained || is_latency, "{row}: {way}");
        }
    }
    // Figures count only since this was seen to first, for both of duolb's ways.
    let notes = list(section, "notes")?;
    let seen = notes.iter().filter_map(Value::as_str);
    let seen = seen.filter(|note| note.contains("checksums are right with offloads default"));
    assert_eq!(seen.count(), 2, "{notes:?}");
    ensure!(
        !list(section, "gates")?.is_empty(),
        "nothing was asked of it"
    );
    let page = fs::read_to_string(dir.path().join("report.md"))?;
    for goal in ["| G1 |", "| G4 |", "| G11 |"] {
        ensure!(page.contains(goal), "{page}");
    }
    ensure!(dir.path().join("connections.svg").exists(), "no chart");
    Ok(())
}
