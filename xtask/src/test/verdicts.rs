//! The coverage of verdicts: which of them the tests have seen, and why not the others.
//!
//! Program tests and the lab's agents leave their counts in files of a directory, a line for each verdict that was
//! given (`lb-userspace/tests/programs/coverage.rs`, `lab::verdicts`).

#[path = "../../../lb-userspace/tests/programs/unreached.rs"]
mod unreached;

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};
use comfy_table::{Table, presets};
use lb_common::verdict::Verdict;

/// The kinds of test that leave counts, by the name of their file.
const KINDS: [&str; 2] = ["programs", "namespaces"];

/// How often each verdict was given, by kind of test.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    counts: BTreeMap<Verdict, [u64; 2]>,
}

/// An empty directory for the counts of one run.
///
/// # Errors
/// If it cannot be made.
pub fn prepare(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())
}

impl Coverage {
    /// What the tests have left in `directory`.
    pub fn read(directory: &Path) -> Self {
        let mut coverage = Self::default();
        for (kind, file) in KINDS.iter().enumerate() {
            // None of that kind has run.
            let text = fs::read_to_string(directory.join(file)).unwrap_or_default();
            coverage.add(kind, &text);
        }
        coverage
    }

    /// Whether no test has left anything.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    fn add(&mut self, kind: usize, text: &str) {
        for (label, count) in text.lines().filter_map(|line| line.split_once(' ')) {
            let verdict = Verdict::ALL.iter().find(|it| it.label() == label);
            if let (Some(verdict), Ok(count)) = (verdict, count.parse::<u64>()) {
                self.counts.entry(*verdict).or_default()[kind] += count;
            }
        }
    }

    /// The verdicts that no test has seen and nobody says why.
    pub fn gaps(&self) -> Vec<&'static str> {
        let unseen = Verdict::ALL
            .iter()
            .filter(|it| !self.counts.contains_key(it));
        let gaps = unseen.filter(|it| unreached::reason(**it).is_none());
        gaps.map(|it| it.label()).collect()
    }

    /// A table with a line for each verdict.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["VERDICT", "PROGRAM TESTS", "NAMESPACES", ""]);
        for verdict in Verdict::ALL {
            let counts = self.counts.get(verdict).copied().unwrap_or_default();
            let why = match (counts, unreached::reason(*verdict)) {
                ([0, 0], Some(why)) => why,
                ([0, 0], None) => "NOT SEEN",
                _ => "",
            };
            let [programs, namespaces] = counts.map(|count| count.to_string());
            table.add_row([verdict.label(), &programs, &namespaces, why]);
        }
        table.trim_fmt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_summed_and_what_was_not_is_a_gap_unless_there_is_a_reason() {
        let mut coverage = Coverage::default();
        assert!(coverage.is_empty());
        coverage.add(0, "dnat 3\nrev-nat 1\ndnat 4\nnonsense 7\n");
        coverage.add(1, "dnat 10\nsocket 2\n");
        let counts: Vec<_> = coverage.counts.iter().collect();
        assert_eq!(
            counts,
            [
                (&Verdict::Dnat, &[7, 10]),
                (&Verdict::RevNat, &[1, 0]),
                (&Verdict::Socket, &[0, 2]),
            ]
        );
        let gaps = coverage.gaps();
        assert_eq!(
            gaps.len(),
            Verdict::ALL.len() - 3 - unreached::UNREACHED.len()
        );
        assert!(gaps.contains(&"snat") && !gaps.contains(&"flow-table-full"));
        let table = coverage.table();
        assert!(
            table.contains("NOT SEEN") && table.contains("LRU"),
            "{table}"
        );
    }
}
