//! `duolb`: the agent and the command line. What is typed and what it does is in `cli`.

use std::process::ExitCode;

use clap::Parser as _;
use duolb::cli::{self, Arguments};

fn main() -> ExitCode {
    // A reader that closes our output early (`| head`) ends us, rather than a panic.
    cli::end_on_closed_output();
    match cli::run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("duolb: {error:#}");
            ExitCode::FAILURE
        }
    }
}
