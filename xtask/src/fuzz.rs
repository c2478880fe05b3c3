//! `cargo xtask fuzz`: libFuzzer on the targets of `fuzz/`, from the committed corpus on.
//!
//! Without a sanitizer, so that the stable compiler is enough: what the targets look for are panics, and what `unsafe`
//! there is stands behind the cursor's comparison. What is found goes to the target directory; an input that fails is
//! named, and belongs into `fuzz/corpus/TARGET` with the repair, where every `cargo test` replays it.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{progress, setup, workspace};

/// The cargo-fuzz that is installed.
const CARGO_FUZZ: &str = "0.13.2";

/// Arguments of `fuzz`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    setup: setup::Args,
    /// Target, a name below `fuzz/corpus`; all of them in turn if there is none
    target: Option<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Fuzzes one target or all.
///
/// # Errors
/// If a target fails, with the input that it fails with, or something is missing.
pub fn main(args: &Args) -> Result<()> {
    setup::ensure(setup::Scope::Build, &args.setup)?;
    let cargo_fuzz = ensure_cargo_fuzz(&args.setup)?;
    let all = targets()?;
    let chosen = match &args.target {
        Some(target) if !all.contains(target) => {
            bail!("{target:?} is no target: {}", all.join(", "))
        }
        Some(target) => vec![target.clone()],
        None => all,
    };
    for target in chosen {
        println!("{target}, {} s", args.seconds);
        fuzz(&cargo_fuzz, &target, args.seconds)?;
    }
    Ok(())
}

/// Each has a corpus.
fn targets() -> Result<Vec<String>> {
    let corpus = workspace::root().join("fuzz/corpus");
    let entries = fs::read_dir(&corpus).with_context(|| corpus.display().to_string())?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| corpus.display().to_string())?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

fn fuzz(cargo_fuzz: &PathBuf, target: &str, seconds: u32) -> Result<()> {
    let scratch = workspace::target_dir()?.join("fuzz");
    // New inputs go to the first one.
    let grown = scratch.join("corpus").join(target);
    fs::create_dir_all(&grown).with_context(|| grown.display().to_string())?;
    workspace::run(
        Command::new(cargo_fuzz)
            .current_dir(workspace::root())
            .args(["fuzz", "run", "--sanitizer", "none", "--target-dir"])
            .arg(&scratch)
            .arg(target)
            .arg(&grown)
            .arg(workspace::root().join("fuzz/corpus").join(target))
            .arg("--")
            .arg(format!("-max_total_time={seconds}"))
            .args(["-timeout=30", "-print_final_stats=1"])
            .env("RUSTC_BOOTSTRAP", "1"), // cargo-fuzz asks for coverage counters by -C and -Z flags
    )
    .with_context(|| format!("target {target}"))
}

fn ensure_cargo_fuzz(args: &setup::Args) -> Result<PathBuf> {
    let root = workspace::target_dir()?.join("fuzz-tools");
    let own = root.join("bin/cargo-fuzz");
    if own.exists() {
        return Ok(own);
    }
    if let Some(found) = workspace::find_program("cargo-fuzz") {
        return Ok(found);
    }
    let what = format!("cargo-fuzz {CARGO_FUZZ}");
    if args.no_install {
        bail!("missing {what}: it builds the targets for libFuzzer");
    }
    eprintln!("setup: installing {what}: it builds the targets for libFuzzer");
    let mut install = workspace::cargo();
    install
        .args([
            "install",
            "cargo-fuzz",
            "--locked",
            "--version",
            CARGO_FUZZ,
            "--root",
        ])
        .arg(&root);
    progress::step(&what, &mut install)?;
    Ok(own)
}
