//! `cargo xtask setup`: finds what this machine lacks and installs it.
//!
//! Every task calls it first, so it must be quick and silent when nothing is missing. What is missing is
//! told before anything is done about it, each with its reason; with `--no-install` telling is all.

mod packages;
mod rust;

pub use self::rust::{STATIC_AARCH64, STATIC_X86_64};

use anyhow::{Result, bail};

/// Arguments of `setup`, which the other tasks take as well.
#[derive(clap::Args, Clone, Copy, Default)]
#[group(skip)] // clap names groups after types, and every task's type is called Args
pub struct Args {
    /// Install nothing: only tell what is missing, and fail if anything is
    #[arg(long)]
    pub no_install: bool,
}

/// How much is needed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// To compile.
    Build,
    /// To compile, and to make the lab and run in it.
    Lab,
    /// The same, and to measure there.
    Bench,
    /// To compile, and to run tests in a virtual machine with what the lab needs.
    Machine,
    /// To compile a static binary.
    Static,
}

/// Sets up everything and says so if there was nothing to do on a terminal.
///
/// # Errors
/// If something is missing and cannot be, or may not be installed.
pub fn main(args: &Args) -> Result<()> {
    ensure(Scope::Lab, args)
}

/// Installs what `scope` needs and the machine lacks.
///
/// # Errors
/// If something is missing and cannot be, or may not be installed.
pub fn ensure(scope: Scope, args: &Args) -> Result<()> {
    let install = !args.no_install;
    let mut missing = rust::ensure(install)?;
    match scope {
        Scope::Build => {}
        Scope::Lab => missing += packages::ensure(packages::LAB, install)?,
        Scope::Bench => {
            missing += packages::ensure(packages::LAB, install)?;
            missing += packages::ensure(packages::BENCH, install)?;
        }
        Scope::Machine => {
            missing += packages::ensure(packages::LAB, install)?;
            missing += packages::ensure(packages::MACHINE, install)?;
        }
        Scope::Static => {
            missing += packages::ensure(packages::STATIC, install)?;
            missing += rust::ensure_static_target(install)?;
        }
    }
    if missing > 0 {
        bail!(
            "{missing} missing; `{}` installs what is missing",
            crate::toolchain::REPAIR
        );
    }
    Ok(())
}

/// The line that is printed before something is installed, or instead of it.
fn announce(what: &str, why: &str, install: bool) {
    eprintln!(
        "setup: {} {what}: {why}",
        if install { "installing" } else { "missing" }
    );
}
