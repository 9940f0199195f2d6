//! What crosses the control socket: one JSON line from the command, one or more from the session, then the end.
//! It owns the format and its limits, not the socket. Before: [`super::state_dir`]; after: [`super::server`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    mirror_message::{NewRule, Printed, RuleReply, Selector},
    status::Status,
};

/// A longer request is refused: as many rules as there may be, with names as long as they may be, are half of it.
pub const MAX_REQUEST_BYTES: usize = 1 << 20;

/// A longer reply is refused by the command: a status with 1,000 rules of three replicas each is 2 MiB.
pub const MAX_REPLY_BYTES: usize = 8 << 20;

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
    /// Mirror these as well: one [`Reply::Mirror`], a part for each, once the gateway has answered or a few seconds are over. A rule
    /// that the gateway does not allow or cannot carry out is not kept.
    MirrorAdd {
        /// At most [`link::rules::MAX_RULES`] with those that are there.
        rules: Vec<NewRule>,
    },
    /// Switch rules on or off: one [`Reply::Mirror`]. When it answers an `off`, nothing more reaches the listeners.
    MirrorSwitch {
        /// On or off.
        on: bool,
        /// Which.
        which: Selector,
    },
    /// Take rules away: one [`Reply::Mirror`].
    MirrorRemove {
        /// Which.
        which: Selector,
    },
    /// [`Reply::Printed`] until the command closes its end, or the rules are gone. A rule whose listener is
    /// [`super::mirror_message::Listener::Print`] goes with its last reader.
    Print {
        /// The rules' numbers.
        rules: Vec<u32>,
    },
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
    /// What became of the rules that the request named, in its order; empty when a selector matched none.
    Mirror {
        /// A part for each.
        rules: Vec<RuleReply>,
    },
    /// What arrived. An empty one is sent at first, and at least every few seconds, so that either side learns when the other is gone.
    Printed {
        /// In the order of their arrival.
        events: Vec<Printed>,
        /// How many were left out before these, since the command did not read fast enough.
        lost: u64,
    },
    /// The request was not carried out.
    Refused {
        /// Why, for a person.
        reason: String,
    },
}
