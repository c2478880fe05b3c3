//! `cargo xtask soak`: everything at once, for as long as you like, with everything going wrong around it.
//!
//! Three nodes that do all differently, every kind of client and traffic, services and pods that come and go, agents
//! that die and return, and a judge who knows what the rules allow at each moment. It ends well only if nobody
//! got a wrong answer, no flow was lost that no fault excuses, nobody saw a packet that was not his, and nothing is
//! left: no entry, no memory, no object in the kernel.
//!
//! ```text
//!   traffic, worker: datagram, stream, echo   what clients do  \
//!   director: changes, restarts, faults   what happens        > scene: history (what was true when), ledger
//!   judge     what the rules say of an answer               /
//!   stray, resources, ending      what nobody should see, hold, or leave -> report
//!   evidence  what it was like when something was wrong
//! ```

mod datagram;
mod director;
mod echo;
mod ending;
mod evidence;
mod history;
mod judge;
mod ledger;
mod monitor;
mod random;
mod report;
mod resources;
mod scene;
mod service;
mod stage;
mod stray;
mod stream;
mod traffic;
mod worker;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};

use self::{
    director::Director, history::History, monitor::Monitor, report::Report, scene::Scene,
    stage::Stage,
};
use crate::{build, lab::interrupt, progress, setup, workspace};

/// A soak shorter than that does not wait for flows to be forgotten, which would take longer.
const SHORT: Duration = Duration::from_secs(60);

/// Arguments of `soak`.
#[derive(clap::Args)]
pub struct Args {
    /// How long, after everything is up
    #[arg(long, value_name = "N", default_value_t = 10)]
    minutes: u64,
    /// What all randomness follows from [default: the time]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// A duolb that is built already
    #[arg(long, value_name = "FILE", hide = true)]
    duolb: Option<PathBuf>,
    #[command(flatten)]
    setup: setup::Args,
}

/// Builds, soaks and reports; the report is also written to `target/soak/report.json`, with the agents' logs
/// beside it, and what was true of the nodes whenever something was wrong.
///
/// # Errors
/// If something cannot be made, or not all was well.
pub fn main(args: &Args) -> Result<()> {
    let duolb = match &args.duolb {
        Some(duolb) => duolb.clone(),
        None => {
            setup::ensure(setup::Scope::Lab, &args.setup)?;
            build::duolb(&[])?
        }
    };
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = args
        .seed
        .unwrap_or_else(|| since.map_or(0, |since| since.as_secs()));
    if !nix::unistd::geteuid().is_root() {
        return crate::run::become_root(
            &std::env::current_exe().context("where are we")?,
            |command| {
                command.arg("soak").arg("--duolb").arg(&duolb);
                command.args(["--minutes", &args.minutes.to_string()]);
                command.args(["--seed", &seed.to_string()])
            },
        );
    }
    let time = Duration::from_secs(args.minutes * 60);
    let path = workspace::root().join("target/soak/report.json");
    soak(&duolb, time, seed, &path)
}

/// Soaks with a duolb for some time and reports.
///
/// # Errors
/// If something cannot be made, or not all was well.
pub fn soak(duolb: &Path, time: Duration, seed: u64, path: &Path) -> Result<()> {
    eprintln!("soak with seed {seed}");
    let dir = path.parent().context("a report needs a directory")?;
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let report = run(duolb, time, seed, dir)?;
    print!("{report}");
    let json = serde_json::to_string_pretty(&report.as_json()).context("report")?;
    fs::write(path, json + "\n").with_context(|| path.display().to_string())?;
    println!("{}", path.display());
    if !report.is_well() {
        bail!("not all was well");
    }
    Ok(())
}

fn run(duolb: &Path, time: Duration, seed: u64, logs: &Path) -> Result<Report> {
    let spinner =
        progress::spinner("making the lab: three nodes, their pods, an agent on each node");
    let services = director::beginning();
    let stage = Stage::start(duolb, &services);
    spinner.finish_and_clear();
    let stage = stage?;
    let prefix = stage.lab.prefix().to_owned();
    let mut history = History::default();
    for service in services {
        history.write(Instant::now(), service.number, Some(service));
    }
    let served = stage.served()?;
    let witness = stage.witness(logs);
    let scene = Arc::new(Scene::new(seed, stage::AROUND, served, history, witness));
    let mut director = Director::new(stage, Arc::clone(&scene));
    director.follow()?;
    let before = ending::fill(&director.stage)?;

    let (began, monitor) = (Instant::now(), Arc::new(Monitor::default()));
    let until = began + time;
    let clients = traffic::start(&director.stage.lab, &scene)?;
    let watcher = thread::spawn({
        let (monitor, scene) = (Arc::clone(&monitor), Arc::clone(&scene));
        move || monitor.run(&scene, began, until)
    });
    director.direct(until);
    let is_early = interrupt::is_set() && Instant::now() < until;
    scene.set_phase("clients end what they have begun");
    scene.end();
    for client in clients {
        if client.join().is_err() {
            scene.complain("a client panicked".to_owned());
        }
    }
    let took = began.elapsed();
    let (strays, verdicts, fill) = end(&mut director, &scene, &before, (is_early, time < SHORT))?;
    monitor.look(&scene, began);
    monitor.end();
    let _ = watcher.join(); // it prints, nothing else
    let resources = monitor.resources();
    for grown in resources.grown(took) {
        scene.complain(grown);
    }
    ending::keep_logs(&director.stage, logs);
    ending::clean_up(&mut director.stage, &scene);
    drop(director);
    let objects = ending::gone(&scene, &resources, &prefix);
    let ledger = scene.ledger().clone();
    Ok(Report {
        seed,
        time: took,
        is_early,
        served,
        ledger,
        strays,
        verdicts,
        fill,
        resources,
        objects,
    })
}

type End = (
    Vec<(String, u64, String)>,
    std::collections::BTreeMap<String, u64>,
    ending::Fill,
);

/// When clients have ended: everything as in the beginning, and whether that is all there is.
fn end(
    director: &mut Director,
    scene: &Scene,
    before: &ending::Fill,
    (is_early, is_short): (bool, bool),
) -> Result<End> {
    let verdicts = ending::verdicts(&director.stage)?;
    if is_early {
        let fill = ending::fill(&director.stage)?;
        return Ok((director.strays()?, verdicts, fill));
    }
    scene.set_phase("everything as in the beginning");
    if let Err(error) = director.restore() {
        scene.complain(format!("{error:#}"));
    }
    scene.set_phase("flows are forgotten");
    let fill = match is_short {
        true => ending::fill(&director.stage)?,
        false => ending::forget(&director.stage, scene)?,
    };
    ending::compare(scene, before, &fill);
    // Answers may have been on their way.
    Ok((director.strays()?, verdicts, fill))
}
