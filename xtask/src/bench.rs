//! `cargo xtask bench`: where duolb stands against a bare veth, plain routing and kube-proxy's rule sets, in one run.
//!
//! ```text
//!   catalogue -> ground (a way each) -> section (interleaved rounds) -> report -> terminal, JSON, Markdown, charts
//! ```

pub mod catalogue;
pub mod ground;
pub mod kube_proxy;
pub mod load;
pub mod machine;
pub mod report;
pub mod section;
pub mod stats;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use self::{
    ground::{Ground, Way},
    report::{Report, chart, markdown},
    section::network::{self, Effort},
};
use crate::{build, lab::interrupt, setup, workspace};

/// Arguments of `bench`.
#[derive(clap::Args)]
pub struct Args {
    /// Only this section; may be repeated [default: all]
    #[arg(long = "section", value_name = "NAME", value_enum)]
    sections: Vec<Name>,
    /// More and longer rounds
    #[arg(long)]
    full: bool,
    /// An earlier report.json to compare with
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// A duolb that is built already
    #[arg(long, value_name = "FILE", hide = true)]
    duolb: Option<PathBuf>,
    #[command(flatten)]
    setup: setup::Args,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
enum Name {
    /// Streams
    Throughput,
    /// Short connections, and requests over an open one
    Connections,
    /// Small packets
    Pps,
}

/// What a quick run and a full one spend on each row.
const QUICK: Effort = Effort {
    rounds: 3,
    time: Duration::from_secs(1),
};
const FULL: Effort = Effort {
    rounds: 9,
    time: Duration::from_secs(2),
};

/// Services that are there when nothing is said about scale.
const SERVICES: u32 = 10;

/// Measures and writes the report.
///
/// # Errors
/// If something cannot be made, or on Ctrl-C.
pub fn main(args: &Args) -> Result<()> {
    let earlier = args.compare.as_deref().map(read).transpose()?;
    let duolb = match &args.duolb {
        Some(duolb) => duolb.clone(),
        None => {
            setup::ensure(setup::Scope::Bench, &args.setup)?;
            build::duolb(&["--release"])?
        }
    };
    if !nix::unistd::geteuid().is_root() {
        bail!("the bench needs root: namespaces and links are made (sudo -E cargo xtask bench)");
    }
    interrupt::install();
    let report = measure(args, &duolb)?;
    let page = markdown::page(&report);
    println!("{page}");
    if let Some(earlier) = earlier {
        println!("{}", markdown::comparison(&earlier, &report));
    }
    let dir = workspace::root().join("target/bench");
    write(&report, &page, &dir)?;
    println!("written to {}", dir.display());
    Ok(())
}

fn read(file: &Path) -> Result<Report> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is no report of the bench", file.display()))
}

fn measure(args: &Args, duolb: &Path) -> Result<Report> {
    let effort = if args.full { FULL } else { QUICK };
    let mut report = Report {
        machine: machine::this()?,
        began: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        full: args.full,
        sections: vec![],
    };
    let is_asked = |name| args.sections.is_empty() || args.sections.contains(&name);
    let grounds = Way::ALL
        .into_iter()
        .map(|way| Ground::start(way, SERVICES, duolb))
        .collect::<Result<Vec<_>>>()?;
    type Measure = fn(&[Ground], Effort, &mut dyn FnMut(Way)) -> Result<report::Section>;
    let all: [(Name, Measure, usize); 3] = [
        (Name::Throughput, network::throughput, 6),
        (Name::Connections, network::connections, 4),
        (Name::Pps, network::datagrams, 2),
    ];
    let asked: Vec<_> = all
        .into_iter()
        .filter(|(name, ..)| is_asked(*name))
        .collect();
    let rows: usize = asked.iter().map(|(.., rows)| rows).sum();
    let bar = progress((rows * grounds.len() * effort.rounds) as u64);
    for (name, section, _) in asked {
        let mut tick = |way: Way| {
            bar.set_message(format!("{name:?}: {way}").to_lowercase());
            bar.inc(1);
        };
        report.sections.push(section(&grounds, effort, &mut tick)?);
    }
    bar.finish_and_clear();
    Ok(report)
}

fn progress(steps: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} ({eta} left)");
    ProgressBar::new(steps).with_style(style.expect("a valid template"))
}

fn write(report: &Report, page: &str, dir: &Path) -> Result<()> {
    let write = |name: &str, text: &str| {
        let file = dir.join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    };
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    write("report.json", &serde_json::to_string_pretty(report)?)?;
    write("report.md", page)?;
    report
        .sections
        .iter()
        .try_for_each(|section| chart::bars(section, &dir.join(format!("{}.svg", section.name))))
}
