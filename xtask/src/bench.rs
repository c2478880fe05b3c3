//! `cargo xtask bench`: where duolb stands against a bare veth, plain routing and kube-proxy's rule sets, in one run.
//!
//! ```text
//!   catalogue -> ground (a way each) -> offloads (is it right?) -.
//!   programs (the BPF side, asked) ------------------------------+-> section (interleaved rounds) -> report, goals
//!                                                                     -> terminal, JSON, Markdown, charts
//! ```

pub mod catalogue;
pub mod goals;
pub mod ground;
pub mod kube_proxy;
pub mod load;
pub mod machine;
pub mod offloads;
pub mod programs;
pub mod report;
pub mod section;
pub mod stats;
pub mod usage;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use self::{
    ground::{Ground, Way},
    programs::Programs,
    report::{Gate, Report, Section, chart, markdown},
    section::{
        control, live,
        network::{self, Effort},
        program, scale,
    },
};
use crate::{build, lab::interrupt, setup, workspace};

/// Arguments of `bench`.
#[derive(clap::Args)]
pub struct Args {
    /// Only this section; may be repeated [default: all]
    #[arg(long = "section", value_name = "NAME", value_enum)]
    sections: Vec<Name>,
    /// Nine rounds instead of three, and the largest clusters: about 20 minutes for all sections
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
    /// Program tests that are built already
    #[arg(long, value_name = "FILE", hide = true)]
    programs: Option<PathBuf>,
    /// Where the report goes [default: target/bench]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Rounds of each row
    #[arg(long, value_name = "NUMBER", hide = true)]
    rounds: Option<usize>,
    /// How long a way is measured in each
    #[arg(long, value_name = "NUMBER", hide = true)]
    milliseconds: Option<u64>,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
enum Name {
    /// What a packet costs by its way, and what the programs ask of the kernel
    Program,
    /// Streams
    Throughput,
    /// Short connections, and requests over an open one
    Connections,
    /// Small packets, on one node and from outside to another
    Pps,
    /// More and more services
    Scale,
    /// First sync, changes, restart, memory
    Control,
}

impl Name {
    const ALL: [Self; 6] = [
        Self::Program,
        Self::Throughput,
        Self::Connections,
        Self::Pps,
        Self::Scale,
        Self::Control,
    ];

    /// As it is typed.
    const fn word(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Throughput => "throughput",
            Self::Connections => "connections",
            Self::Pps => "pps",
            Self::Scale => "scale",
            Self::Control => "control",
        }
    }

    /// Whether it needs every way side by side.
    const fn has_grounds(self) -> bool {
        matches!(self, Self::Throughput | Self::Connections | Self::Pps)
    }
}

/// What a quick run and a full one spend on each row.
const QUICK: Effort = Effort {
    rounds: 3,
    time: Duration::from_secs(1),
};
const FULL: Effort = Effort {
    rounds: 9,
    time: Duration::from_secs(1),
};

/// Services that are there when nothing is said about scale.
const SERVICES: u32 = 10;

/// Measures and writes the report.
///
/// # Errors
/// If something cannot be made, or on Ctrl-C.
pub fn main(args: &Args) -> Result<()> {
    let earlier = args.compare.as_deref().map(read).transpose()?;
    if args.duolb.is_none() || args.programs.is_none() {
        setup::ensure(setup::Scope::Bench, &args.setup)?;
    }
    let duolb = match &args.duolb {
        // It is called from elsewhere.
        Some(duolb) => fs::canonicalize(duolb).with_context(|| duolb.display().to_string())?,
        None => build::duolb(&["--release"])?,
    };
    let programs = Programs(match &args.programs {
        Some(programs) => programs.clone(),
        None => build::program_tests(&["--release"])?,
    });
    if !nix::unistd::geteuid().is_root() {
        bail!("the bench needs root: namespaces and links are made (sudo -E cargo xtask bench)");
    }
    interrupt::install();
    let report = measure(args, &duolb, &programs)?;
    let page = markdown::page(&report);
    println!("{page}");
    if let Some(earlier) = earlier {
        println!("{}", markdown::comparison(&earlier, &report));
    }
    let dir = args.out.clone();
    let dir = dir.unwrap_or_else(|| workspace::root().join("target/bench"));
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

/// What a run measures with.
struct Run<'a> {
    effort: Effort,
    full: bool,
    duolb: &'a Path,
    programs: &'a Programs,
    bar: ProgressBar,
}

