//! `cargo xtask run`: the whole thing at work, in the lab, before your eyes.
//!
//! Three nodes, an agent on each, the manifests of `examples/`, and clients that talk to every frontend: a pod on
//! every node, every node itself, one outside of the cluster. The table shows who answered, beside what the
//! datapath counted, and follows the manifests while they are edited. `--once` makes it a test: it ends by itself,
//! with success only if every probe passed and every client reached every endpoint that there is for it.
//!
//! ```text
//!   listing   what every node serves          \
//!   clients   what that promises to whom       \
//!   traffic   what clients see                 > board of rows -> table -> screen
//!   live, once: who does when what            /
//! ```

mod board;
mod clients;
mod frontends;
mod listing;
mod live;
mod once;
mod promise;
mod row;
mod screen;
mod table;
mod traffic;
mod turns;

use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use self::{board::Board, clients::Surroundings};
use crate::{
    build,
    lab::{AgentOptions, Lab, Objects, SERVICE_RANGES, interrupt},
    progress, setup, workspace,
};

/// Arguments of `run`.
#[derive(clap::Args)]
pub struct Args {
    /// Probe every frontend, print the table and exit; success only if all is well
    #[arg(long)]
    once: bool,
    /// The directory of manifests [default: the project's examples]
    #[arg(long, value_name = "DIR")]
    manifests: Option<PathBuf>,
    /// A duolb that is built already
    #[arg(long, value_name = "FILE", hide = true)]
    duolb: Option<PathBuf>,
    #[command(flatten)]
    setup: setup::Args,
    /// Instead of the lab, run `duolb` with these arguments on this host, as root
    #[arg(last = true, value_name = "ARGS")]
    duolb_args: Vec<OsString>,
}

/// How long the live table holds a failure against a frontend: long enough to be seen, short enough that a
/// probe that hit a change is soon forgiven.
const MEMORY: Duration = Duration::from_secs(10);

/// Builds, makes the lab, and shows it; or runs `duolb` on this host.
///
/// # Errors
/// If something cannot be made, or with `--once`, if a probe failed.
pub fn main(args: &Args) -> Result<()> {
    let duolb = match &args.duolb {
        Some(duolb) => duolb.clone(),
        None => {
            let on_host = !args.duolb_args.is_empty();
            let scope = if on_host {
                setup::Scope::Build
            } else {
                setup::Scope::Lab
            };
            setup::ensure(scope, &args.setup)?;
            build::duolb(&["--release"])?
        }
    };
    if !args.duolb_args.is_empty() {
        return become_root(&duolb, |command| command.args(&args.duolb_args));
    }
    let manifests = match &args.manifests {
        Some(dir) => std::path::absolute(dir).context("where are we")?,
        None => workspace::root().join("examples"),
    };
    if !manifests.is_dir() {
        bail!("no directory {} with manifests", manifests.display());
    }
    if !nix::unistd::geteuid().is_root() {
        let xtask = std::env::current_exe().context("where are we")?;
        return become_root(&xtask, |command| {
            command
                .arg("run")
                .arg("--duolb")
                .arg(&duolb)
                .arg("--manifests")
                .arg(&manifests);
            command.args(args.once.then_some("--once"))
        });
    }
    show(
        &AgentOptions {
            duolb,
            objects: Objects::Manifests(manifests.clone()),
            service_ranges: SERVICE_RANGES,
            args: Vec::new(),
        },
        &manifests,
        args.once,
    )
}

/// Replaces this process by `program`, through sudo if we are not root.
pub(crate) fn become_root(
    program: &Path,
    args: impl FnOnce(&mut Command) -> &mut Command,
) -> Result<()> {
    let mut command = if nix::unistd::geteuid().is_root() {
        Command::new(program)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg("-E").arg(program);
        sudo
    };
    let error = args(&mut command).exec();
    Err(error).with_context(|| format!("cannot start {}", command.get_program().display()))
}

fn show(options: &AgentOptions, manifests: &Path, once: bool) -> Result<()> {
    let spinner =
        progress::spinner("making the lab: three nodes, their pods, an agent on each node");
    let started = Lab::standard().and_then(|mut lab| {
        lab.start_agents(options)?;
        Ok(lab)
    });
    spinner.finish_and_clear();
    let lab = match started {
        Err(_) if interrupt::is_set() && !once => return Ok(()),
        started => started?,
    };
    let mut board = Board::new(Surroundings::of(&lab), (!once).then_some(MEMORY));
    board.merge(listing::read(&lab)?);
    if !once {
        let shown = live::follow(&lab, &mut board, footer(manifests));
        let spinner = progress::spinner("taking everything away");
        drop(lab);
        spinner.finish_and_clear();
        return shown;
    }
    if board.rows().len() == 0 {
        bail!("{} has no service that is served", manifests.display());
    }
    once::probe(&lab, &mut board)?;
    print!("{}", table::full(&board, screen::width()));
    if !board.is_well() {
        bail!("not every probe passed");
    }
    Ok(())
}

/// What there is to do; with the directory as seen from here.
fn footer(manifests: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let dir = manifests.strip_prefix(here).unwrap_or(manifests);
    format!(
        "edit {}/*.yaml and watch · Ctrl-C ends it and takes everything away",
        dir.display()
    )
}
