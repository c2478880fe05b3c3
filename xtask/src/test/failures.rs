//! What failed and how, once more behind everything else: the beginning of a long log is often cut off.

use std::fmt;

use super::Totals;

/// Lines kept of each failure; what a test says last, like a backtrace, is the least telling.
const LINES: usize = 12;

/// More failures than that are no accidents of a busy machine.
const ACCIDENTS: u32 = 6;

/// What the tests that failed have said.
#[derive(Debug, Default)]
pub struct Failures {
    all: Vec<Failure>,
    is_open: bool,
}

#[derive(Debug)]
struct Failure {
    test: String,
    said: Vec<String>,
}

impl Failures {
    /// Reads a further line of libtest's output.
    pub fn add(&mut self, line: &str) {
        let head = line
            .strip_prefix("---- ")
            .and_then(|rest| rest.strip_suffix(" stdout ----"));
        if let Some(test) = head {
            self.all.push(Failure {
                test: test.to_owned(),
                said: Vec::new(),
            });
            self.is_open = true;
            return;
        }
        self.is_open &= line != "failures:" && !line.eq_ignore_ascii_case("stack backtrace:");
        if let Some(failure) = self.all.last_mut()
            && self.is_open
            && !line.trim().is_empty()
            && failure.said.len() < LINES
        {
            failure.said.push(line.to_owned());
        }
    }
}

impl Failures {
    /// The tests' names.
    pub fn names(&self) -> Vec<String> {
        self.all
            .iter()
            .map(|failure| failure.test.clone())
            .collect()
    }

    /// The arguments for `cargo test` that run these tests and no others, where `args` had run all of them. None if none failed,
    /// too many did, or something else went wrong: a process that died names no test.
    pub fn again(&self, args: &[String], totals: &Totals) -> Option<Vec<String>> {
        let names = self.names();
        let are_all_named = names.len() == totals.failed as usize && totals.unfinished == 0;
        if names.is_empty() || totals.failed > ACCIDENTS || !are_all_named {
            return None;
        }
        let mut again = args.to_vec();
        if !args.iter().any(|arg| arg == "--") {
            again.push("--".to_owned());
        }
        again.push("--exact".to_owned());
        again.extend(names);
        Some(again)
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Failure { test, said } in &self.all {
            writeln!(f, "\nFAILED {test}")?;
            for line in said {
                writeln!(f, "  {line}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_with_their_first_lines_and_no_backtrace() {
        let mut failures = Failures::default();
        let log = "test a::b ... FAILED\n\nfailures:\n\n---- a::b stdout ----\n\nthread 'a::b' panicked:\nleft: 1\n\
                   stack backtrace:\n   0: begin\n\n---- c stdout ----\nError: no\n\nfailures:\n    a::b\n    c\n";
        log.lines().for_each(|line| failures.add(line));
        let expected =
            "\nFAILED a::b\n  thread 'a::b' panicked:\n  left: 1\n\nFAILED c\n  Error: no\n";
        assert_eq!(failures.to_string(), expected);
    }

    #[test]
    fn a_few_that_are_known_by_name_are_run_again() {
        let again = |names: &[&str], failed, args: &[&str]| {
            let mut failures = Failures::default();
            let lines = names.iter().map(|name| format!("---- {name} stdout ----"));
            lines.for_each(|line| failures.add(&line));
            let totals = Totals {
                failed,
                ..Totals::default()
            };
            let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
            failures.again(&args, &totals).map(|again| again.join(" "))
        };
        assert_eq!(again(&[], 0, &[]), None);
        assert_eq!(
            again(&["a", "b"], 2, &[]).as_deref(),
            Some("-- --exact a b")
        );
        let given = ["-p", "x", "--", "--nocapture"];
        let expected = "-p x -- --nocapture --exact a";
        assert_eq!(again(&["a"], 1, &given).as_deref(), Some(expected));
        assert_eq!(again(&["a"], 2, &[]), None);
        assert_eq!(again(&["a"; 7], 7, &[]), None);
    }
}