fn measure(args: &Args, duolb: &Path, programs: &Programs) -> Result<Report> {
    let mut report = Report {
        machine: machine::this()?,
        began: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        full: args.full,
        sections: vec![],
    };
    let is_asked = |name: &Name| args.sections.is_empty() || args.sections.contains(name);
    let asked: Vec<Name> = Name::ALL.into_iter().filter(is_asked).collect();
    let run = Run {
        effort: args.effort(),
        full: args.full,
        duolb,
        programs,
        bar: progress(asked.len()),
    };
    let has_clients = asked.iter().any(|name| name.has_grounds());
    let grounds = if has_clients {
        run.bar.set_message("making the ways");
        let start = |way| Ground::start(way, SERVICES, duolb);
        Way::ALL.into_iter().map(start).collect::<Result<_>>()?
    } else {
        vec![]
    };
    let grounds: Vec<&Ground> = grounds.iter().collect();
    for name in asked {
        interrupt::check()?;
        run.bar.set_message(name.word());
        let section = run.section(name, &grounds).or_else(|error| {
            // What cannot be measured says why, and the others are.
            interrupt::check()?;
            anyhow::Ok(section::refused(name.word(), format!("{error:#}")))
        })?;
        report.sections.push(section);
        run.bar.inc(1);
    }
    run.bar.finish_and_clear();
    Ok(report)
}

impl Args {
    fn effort(&self) -> Effort {
        let usual = if self.full { FULL } else { QUICK };
        Effort {
            rounds: self.rounds.unwrap_or(usual.rounds),
            time: self.milliseconds.map_or(usual.time, Duration::from_millis),
        }
    }
}

impl Run<'_> {
    /// For what has many ways or sizes and enough to count in less time.
    fn brief(&self) -> Effort {
        Effort {
            time: self.effort.time / 2,
            ..self.effort
        }
    }

    fn section(&self, name: Name, grounds: &[&Ground]) -> Result<Section> {
        let effort = self.effort;
        let tick = |what: String| self.bar.set_message(format!("{}: {what}", name.word()));
        let mut by_way = |way: Way| tick(way.to_string());
        let checked = |measure: &mut dyn FnMut() -> Result<Section>| {
            section::checked(name.word(), grounds, measure)
        };
        match name {
            Name::Program => program::measure(self.programs, effort.rounds),
            Name::Throughput => checked(&mut || network::throughput(grounds, effort, &mut by_way)),
            Name::Connections => {
                checked(&mut || network::connections(grounds, effort, &mut by_way))
            }
            Name::Pps => {
                let mut section =
                    checked(&mut || network::datagrams(grounds, effort, &mut by_way))?;
                tick("from outside".to_owned());
                self.add_live(&mut section)?;
                Ok(section)
            }
            Name::Scale => {
                let sizes = if self.full { scale::FULL } else { scale::QUICK };
                let mut section = scale::programs(self.programs, effort.rounds, sizes)?;
                let mut tick = |way, services| tick(format!("{way}, {services} services"));
                scale::clients(&mut section, self.duolb, sizes, self.brief(), &mut tick)?;
                Ok(section)
            }
            Name::Control => {
                let sizes = if self.full {
                    control::FULL
                } else {
                    control::QUICK
                };
                let rounds = effort.rounds.min(3);
                let mut tick = |size: &str| tick(size.to_owned());
                control::measure(self.programs, self.duolb, sizes, rounds, &mut tick)
            }
        }
    }

    /// What goes through XDP, after it has shown that it is right.
    fn add_live(&self, section: &mut Section) -> Result<()> {
        match ground::check_xdp(self.duolb) {
            Ok(seen) => {
                section.notes.push(seen);
                let (rows, gates) = live::measure(self.programs, self.brief())?;
                section.rows.extend(rows);
                section.gates.extend(gates);
            }
            Err(error) => {
                interrupt::check()?;
                let why = format!("REFUSED: from outside: {error:#}");
                section.gates.push(Gate::unknown("G5", "XDP", &*why));
                section.notes.push(why);
            }
        }
        Ok(())
    }
}

fn progress(sections: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} ({elapsed})");
    ProgressBar::new(sections as u64).with_style(style.expect("a valid template"))
}

fn write(report: &Report, page: &str, dir: &Path) -> Result<()> {
    let write = |name: &str, text: &str| {
        let file = dir.join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    };
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    write("report.json", &serde_json::to_string_pretty(report)?)?;
    write("report.md", page)?;
    for section in &report.sections {
        let file = dir.join(format!("{}.svg", section.name));
        if section.rows.iter().any(|row| row.at.is_some()) {
            chart::lines(section, &file)?;
        } else {
            chart::bars(section, &file)?;
        }
    }
    Ok(())
}
