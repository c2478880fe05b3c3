//! `cargo xtask run`: the whole thing at work, in the lab, before your eyes.
//!
//! Three nodes, an agent on each, the manifests of `examples/`, and clients on every node that talk to
//! every frontend. The table shows who answered. `--once` makes it a test: it ends by itself, with
//! success only if every probe passed and every endpoint of every frontend was reached.

mod board;
mod frontends;
mod traffic;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{IsTerminal as _, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use self::{board::Board, frontends::Frontend};
use crate::{
    build,
    lab::{AgentOptions, Lab, interrupt},
    progress, setup, workspace,
};

/// Arguments of `run`.
#[derive(clap::Args)]
pub struct Args {
    /// Probe every frontend, print the table and exit; success only if all is well
    #[arg(long)]
    once: bool,
    /// The directory of manifests
    #[arg(long, value_name = "DIR", default_value = "examples")]
    manifests: PathBuf,
    /// A duolb that is built already
    #[arg(long, value_name = "FILE", hide = true)]
    duolb: Option<PathBuf>,
    #[command(flatten)]
    setup: setup::Args,
    /// Instead of the lab, run `duolb` with these arguments on this host, as root
    #[arg(last = true, value_name = "ARGS")]
    duolb_args: Vec<OsString>,
}

/// How often the table is drawn: on a terminal, and elsewhere.
const REFRESH: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(10)];

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
            build::duolb(true)?
        }
    };
    if !args.duolb_args.is_empty() {
        return become_root(&duolb, |command| command.args(&args.duolb_args));
    }
    if !nix::unistd::geteuid().is_root() {
        let xtask = std::env::current_exe().context("where are we")?;
        return become_root(&xtask, |command| {
            command
                .arg("run")
                .arg("--duolb")
                .arg(&duolb)
                .arg("--manifests")
                .arg(&args.manifests);
            command.args(args.once.then_some("--once"))
        });
    }
    // Relative to the workspace, as the default is, wherever cargo was called.
    let manifests = workspace::root().join(&args.manifests);
    if !manifests.is_dir() {
        bail!("no directory {} with manifests", manifests.display());
    }
    show(
        &AgentOptions {
            duolb,
            manifests,
            args: Vec::new(),
        },
        args.once,
    )
}

/// Replaces this process by `program`, through sudo if we are not root.
fn become_root(program: &Path, args: impl FnOnce(&mut Command) -> &mut Command) -> Result<()> {
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

fn show(options: &AgentOptions, once: bool) -> Result<()> {
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
    let node = &lab.nodes().next().context("the lab has nodes")?.name;
    let list = lab.agent(node).duolb(&["service", "list", "-o", "json"])?;
    let pods = lab
        .pods()
        .flat_map(|pod| pod.addresses.both().map(|ip| (ip, pod.name.clone())));
    let mut board = Board::new(
        Frontend::parse_list(&list)?,
        &pods.collect::<BTreeMap<_, _>>(),
    );
    if board.len() == 0 {
        bail!(
            "{} has no service that is served",
            options.manifests.display()
        );
    }

    probe(&lab, &mut board, once)?;
    if once || !std::io::stdout().is_terminal() {
        print!("{}", board.render(width()));
    }
    if once {
        interrupt::check()?;
        if !board.is_well() {
            bail!("not every probe passed");
        }
    }
    Ok(())
}

/// Lets all clients talk and keeps the table up to date until they are done.
fn probe(lab: &Lab, board: &mut Board, once: bool) -> Result<()> {
    let targets = traffic::targets(board);
    let (sender, reports) = mpsc::channel();
    thread::scope(|scope| {
        let talk = if once {
            traffic::once
        } else {
            traffic::forever
        };
        let clients: Vec<_> = lab
            .clients()
            .map(|pod| {
                let (sender, targets) = (sender.clone(), &targets);
                scope.spawn(move || pod.netns.run(|| talk(targets, pod.addresses, &sender)))
            })
            .collect();
        drop(sender);
        let mut screen = Screen::new(!once);
        loop {
            match reports.recv_timeout(Duration::from_millis(100)) {
                Ok((row, outcome)) => board.enter(row, outcome),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            screen.draw(board);
        }
        clients
            .into_iter()
            .try_for_each(|client| client.join().expect("probes do not panic"))
    })
}

/// The live table: drawn over itself on a terminal, now and then elsewhere.
struct Screen {
    live: bool,
    terminal: bool,
    drawn: Option<Instant>,
    lines: usize,
}

impl Screen {
    fn new(live: bool) -> Self {
        Self {
            live,
            terminal: std::io::stdout().is_terminal(),
            drawn: None,
            lines: 0,
        }
    }

    fn draw(&mut self, board: &Board) {
        let every = REFRESH[usize::from(!self.terminal)];
        if !self.live || self.drawn.is_some_and(|drawn| drawn.elapsed() < every) {
            return;
        }
        self.drawn = Some(Instant::now());
        let mut text = board.render(width());
        if self.terminal {
            text += "Ctrl-C ends it and takes everything away\n";
            let rows = console::Term::stdout()
                .size_checked()
                .map_or(0, |(rows, _)| usize::from(rows));
            let back = match self.lines {
                0 => String::new(),
                lines if lines >= rows => "\x1b[H\x1b[2J".to_owned(), // what left the screen stays
                lines => format!("\x1b[{lines}A\x1b[J"),
            };
            self.lines = text.lines().count();
            text.insert_str(0, &back);
        }
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush()); // no one may be looking
    }
}

/// The width of the terminal on stdout, if it is one and says something sensible.
fn width() -> Option<u16> {
    let size = console::Term::stdout().size_checked();
    size.map(|(_, columns)| columns)
        .filter(|columns| *columns >= 40)
}
