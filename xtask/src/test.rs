//! `cargo xtask test`: every test there is, as root because the lab needs it.
//!
//! Where we are not root, the tests are compiled as the user and only run through sudo, so that nothing
//! in the target directory belongs to root.

mod failures;
mod verdicts;

use std::{
    env,
    io::{BufRead as _, BufReader},
    process::Stdio,
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
    let mut command = workspace::cargo();
    command.arg("test");
    if !args
        .cargo
        .iter()
        .any(|arg| arg == "-p" || arg.starts_with("--package"))
    {
        command.args(["--workspace", "--exclude", "lb-ebpf"]);
    }
    let directory = workspace::target_dir()?.join("verdicts");
    verdicts::prepare(&directory)?;
    command
        .arg("--no-fail-fast")
        .args(&args.cargo)
        .env("DUOLB_VERDICTS", &directory)
        .env("DUOLB_BIN", duolb)
        .env("DUOLB_NEXT_BIN", next);
    if env::var_os("RUST_TEST_THREADS").is_none() {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        command.env("RUST_TEST_THREADS", cores.clamp(2, THREADS).to_string());
    }
    if !nix::unistd::geteuid().is_root() {
        let host = workspace::host()?.replace('-', "_").to_uppercase();
        command.env(format!("CARGO_TARGET_{host}_RUNNER"), "sudo -E");
    }
    let start = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let child = child.as_mut().ok().context("cannot start cargo test")?;
    let (mut totals, mut failures) = (Totals::default(), Failures::default());
    for line in BufReader::new(child.stdout.take().context("stdout is piped")?).lines() {
        let line = line.context("cargo test: not text")?;
        println!("{line}");
        totals.add(&line);
        failures.add(&line);
    }
    print!("{failures}");
    let coverage = Coverage::read(&directory);
    if !coverage.is_empty() {
        println!("\n{}", coverage.table());
    }
    let status = child.wait().context("cargo test")?;
    let Totals {
        passed,
        failed,
        ignored,
    } = totals;
    let took = start.elapsed().as_secs();
    println!("\n{passed} tests passed, {failed} failed, {ignored} ignored in {took} s");
    if !status.success() {
        bail!("cargo test: {status}");
    }
    let gaps = coverage.gaps();
    if args.cargo.is_empty() && !gaps.is_empty() {
        bail!("no test has reached the verdicts {}", gaps.join(", "));
    }
    Ok(())
}

/// Sums over all test binaries.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) ignored: u32,
}

impl Totals {
    /// Counts a line like `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
    pub(crate) fn add(&mut self, line: &str) {
        let Some((_, counts)) = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
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
        totals.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        totals.add("test lab::tests::result ... ok");
        totals.add("test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured");
        assert_eq!(
            totals,
            Totals {
                passed: 13,
                failed: 2,
                ignored: 1
            }
        );
    }
}
