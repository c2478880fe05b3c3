//! `cargo xtask`: every task of the project, one file each in the library.

use clap::{Parser, Subcommand};
use xtask::{build, setup};

/// Builds, runs, tests and checks duolb. Every task first sets up what the machine lacks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build duolb, kernel side included
    Build(build::Args),
    /// Install what building, running and testing need and this machine lacks
    Setup(setup::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().task {
        Task::Build(args) => build::main(&args),
        Task::Setup(args) => setup::main(&args),
    }
}
