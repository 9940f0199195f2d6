//! `adit completions` and `adit man`: both come from [`crate::args`], so they cannot differ from it.

use std::{io::Write, path::Path};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{
    args::Args,
    exit::{Exit, Failure},
};

pub(super) fn completions(shell: Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "adit", &mut script);
    // Not through anstream: a script is no text to strip. A reader that went away is no error.
    let _ = std::io::stdout().write_all(&script);
    Ok(Exit::Done)
}

pub(super) fn man(dir: &Path) -> Result<Exit, Failure> {
    clap_mangen::generate_to(Args::command(), dir).map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot write manual pages to {}: {error}", dir.display()))
    })?;
    Ok(Exit::Done)
}
