//! `cargo xtask vm`: the tests under other kernels, in virtual machines.
//!
//! ```text
//!   kernels   which there are            packages  one of them out of Debian's archive, by apt
//!   binaries  the tests, built here      image     they and what they need, as the guest's root
//!   machine   qemu                       guest     its first process: this very program again
//!   order     what the two say           report    what came of it
//! ```
//!
//! Nothing is compiled in the guest and nothing of it is kept: its root lives in its memory.

mod binaries;
mod cpio;
mod guest;
mod image;
mod kernels;
mod machine;
mod order;
mod packages;
mod report;

use std::{
    fs,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use self::{
    binaries::Suite,
    kernels::Kernel,
    machine::{Parts, Processor},
    order::{Job, Order},
    packages::Unpacked,
    report::Report,
};
use crate::{build, lab::interrupt, progress, setup, workspace};

/// Arguments of `vm`.
#[derive(clap::Args)]
pub struct Args {
    /// Which kernel, by the beginning of its version; may be given again [default: 6.1 and 6.12]
    #[arg(long, value_name = "VERSION", value_parser = kernels::find)]
    kernel: Vec<&'static Kernel>,
    /// List the kernels there are
    #[arg(long)]
    list: bool,
    /// Which test binary; may be given again [default: all that depend on the kernel]
    #[arg(long, value_name = "NAME", value_parser = binaries::find)]
    test: Vec<&'static Suite>,
    /// Run no test but the one that says what each program costs
    #[arg(long, conflicts_with = "test")]
    costs: bool,
    /// Print the tables of docs/kernels.md at the end
    #[arg(long)]
    table: bool,
    /// Memory of the guest in MiB
    #[arg(long, default_value_t = 3072)]
    memory: u32,
    /// Processors of the guest
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// Minutes that a test binary may take
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Do the processor in software even where there is KVM
    #[arg(long)]
    software: bool,
    #[command(flatten)]
    setup: setup::Args,
    /// Further arguments for each test binary: a name, `--skip NAME`
    #[arg(last = true)]
    tests: Vec<String>,
}

/// Arguments of `guest`.
#[derive(clap::Args)]
pub struct GuestArgs {
    /// How much slower than a machine is everything: tests wait that much longer
    slowness: u32,
}

/// How long a guest may be silent: a test of a minute, done in software.
const SILENCE: Duration = Duration::from_secs(900);

/// The job that says what programs cost on the kernel: a test of this suite, by this name.
const COST: (&str, &str) = ("programs", "each_program_loads_and_says_what_it_costs");

/// Runs the tests under each kernel and prints a summary.
///
/// # Errors
/// If any test fails, a guest does not start, or something is missing or does not compile.
pub fn main(args: &Args) -> Result<()> {
    if args.list {
        for kernel in kernels::KNOWN {
            println!("{:6} {}", kernel.version, kernel.stands_for);
        }
        return Ok(());
    }
    setup::ensure(setup::Scope::Machine, &args.setup)?;
    interrupt::install();
    let dir = workspace::target_dir()?.join("vm");
    let default = || ["6.1", "6.12"].map(|version| kernels::find(version).expect("it is known"));
    let kernels = match args.kernel.is_empty() {
        true => default().to_vec(),
        false => args.kernel.clone(),
    };
    let unpacked: Vec<_> = kernels
        .iter()
        .map(|kernel| packages::ensure(kernel, &dir, !args.setup.no_install))
        .collect::<Result<_>>()?;
    let order = order(args)?;
    let mut processor = match machine::offers_kvm() && !args.software {
        true => Processor::Kvm,
        false => Processor::Software,
    };
    let mut reports = Vec::new();
    for (kernel, unpacked) in kernels.iter().zip(&unpacked) {
        let report = pack_and_run(kernel, unpacked, &order, &dir, args, &mut processor);
        interrupt::check()?;
        // The other kernels are run all the same.
        reports.push(report.unwrap_or_else(|error| {
            let mut report = Report::new(kernel.version, &unpacked.release, Duration::ZERO);
            report.trouble = Some(format!("{error:#}"));
            report
        }));
    }
    for report in &reports {
        print!("{}", report.summary());
    }
    if args.table {
        print!("\n{}", report::tables(&reports));
    }
    if !reports.iter().all(Report::is_good) {
        bail!("not all went well");
    }
    Ok(())
}

/// Packs the guest's root and has the guest run; leaves neither behind.
fn pack_and_run(
    kernel: &Kernel,
    unpacked: &Unpacked,
    order: &Order,
    dir: &Path,
    args: &Args,
    processor: &mut Processor,
) -> Result<Report> {
    let file = |end: &str| dir.join(format!("{}-{}{end}", kernel.version, std::process::id()));
    let (image, console) = (file(".cpio"), file(".console"));
    let packing = progress::spinner(&format!("packing the root of kernel {}", kernel.version));
    let packed = image::write(&image, unpacked, order);
    packing.finish_and_clear();
    let parts = Parts {
        vmlinuz: &unpacked.vmlinuz,
        image: &image,
        console,
        memory_mib: args.memory,
        cpus: args.cpus,
        silence: SILENCE,
    };
    let report = packed.and_then(|()| run(kernel.version, &parts, processor));
    for file in [&image, &parts.console] {
        let _ = fs::remove_file(file);
    }
    report
}

/// Builds what is asked for; what the guest shall do with it.
fn order(args: &Args) -> Result<Order> {
    let duolb = build::duolb(&[])?;
    let suites: Vec<&'static Suite> = match args.test.is_empty() {
        true if args.costs => Vec::new(),
        true => binaries::SUITES.iter().filter(|s| s.is_default).collect(),
        false => args.test.clone(),
    };
    let cost = binaries::find(COST.0).map_err(anyhow::Error::msg)?;
    let mut all = vec![cost];
    all.extend(suites.iter().filter(|suite| **suite != cost));
    let built = binaries::build(&all)?;
    let job = |name: &str, suite: &Suite, args: &[String], seconds| {
        let at = all.iter().position(|other| *other == suite);
        Ok(Job {
            name: name.to_owned(),
            program: built[at.context("it was built")?].clone(),
            args: args.to_vec(),
            dir: workspace::root().join(suite.package),
            seconds,
        })
    };
    let exact = [COST.1, "--nocapture"].map(str::to_owned);
    let mut jobs: Vec<Result<Job>> = vec![job("cost", cost, &exact, 600)];
    for suite in suites {
        jobs.push(job(suite.name, suite, &args.tests, args.minutes * 60));
    }
    let env = |name: &str, value: &Path| (name.to_owned(), value.display().to_string());
    Ok(Order {
        jobs: jobs.into_iter().collect::<Result<_>>()?,
        env: vec![
            env("PATH", Path::new("/usr/bin:/usr/sbin:/bin:/sbin")),
            env("HOME", Path::new("/root")),
            env("DUOLB_BIN", &duolb),
            env("RUST_TEST_THREADS", Path::new("2")),
            env("RUST_BACKTRACE", Path::new("0")),
        ],
    })
}

/// Starts a guest and listens to it until it is off.
fn run(version: &str, parts: &Parts<'_>, processor: &mut Processor) -> Result<Report> {
    eprintln!("vm: starting kernel {version}");
    let mut machine = machine::start(parts, processor)?;
    let start = Instant::now();
    let (release, boot) = (machine.release.clone(), machine.boot);
    println!("vm: kernel {release} is up after {} s", boot.as_secs());
    let mut report = Report::new(version, &release, boot);
    loop {
        match machine.line() {
            Ok(Some(line)) => {
                if order::Word::find(&line).is_none() && !line.is_empty() {
                    println!("[{version} {:4} s] {line}", start.elapsed().as_secs());
                    let _ = std::io::stdout().flush();
                }
                if !report.hear(&line) {
                    return Ok(report);
                }
            }
            Ok(None) => {
                report.trouble = Some(format!("the guest went off{}", machine.last_words()));
                return Ok(report);
            }
            Err(error) => {
                interrupt::check()?;
                report.trouble = Some(format!("{error:#}"));
                return Ok(report);
            }
        }
    }
}

/// What the guest's first process does.
///
/// # Errors
/// If it is not one.
pub fn guest(args: &GuestArgs) -> Result<()> {
    guest::main(args.slowness)
}
