//! The score board: what was probed, who answered, and whether all is well.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table, presets};

use super::frontends::Frontend;

/// Failures that are told in words below the table.
const SHOWN: usize = 10;

/// What one probe showed.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// This endpoint answered, and everything about the answer was right.
    Reached(String),
    /// There is no endpoint, and no one answered.
    Rejected,
    /// Anything else.
    Failed(String),
}

/// A frontend and its score.
#[derive(Debug)]
struct Row {
    frontend: Frontend,
    expected: BTreeSet<String>,
    reached: BTreeMap<String, u64>,
    ok: u64,
    failed: u64,
}

/// All frontends.
#[derive(Debug)]
pub(super) struct Board {
    rows: Vec<Row>,
    failures: Vec<String>,
}

impl Board {
    /// An empty board; `pods` names the pod behind an address.
    pub(super) fn new(frontends: Vec<Frontend>, pods: &BTreeMap<IpAddr, String>) -> Self {
        let name = |ip: &IpAddr| pods.get(ip).cloned().unwrap_or_else(|| ip.to_string());
        let rows = frontends.into_iter().map(|frontend| Row {
            expected: frontend
                .endpoints
                .iter()
                .map(|endpoint| name(&endpoint.address))
                .collect(),
            frontend,
            reached: BTreeMap::new(),
            ok: 0,
            failed: 0,
        });
        Self {
            rows: rows.collect(),
            failures: Vec::new(),
        }
    }

    /// Number of frontends.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The endpoints that a frontend should reach.
    pub(super) fn expected(&self, row: usize) -> &BTreeSet<String> {
        &self.rows[row].expected
    }

    /// A frontend.
    pub(super) fn frontend(&self, row: usize) -> &Frontend {
        &self.rows[row].frontend
    }

    /// Enters a result.
    pub(super) fn enter(&mut self, row: usize, outcome: Outcome) {
        let row = &mut self.rows[row];
        match outcome {
            Outcome::Reached(endpoint) => {
                *row.reached.entry(endpoint).or_default() += 1;
                row.ok += 1;
            }
            Outcome::Rejected => row.ok += 1,
            Outcome::Failed(why) => {
                row.failed += 1;
                if self.failures.len() < SHOWN {
                    self.failures
                        .push(format!("{}: {why}", row.frontend.service()));
                }
            }
        }
    }

    /// Whether every frontend was probed without a failure and reached all its endpoints.
    pub(super) fn is_well(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(Row::is_well)
    }

    /// The table, as wide as the terminal if that is known, and the first failures in words.
    pub(super) fn render(&self, width: Option<u16>) -> String {
        let mut table = Table::new();
        table
            .load_style(presets::UTF8_FULL_CONDENSED)
            .set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header([
            "service",
            "family",
            "frontend",
            "endpoints reached",
            "ok",
            "failed",
            "result",
        ]);
        table.set_width(width.unwrap_or(160));
        for row in &self.rows {
            let frontend = &row.frontend;
            let (result, color) = row.result();
            let number = |number: u64| Cell::new(number).set_alignment(CellAlignment::Right);
            let result = Cell::new(result);
            table.add_row([
                Cell::new(frontend.service()),
                Cell::new(&frontend.family),
                Cell::new(format!("{}/{}", frontend.socket(), frontend.protocol)),
                Cell::new(row.endpoints()),
                number(row.ok),
                number(row.failed),
                if width.is_some() {
                    result.fg(color)
                } else {
                    result
                },
            ]);
        }
        let mut text = table.to_string() + "\n";
        for failure in &self.failures {
            text += &format!("failed: {failure}\n");
        }
        text
    }
}

impl Row {
    fn is_well(&self) -> bool {
        self.frontend.probed().is_none()
            || (self.failed == 0 && self.ok > 0 && self.missing().is_empty())
    }

    fn missing(&self) -> Vec<&str> {
        let missing = self
            .expected
            .iter()
            .filter(|name| !self.reached.contains_key(*name));
        missing.map(String::as_str).collect()
    }

    fn endpoints(&self) -> String {
        let reached = self
            .reached
            .iter()
            .map(|(name, count)| format!("{name} {count}"));
        let missing = self.missing().into_iter().map(|name| format!("{name} -"));
        reached.chain(missing).collect::<Vec<_>>().join(" · ")
    }

    fn result(&self) -> (&'static str, Color) {
        match self {
            row if row.frontend.probed().is_none() => ("not probed", Color::Grey),
            row if row.failed > 0 => ("FAILED", Color::Red),
            row if row.ok == 0 => ("...", Color::Grey),
            row if row.expected.is_empty() => ("rejected", Color::Green),
            row if !row.missing().is_empty() => ("incomplete", Color::Yellow),
            _ => ("ok", Color::Green),
        }
    }
}
