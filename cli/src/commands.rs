//! One file a command. Before: [`crate::args`]; after: [`crate::ipc`] or [`crate::session_process`].

pub mod connect;
mod demo;
mod documents;
mod mirror;
mod mirror_failures;
mod mirror_print;
mod quit;
mod status;

use crate::{
    args::Command,
    exit::{Exit, Failure},
    output,
};

/// Carries out a command.
///
/// # Errors
/// [`Failure`] with the exit code, for the caller to print.
pub fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Demo { keep } => demo::run(keep),
        Command::Connect(connect) => connect::run(&connect),
        Command::Status(status) => status::run(&status),
        Command::Mirror(mirror) => mirror::run(&mirror),
        Command::Quit => quit::run(),
        Command::Completions { shell } => documents::completions(shell),
        Command::Man { dir } => documents::man(&dir),
        Command::Version => {
            output::result(format_args!("adit {}, protocol {}", env!("CARGO_PKG_VERSION"), link::version::VERSION));
            Ok(Exit::Done)
        }
        Command::Session(connect) => Ok(crate::session_process::background(&connect)),
    }
}
