//! `cargo xtask`: every task of the project, one file each in the library.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{bench, build, check, dist, fuzz, run, setup, soak, test, vm};

/// Builds, runs, tests and checks duolb. Every task first sets up what the machine lacks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Show duolb at work in the lab; with `-- ARGS`, run `duolb ARGS` on this host
    Run(run::Args),
    /// Run every test
    Test(test::Args),
    /// Measure duolb beside a bare veth, plain routing and kube-proxy's rule sets
    Bench(bench::Args),
    /// Everything at once for long, with changes, restarts and faults, and a judge of every answer
    Soak(soak::Args),
    /// Run tests under other kernels, in virtual machines
    Vm(vm::Args),
    /// What `vm` starts in a virtual machine
    #[command(hide = true)]
    Guest(vm::GuestArgs),
    /// Check formatting, lints, documentation and the rules between rooms
    Check(check::Args),
    /// Build duolb, kernel side included
    Build(build::Args),
    /// Build what goes to a cluster: static binary, image, manifests
    Dist(dist::Args),
    /// Let libFuzzer loose on what reads packets, manifests and configuration
    Fuzz(fuzz::Args),
    /// Install what building, running and testing need and this machine lacks
    Setup(setup::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Run(args) => run::main(&args),
        Task::Test(args) => test::main(&args),
        Task::Bench(args) => bench::main(&args),
        Task::Soak(args) => soak::main(&args),
        Task::Vm(args) => vm::main(&args),
        Task::Guest(args) => vm::guest(&args),
        Task::Check(args) => check::main(&args),
        Task::Build(args) => build::main(&args),
        Task::Dist(args) => dist::main(&args),
        Task::Fuzz(args) => fuzz::main(&args),
        Task::Setup(args) => setup::main(&args),
    };
    done.map_or_else(
        |error| {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
