//! What crosses the control socket: one JSON line from the command, one or more from the session, then the end.
//! It owns the format and its limits, not the socket. Before: [`super::state_dir`]; after: [`super::server`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::status::Status;

/// A longer request is refused: no request needs a tenth of it.
pub const MAX_REQUEST_BYTES: usize = 4096;

/// A longer reply is refused by the command: a status with 1,000 routes and namespaces is 60 KiB.
pub const MAX_REPLY_BYTES: usize = 1 << 20;

/// What a command asks; one a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// One [`Reply::Status`].
    Status,
    /// A [`Reply::Status`] at once and then at every interval, until the command closes its end.
    Watch {
        /// Milliseconds between two; the session waits at least [`MIN_WATCH_INTERVAL`].
        interval_millis: u64,
    },
    /// End the session: one [`Reply::Leaving`], and the connection stays open until the session's process is gone.
    Quit,
    /// A request of a later version.
    #[serde(other)]
    Unknown,
}

/// A watcher cannot make the session work more often than this.
pub const MIN_WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// What the session answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// The status as it stands.
    Status(Box<Status>),
    /// The session restores the machine's network and then ends.
    Leaving,
    /// The request was not carried out.
    Refused {
        /// Why, for a person.
        reason: String,
    },
}
