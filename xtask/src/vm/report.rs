//! What came of it: per kernel a summary at the end, and the tables of `docs/kernels.md`.

use std::{collections::BTreeMap, time::Duration};

use super::order::Word;
use crate::test::Totals;

/// What a line begins with that says what a program costs, as `lb-userspace/tests/programs/cost.rs` prints it:
/// name and figures, each as `what=number`.
const COST: &str = "cost: ";
/// Likewise what the kernel lacks, and what is done instead.
const LACKS: &str = "kernel: ";
/// What tests say that cannot run.
const SKIPPED: &str = " skipped: ";

/// A kernel's tests.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// As in `--kernel`.
    version: String,
    release: String,
    boot: Duration,
    suites: Vec<Suite>,
    /// By program, in the order of their names: figure by name.
    costs: BTreeMap<String, BTreeMap<String, u64>>,
    lacks: Vec<String>,
    /// What ended it early.
    pub(super) trouble: Option<String>,
}

/// A test binary's tests.
#[derive(Debug, Default)]
struct Suite {
    name: String,
    totals: Totals,
    failed: Vec<String>,
    skipped: Vec<String>,
    /// What its process ended with.
    failure: Option<String>,
    seconds: u64,
}

impl Report {
    /// Of a guest that has just said hello.
    pub(super) fn new(version: &str, release: &str, boot: Duration) -> Self {
        Self {
            version: version.to_owned(),
            release: release.to_owned(),
            boot,
            ..Self::default()
        }
    }

    /// Takes in what the guest says; whether it goes on.
    pub(super) fn hear(&mut self, line: &str) -> bool {
        match Word::find(line) {
            Some(Word::Done) => return false,
            Some(Word::Trouble { what }) => {
                self.trouble = Some(what);
                return false;
            }
            Some(Word::Begin { name }) => self.suites.push(Suite {
                name,
                failure: Some("did not end".to_owned()),
                ..Suite::default()
            }),
            Some(Word::End {
                failure, seconds, ..
            }) => {
                if let Some(suite) = self.suites.last_mut() {
                    (suite.failure, suite.seconds) = (failure, seconds);
                }
            }
            Some(Word::Hello { .. }) => {}
            None => self.hear_test(line),
        }
        true
    }

    fn hear_test(&mut self, line: &str) {
        if let Some((_, cost)) = line.split_once(COST) {
            let mut words = cost.split_whitespace();
            let name = words.next().unwrap_or_default().to_owned();
            let figures = words.filter_map(|word| {
                let (what, number) = word.split_once('=')?;
                Some((what.to_owned(), number.parse().ok()?))
            });
            self.costs.insert(name, figures.collect());
        }
        if let Some(lack) = line.strip_prefix(LACKS) {
            self.lacks.push(lack.to_owned());
        }
        let Some(suite) = self.suites.last_mut() else {
            return;
        };
        suite.totals.add(line);
        if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|l| l.strip_suffix(" ... FAILED"))
        {
            suite.failed.push(name.to_owned());
        }
        if line.contains(SKIPPED) {
            suite.skipped.push(line.to_owned());
        }
    }

    /// Whether all went well.
    pub(super) fn is_good(&self) -> bool {
        self.trouble.is_none() && self.suites.iter().all(|suite| suite.failure.is_none())
    }

    /// What a person reads at the end.
    pub(super) fn summary(&self) -> String {
        let mut text = format!(
            "\nkernel {} ({}), up in {} s\n",
            self.version,
            self.release,
            self.boot.as_secs()
        );
        for suite in &self.suites {
            text += &format!("  {:10} {}\n", suite.name, suite.result());
            for name in &suite.failed {
                text += &format!("             failed: {name}\n");
            }
            for line in &suite.skipped {
                text += &format!("             {line}\n");
            }
        }
        for lack in &self.lacks {
            text += &format!("  {lack}\n");
        }
        if let Some(trouble) = &self.trouble {
            text += &format!("  {trouble}\n");
        }
        text
    }
}

