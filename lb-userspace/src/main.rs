//! `duolb`: the agent and the command line. What is typed and what it does is in `cli`.

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;
use duolb::cli::{self, Arguments};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    cli::end_on_closed_output(&arguments);
    match cli::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nobody can be told (a full disk, a closed pipe), the exit status has to do.
            let _ = writeln!(std::io::stderr(), "duolb: {error:#}");
            ExitCode::FAILURE
        }
    }
}
