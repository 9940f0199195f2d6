//! [`StateDirError`]: why a state directory cannot be used, and what to do about it. Before: [`super`]; after: whoever started.

use std::{io, path::PathBuf};

use thiserror::Error;

/// A state directory cannot be used.
#[derive(Debug, Error)]
pub enum StateDirError {
    /// There is nowhere to put it.
    #[error("there is no place for the state directory: neither ADIT_STATE_DIR nor XDG_RUNTIME_DIR is set")]
    NoPlace,
    /// Another session lives there.
    #[error("a session already runs in {} (pid {pid})", dir.display())]
    Busy {
        /// The directory.
        dir: PathBuf,
        /// What the pid file says, or `unknown`.
        pid: String,
    },
    /// Others could reach the socket or swap the files.
    #[error("the state directory {} is open to others ({why})", dir.display())]
    Open {
        /// The directory.
        dir: PathBuf,
        /// Its owner or its mode.
        why: String,
        /// It is the user's own and not shared by design, so closing it is sound.
        can_be_closed: bool,
    },
    /// It cannot be made, read or written.
    #[error("the state directory {} cannot be used", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl StateDirError {
    /// What the user can do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::NoPlace => "set ADIT_STATE_DIR to a directory of your own".to_owned(),
            Self::Busy { .. } => {
                "adit quit, or set ADIT_STATE_DIR to another directory for a second session".to_owned()
            }
            Self::Open { dir, can_be_closed: true, .. } => {
                format!("chmod 700 {}, or set ADIT_STATE_DIR to a directory of your own", dir.display())
            }
            Self::Open { .. } => {
                "set ADIT_STATE_DIR to a directory of your own; it is made when it is missing".to_owned()
            }
            Self::Io { .. } => "set ADIT_STATE_DIR to a directory that you can write to".to_owned(),
        }
    }
}
