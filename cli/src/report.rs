//! What the session's background process reports to the `adit connect` that started it: JSON lines on its standard output, which is
//! a pipe until traffic flows. Before: [`crate::session_process`]; after: [`crate::commands::connect`].

use serde::{Deserialize, Serialize};
use tunnel::{control::status::Status, session_options::Progress};

use crate::exit::{Exit, Failure};

/// A longer report is refused: the largest holds a status with 1,000 routes.
pub const MAX_REPORT_BYTES: u64 = 1 << 20;

/// One line on the pipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub enum Report {
    /// A step is done.
    Step {
        /// Which.
        progress: Progress,
    },
    /// Traffic flows; nothing follows.
    Joined {
        /// What was joined.
        status: Box<Status>,
    },
    /// The session could not start; nothing follows.
    Failed {
        /// The exit code.
        exit: u8,
        /// What went wrong.
        message: String,
        /// What to do about it.
        remedy: Option<String>,
    },
}

impl From<&Failure> for Report {
    fn from(failure: &Failure) -> Self {
        Self::Failed { exit: failure.exit.code(), message: failure.message.clone(), remedy: failure.remedy.clone() }
    }
}

impl Report {
    /// The failure that a [`Report::Failed`] tells, rebuilt on this side of the pipe.
    pub fn failure(exit: u8, message: String, remedy: Option<String>) -> Failure {
        Failure { exit: Exit::from_code(exit), message, remedy }
    }
}
