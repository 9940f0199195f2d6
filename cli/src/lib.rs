//! The `adit` command, in the order in which an invocation meets the files.
//!
//! - [`args`]: what may be typed. [`commands`]: what each word does. [`exit`]: how it ends, for people and for scripts.
//! - [`ipc`]: asks a running session. [`session_process`]: *is* the session's process, in the background or not.
//! - [`output`], [`text`], [`status_text`], [`mirror_text`]: the only places that print, and how numbers and states are worded.
//! - [`listening`]: whether a program listens where a copy is to go.
//! - [`demo`]: a small cluster on this machine, joined.

pub mod args;
pub mod commands;
pub mod demo;
pub mod exit;
pub mod ipc;
mod listening;
mod memory;
mod mirror_text;
pub mod output;
pub mod report;
pub mod session_process;
mod status_text;
mod text;

use std::{ffi::OsString, process::ExitCode};

use clap::Parser;

/// Carries out a command line and returns the process's exit code. Everything that is said is printed.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match args::Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) => {
            // Help and version come this way too; clap knows which stream and which code.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
        }
    };
    match commands::run(args.command) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output::failure(&failure);
            failure.exit.into()
        }
    }
}
