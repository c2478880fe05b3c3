//! `cargo xtask build`: the duolb binary, with the kernel side inside.

use std::{fs, path::PathBuf, process::Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{setup, workspace};

/// Arguments of `build`.
#[derive(clap::Args)]
pub struct Args {
    /// Optimise, and leave out debug assertions
    #[arg(long)]
    release: bool,
    #[command(flatten)]
    setup: setup::Args,
}

/// Builds and prints where the binary is.
///
/// # Errors
/// If something is missing or does not compile.
pub fn main(args: &Args) -> Result<()> {
    setup::ensure(setup::Scope::Build, &args.setup)?;
    let options: &[_] = if args.release { &["--release"] } else { &[] };
    println!("{}", duolb(options)?.display());
    Ok(())
}

/// Builds what the next version's duolb might be, with longer values in its maps, for tests of upgrades, and puts it aside:
/// in the same directory, so that nothing but the workspace itself is compiled a second time.
///
/// # Errors
/// If it does not compile, or cannot be copied.
pub fn next_schema() -> Result<PathBuf> {
    let built = duolb(&["--features", "lb-userspace/next-schema"])?;
    let aside = built.with_file_name("duolb-next-schema");
    let fresh = aside.with_extension("new");
    fs::copy(&built, &fresh).with_context(|| format!("cannot write {}", fresh.display()))?;
    fs::rename(&fresh, &aside).with_context(|| format!("cannot write {}", aside.display()))?;
    Ok(aside)
}

/// Builds duolb with further `options` for cargo and returns the binary's path.
///
/// # Errors
/// If it does not compile.
pub fn duolb(options: &[&str]) -> Result<PathBuf> {
    let build = ["build", "--package", "lb-userspace", "--bin", "duolb"];
    executable("duolb", &[&build, options].concat())
}

/// Builds the tests of the programs, which the bench asks, likewise.
///
/// # Errors
/// If they do not compile.
pub fn program_tests(options: &[&str]) -> Result<PathBuf> {
    let build = [
        "test",
        "--no-run",
        "--package",
        "lb-userspace",
        "--test",
        "programs",
    ];
    executable("programs", &[&build, options].concat())
}

/// Runs cargo and returns the executable of that name that it tells of.
fn executable(name: &str, arguments: &[&str]) -> Result<PathBuf> {
    let mut command = workspace::cargo();
    command
        .args(arguments)
        .arg("--message-format=json-render-diagnostics");
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    let output = output.with_context(|| format!("cannot start cargo {}", arguments[0]))?;
    if !output.status.success() {
        bail!("{name} did not compile");
    }
    let messages = String::from_utf8(output.stdout).context("cargo: not text")?;
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("cargo named no executable {name}"))
}
