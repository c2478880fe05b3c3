//! `cargo xtask build`: the duolb binary, with the kernel side inside.

use std::{path::PathBuf, process::Stdio};

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

/// Builds duolb with further `options` for cargo and returns the binary's path.
///
/// # Errors
/// If it does not compile.
pub fn duolb(options: &[&str]) -> Result<PathBuf> {
    let mut command = workspace::cargo();
    command.args(["build", "--package", "lb-userspace", "--bin", "duolb"]);
    command.arg("--message-format=json-render-diagnostics");
    command.args(options);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    let output = output.context("cannot start cargo build")?;
    if !output.status.success() {
        bail!("duolb did not compile");
    }
    let messages = String::from_utf8(output.stdout).context("cargo build: not text")?;
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "duolb")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo build named no executable duolb")
}
