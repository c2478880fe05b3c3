//! `cargo xtask test`: every test there is, as root because the lab needs it.
//!
//! Where we are not root, the tests are compiled as the user and only run through sudo, so that nothing
//! in the target directory belongs to root.
//!
//! What fails is tried once more when nothing else runs: dozens of namespaces on two cores now and then take a second
//! for what has to be done within one. A test that fails alone as well has failed.

mod failures;
mod verdicts;

use std::{
    env,
    io::{BufRead as _, BufReader},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use self::{failures::Failures, verdicts::Coverage};
use crate::{build, setup, workspace};

/// Arguments of `test`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    setup: setup::Args,
    /// Further arguments for cargo test: `-p xtask`, a name, `-- --nocapture`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    cargo: Vec<String>,
}

/// Namespace tests at once: each has a dozen threads and waits most of the time.
const THREADS: usize = 4;

/// Runs all tests and prints a summary.
///
/// # Errors
/// If any fails, or something is missing or does not compile.
pub fn main(args: &Args) -> Result<()> {
    setup::ensure(setup::Scope::Lab, &args.setup)?;
    let next = build::next_schema()?;
    let duolb = build::duolb(&[])?;
    let directory = workspace::target_dir()?.join("verdicts");
    verdicts::prepare(&directory)?;
    let variables = [
        ("DUOLB_VERDICTS", directory.clone()),
        ("DUOLB_BIN", duolb),
        ("DUOLB_NEXT_BIN", next),
    ];
    let cargo_test = |args: &[String], threads: Option<&str>| -> Result<Run> {
        let mut command = workspace::cargo();
        command.arg("test").arg("--no-fail-fast").args(args);
        command.envs(variables.clone());
        if let Some(threads) = threads {
            command.env("RUST_TEST_THREADS", threads);
        }
        if !nix::unistd::geteuid().is_root() {
            let host = workspace::host()?.replace('-', "_").to_uppercase();
            command.env(format!("CARGO_TARGET_{host}_RUNNER"), "sudo -E");
        }
        Run::of(command)
    };
    let start = Instant::now();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.clamp(2, THREADS).to_string();
    let is_told = env::var_os("RUST_TEST_THREADS").is_some();
    let all = packages(&args.cargo);
    let mut run = cargo_test(&all, (!is_told).then_some(&threads))?;
    print!("{}", run.failures);
    let mut flaky = Vec::new();
    if let Some(again) = run.failures.again(&all, &run.totals) {
        println!(
            "\nonce more, with nothing else running: cargo test {}\n",
            again.join(" ")
        );
        let alone = cargo_test(&again, Some("1"))?;
        print!("{}", alone.failures);
        if alone.status.success() && alone.totals.passed >= run.totals.failed {
            flaky = run.failures.names();
            run.totals.passed += run.totals.failed;
            run.totals.failed = 0;
            run.status = alone.status;
        }
    }
    let coverage = Coverage::read(&directory);
    if !coverage.is_empty() {
        println!("\n{}", coverage.table());
    }
    for test in flaky {
        println!("\nFLAKY {test}: passed only when nothing else ran");
    }
    let Totals {
        passed,
        failed,
        ignored,
        ..
    } = run.totals;
    let took = start.elapsed().as_secs();
    println!("\n{passed} tests passed, {failed} failed, {ignored} ignored in {took} s");
    if !run.status.success() {
        bail!("cargo test: {}", run.status);
    }
    let gaps = coverage.gaps();
    if args.cargo.is_empty() && !gaps.is_empty() {
        bail!("no test has reached the verdicts {}", gaps.join(", "));
    }
    Ok(())
}

/// The arguments with all packages that run here, if they name none.
fn packages(args: &[String]) -> Vec<String> {
    let is_named = |arg: &String| arg == "-p" || arg.starts_with("--package");
    let all = ["--workspace", "--exclude", "lb-ebpf"].map(str::to_owned);
    let all = all.into_iter().filter(|_| !args.iter().any(is_named));
    all.chain(args.iter().cloned()).collect()
}

/// What a run of `cargo test` came to.
struct Run {
    status: ExitStatus,
    totals: Totals,
    failures: Failures,
}

impl Run {
    /// Runs it, and shows what it prints.
    fn of(mut command: Command) -> Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.context("cannot start cargo test")?;
        let (mut totals, mut failures) = (Totals::default(), Failures::default());
        for line in BufReader::new(child.stdout.take().context("stdout is piped")?).lines() {
            let line = line.context("cargo test: not text")?;
            println!("{line}");
            totals.add(&line);
            failures.add(&line);
        }
        let status = child.wait().context("cargo test")?;
        Ok(Self {
            status,
            totals,
            failures,
        })
    }
}

/// Sums over all test binaries.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) ignored: u32,
    /// Binaries that have begun and said no result (yet).
    pub(crate) unfinished: u32,
}

impl Totals {
    /// Counts a line like `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
    pub(crate) fn add(&mut self, line: &str) {
        if line.starts_with("running ") && (line.ends_with(" tests") || line.ends_with(" test")) {
            self.unfinished += 1;
        }
        let Some((_, counts)) = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        self.unfinished = self.unfinished.saturating_sub(1);
        for count in counts.split("; ") {
            let Some((number, what)) = count.split_once(' ') else {
                continue;
            };
            let number = number.parse().unwrap_or(0);
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_binaries_are_summed() {
        let mut totals = Totals::default();
        totals.add("running 4 tests");
        totals.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        totals.add("test lab::tests::result ... ok");
        totals.add("running 12 tests");
        totals.add("test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured");
        totals.add("running 1 test");
        assert_eq!(
            totals,
            Totals {
                passed: 13,
                failed: 2,
                ignored: 1,
                unfinished: 1,
            }
        );
    }
}
