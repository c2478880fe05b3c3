//! `cargo xtask check`: formatting, lints on both targets, documentation, and the rules between rooms.
//!
//! All of them run whatever the ones before say, so that one look shows all there is to do.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    rooms, setup,
    toolchain::{self, Tools},
    workspace,
};

/// Arguments of `check`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    setup: setup::Args,
}

/// A check's name and what it does.
type Check = (&'static str, fn() -> Result<()>);

/// Runs all checks.
///
/// # Errors
/// Names those that failed.
pub fn main(args: &Args) -> Result<()> {
    setup::ensure(setup::Scope::Build, &args.setup)?;
    let checks: [Check; 5] = [
        ("fmt", fmt),
        ("clippy", clippy),
        ("clippy for BPF", clippy_bpf),
        ("doc", doc),
        ("rooms", || rooms::check(workspace::root())),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        eprintln!("check: {name}");
        if let Err(error) = check() {
            eprintln!("check: {name}: {error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn fmt() -> Result<()> {
    workspace::run(workspace::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    let args = [
        "clippy",
        "--quiet",
        "--workspace",
        "--exclude",
        "lb-ebpf",
        "--all-targets",
    ];
    workspace::run(
        workspace::cargo()
            .args(args)
            .args(["--", "--deny", "warnings"]),
    )
}

/// Clippy comes with rustup's toolchains; the distribution's often has none.
fn clippy_bpf() -> Result<()> {
    let tools = toolchain::find().context("setup found the tools")?;
    let bin = tools.toolchain.prefix.join("bin");
    let has_clippy = bin.join("cargo-clippy").exists() && bin.join("clippy-driver").exists();
    let subcommand = if has_clippy { "clippy" } else { "build" };
    if !has_clippy {
        eprintln!(
            "check: {} has no clippy: the compiler's own warnings only",
            tools.toolchain
        );
    }
    workspace::run(&mut bpf(&tools, &bin, subcommand)?)
}

fn bpf(tools: &Tools, bin: &Path, subcommand: &str) -> Result<Command> {
    let root = workspace::root();
    let mut command = tools.cargo(root, std::env::consts::ARCH, subcommand, &["-Dwarnings"]);
    // cargo looks for cargo-clippy on PATH first, where rustup's is, of another toolchain.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(bin.to_owned()).chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(dirs).context("PATH")?);
    command
        .arg("--quiet")
        .arg("--target-dir")
        .arg(workspace::target_dir()?.join("bpf-check"));
    Ok(command)
}

fn doc() -> Result<()> {
    let args = [
        "doc",
        "--quiet",
        "--workspace",
        "--exclude",
        "lb-ebpf",
        "--no-deps",
    ];
    workspace::run(
        workspace::cargo()
            .args(args)
            .env("RUSTDOCFLAGS", "--deny warnings"),
    )
}