impl Suite {
    fn result(&self) -> String {
        let Totals { passed, failed, .. } = self.totals;
        let counts = format!("{passed} passed, {failed} failed in {} s", self.seconds);
        match (&self.failure, failed) {
            (None, _) => counts,
            // The test harness's way to say that tests failed.
            (Some(_), 1..) => counts,
            (Some(failure), 0) => format!("{counts}; {failure}"),
        }
    }
}

/// The tables of `docs/kernels.md`, in Markdown.
pub(super) fn tables(reports: &[Report]) -> String {
    let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let head = |first: &str| {
        let names = reports.iter().map(|report| report.version.clone());
        let cells: Vec<_> = [first.to_owned()].into_iter().chain(names).collect();
        let rule = vec!["---".to_owned(); cells.len()];
        row(cells) + &row(rule)
    };
    let line = |name: &str, cell: &dyn Fn(&Report) -> String| {
        let cells = reports.iter().map(cell);
        row([name.to_owned()].into_iter().chain(cells).collect())
    };
    let mut text = head("");
    text += &line("release", &|report| report.release.clone());
    text += &line("up in", &|report| format!("{} s", report.boot.as_secs()));
    let mut names: Vec<&str> = Vec::new();
    for suite in reports.iter().flat_map(|report| &report.suites) {
        if !names.contains(&&*suite.name) && suite.name != "cost" {
            names.push(&suite.name);
        }
    }
    for name in names {
        text += &line(&format!("tests: {name}"), &|report| {
            let suite = report.suites.iter().find(|suite| suite.name == name);
            suite.map_or_else(|| "not run".to_owned(), |suite| suite.result())
        });
    }
    text += &line("lacks", &|report| match report.lacks.is_empty() {
        true => "nothing".to_owned(),
        false => report.lacks.join("; "),
    });
    let programs = || {
        let all = reports.iter().flat_map(|report| report.costs.keys());
        all.collect::<std::collections::BTreeSet<_>>()
    };
    for (figure, title) in [
        ("verified", "verified instructions"),
        ("jited", "bytes of machine code"),
        ("load_ms", "ms to load"),
    ] {
        text += &format!("\n{}", head(title));
        for program in programs() {
            text += &line(&format!("`{program}`"), &|report| {
                let found = report
                    .costs
                    .get(program)
                    .and_then(|costs| costs.get(figure));
                found.map_or_else(|| "-".to_owned(), u64::to_string)
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(lines: &[String]) -> Report {
        let mut report = Report::new("6.1", "6.1.0-50-cloud-amd64", Duration::ZERO);
        for line in lines {
            report.hear(line);
        }
        report
    }

    fn lines(end: Option<Word>) -> Vec<String> {
        let begin = Word::Begin {
            name: "programs".into(),
        };
        let mut lines = vec![
            begin.line(),
            "cost: tc_ingress verified=88 load_ms=7".into(),
            "kernel: TC by clsact".into(),
            "test a::b ... FAILED".into(),
            "tunnels_work skipped: no ipip here".into(),
            "test result: FAILED. 3 passed; 1 failed; 0 ignored".into(),
        ];
        lines.extend(end.map(|word| word.line()));
        lines
    }

    #[test]
    fn a_summary_names_what_failed_and_what_was_skipped() {
        let report = heard(&lines(Some(Word::End {
            name: "programs".into(),
            failure: Some("exit status: 101".into()),
            seconds: 9,
        })));
        assert!(!report.is_good());
        let summary = report.summary();
        for part in [
            "3 passed, 1 failed in 9 s",
            "failed: a::b",
            "tunnels_work skipped: no ipip here",
        ] {
            assert!(summary.contains(part), "{part}: {summary}");
        }
        let tables = tables(&[report]);
        assert!(tables.contains("| `tc_ingress` | 88 |"), "{tables}");
        assert!(tables.contains("| lacks | TC by clsact |"), "{tables}");
    }

    #[test]
    fn a_suite_that_did_not_end_is_no_success() {
        assert!(!heard(&lines(None)).is_good());
    }
}
