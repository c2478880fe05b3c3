//! The command line: what is typed (`arguments`), and a file per command.

mod agent;
mod arguments;
mod cleanup;
mod conntrack;
mod output;
mod service;
mod status;

pub use arguments::Arguments;
use arguments::{Command, ServiceCommand};
use clap::CommandFactory as _;

/// Carries out a command.
///
/// # Errors
/// Whatever keeps it from being carried out, outermost first.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { bpffs, command } = arguments;
    let pins = crate::datapath::pins::Pins::new(bpffs);
    match command {
        Command::Agent(options) => agent::run(*options, pins),
        Command::Status { output } => status::run(pins, output),
        Command::Service {
            command: ServiceCommand::List { output },
        } => service::list(pins, output),
        Command::Service {
            command: ServiceCommand::Get { name, output },
        } => service::get(pins, &name, output),
        Command::Conntrack { command } => conntrack::run(pins, command),
        Command::Cleanup {
            cleanup_kube_proxy,
            output,
        } => cleanup::run(&pins, cleanup_kube_proxy, output),
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Arguments::command(),
                "duolb",
                &mut std::io::stdout(),
            );
            Ok(())
        }
    }
}

/// Lets SIGPIPE end the commands, as it does other Unix tools: a reader that closes our output early (`| head`) is
/// no error. The agent outlives whoever reads its log, and TLS, which writes with writev(2), raises the signal if
/// the API server has just closed the connection: there it stays ignored, as Rust's runtime leaves it.
pub fn end_on_closed_output(arguments: &Arguments) {
    if !matches!(arguments.command, Command::Agent(_)) {
        sigpipe::reset();
    }
}
