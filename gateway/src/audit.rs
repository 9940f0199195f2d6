//! The audit: one line of JSON for each session that opens and closes, each rule that is switched, what was refused, and each reload.
//!
//! 1. [`Audit::write`] makes the line; [`Audit::refused`] collects, since a session may be refused as often as it likes ([`refusals`]).
//! 2. With `audit` in `gateway.toml` a thread writes it to that file ([`mod@file`]); otherwise it goes to the log, with the target `audit`.
//!
//! Nothing here waits: a disk that is full or slow costs lines, which are counted, and never a flow. Used by [`crate::session`],
//! [`crate::permit`] and [`crate::reload`].

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use certs::IdentityName;
use link::rules::RuleProtocol;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;

pub use self::file::AuditError;
use self::{
    file::Writer,
    refusals::{Due, Refusals},
};
use crate::policy::Refused;

mod file;
mod refusals;
mod time;

/// What was refused is written this often; see [`refusals`].
const PERIOD: Duration = Duration::from_secs(1);

/// What happened. The fields' names are those of the line; they are only ever added to.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event<'a> {
    /// A session was welcomed.
    SessionOpened {
        #[serde(flatten)]
        who: Who<'a>,
    },
    /// A session ended.
    SessionClosed {
        #[serde(flatten)]
        who: Who<'a>,
        seconds: u64,
        /// On the link, both directions as the gateway sees them.
        sent_bytes: u64,
        received_bytes: u64,
        reason: &'a str,
    },
    /// A rule copies.
    RuleOn {
        #[serde(flatten)]
        rule: Rule<'a>,
    },
    /// A rule copies no more.
    RuleOff {
        #[serde(flatten)]
        rule: Rule<'a>,
    },
    /// Something was refused, as often as `count` says since the last such line.
    Refused {
        #[serde(skip_serializing_if = "Option::is_none")]
        session: Option<u64>,
        identity: &'a str,
        /// Such as `tcp 10.96.0.30:443`, `mirror shop/deploy/web:8080`, `names`, `session`.
        what: &'a str,
        /// What would have to be in the configuration.
        missing: &'a str,
        count: u64,
    },
    /// The configuration was read again.
    Reloaded {
        /// How many `[[allow]]` there are.
        allows: usize,
        /// Keys that were changed as well and need a restart.
        restart: &'a [&'static str],
    },
    /// The configuration was read again and cannot be used: everything is as it was.
    ReloadFailed { problem: &'a str },
}

/// Whose session.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Who<'a> {
    pub(crate) session: u64,
    pub(crate) identity: &'a str,
    /// The certificate's serial number in hexadecimal.
    pub(crate) serial: &'a str,
    pub(crate) peer: SocketAddr,
    pub(crate) carrier: &'a str,
}

/// Which rule of which session.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Rule<'a> {
    pub(crate) session: u64,
    pub(crate) identity: &'a str,
    pub(crate) target: &'a str,
    pub(crate) port: u16,
    pub(crate) protocol: RuleProtocol,
    /// The replicas that are tapped for it.
    pub(crate) replicas: &'a [String],
}

#[derive(Serialize)]
struct Line<'a> {
    /// RFC 3339, UTC, milliseconds.
    at: String,
    #[serde(flatten)]
    event: &'a Event<'a>,
}

/// Where lines go.
#[derive(Debug)]
enum Sink {
    Log,
    File(Writer),
}

/// The audit of a gateway.
#[derive(Debug)]
pub(crate) struct Audit {
    sink: Sink,
    refusals: Mutex<Refusals>,
    /// There is something in `refusals`.
    collected: Notify,
}

impl Audit {
    /// An audit into this file, or into the log. `lost` counts the lines that could not be written.
    ///
    /// # Errors
    /// [`AuditError`] when the file cannot be opened.
    pub(crate) fn open(path: Option<&Path>, lost: Counter) -> Result<Self, AuditError> {
        let sink = match path {
            Some(path) => Sink::File(Writer::start(path, lost)?),
            None => Sink::Log,
        };
        Ok(Self { sink, refusals: Mutex::default(), collected: Notify::new() })
    }

    /// Writes one line, without waiting.
    pub(crate) fn write(&self, event: &Event<'_>) {
        let line = Line { at: time::rfc3339(SystemTime::now()), event };
        let line = serde_json::to_string(&line).expect("an event has string keys and no values that JSON lacks");
        match &self.sink {
            Sink::Log => tracing::info!(target: "audit", "{line}"),
            Sink::File(writer) => writer.write(line),
        }
    }

    /// Collects a refusal: it is written within a second, together with others like it.
    pub(crate) fn refused(&self, session: Option<u64>, identity: &IdentityName, refused: Refused) {
        self.collection().note(Instant::now(), session, identity, refused);
        self.collected.notify_one();
    }

    fn collection(&self) -> MutexGuard<'_, Refusals> {
        // Nothing in the critical sections can panic half-way through a change.
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is collected, until the gateway stops.
    pub(crate) async fn serve(&self, stop: CancellationToken) {
        while stop.run_until_cancelled(self.collected.notified()).await.is_some() {
            while !self.collection().is_empty() && stop.run_until_cancelled(sleep(PERIOD)).await.is_some() {
                let due = self.collection().due(Instant::now());
                self.write_refusals(due);
            }
        }
    }

    /// Writes what is collected of a session, which ends.
    pub(crate) fn end_session(&self, session: u64) {
        let rest = self.collection().take_session(session);
        self.write_refusals(rest);
    }

    fn write_refusals(&self, due: Vec<Due>) {
        for Due { session, identity, what, missing, count } in due {
            let identity = identity.as_str();
            self.write(&Event::Refused { session, identity, what: &what, missing: &missing, count });
        }
    }

    /// Opens the file anew, for whoever has moved it away.
    pub(crate) fn reopen(&self) {
        match &self.sink {
            Sink::Log => {}
            Sink::File(writer) => writer.reopen(),
        }
    }

    /// Writes all that is left, and waits until it is in the file.
    pub(crate) async fn finish(&self) {
        let rest = self.collection().take_all();
        self.write_refusals(rest);
        match &self.sink {
            Sink::Log => {}
            Sink::File(writer) => writer.flush().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_time_its_event_and_its_fields_at_the_top() {
        let who = Who {
            session: 3,
            identity: "alice",
            serial: "0a:0b",
            peer: "192.0.2.1:5".parse().unwrap(),
            carrier: "udp",
        };
        let json = |event: Event<'_>| serde_json::to_string(&Line { at: "T".to_owned(), event: &event }).unwrap();
        assert_eq!(
            json(Event::SessionOpened { who }),
            r#"{"at":"T","event":"session_opened","session":3,"identity":"alice","serial":"0a:0b","peer":"192.0.2.1:5","carrier":"udp"}"#
        );
        let reason = "the link ended";
        assert_eq!(
            json(Event::SessionClosed { who, seconds: 7, sent_bytes: 8, received_bytes: 9, reason }),
            r#"{"at":"T","event":"session_closed","session":3,"identity":"alice","serial":"0a:0b","peer":"192.0.2.1:5","carrier":"udp","seconds":7,"sent_bytes":8,"received_bytes":9,"reason":"the link ended"}"#
        );
        let replicas = ["web-1".to_owned()];
        let (identity, target, protocol) = ("alice", "shop/deploy/web", RuleProtocol::Tcp);
        let rule = Rule { session: 3, identity, target, port: 8080, protocol, replicas: &replicas };
        assert_eq!(
            json(Event::RuleOn { rule }),
            r#"{"at":"T","event":"rule_on","session":3,"identity":"alice","target":"shop/deploy/web","port":8080,"protocol":"tcp","replicas":["web-1"]}"#
        );
        assert!(json(Event::RuleOff { rule }).starts_with(r#"{"at":"T","event":"rule_off","session":3,"#));
        assert_eq!(
            json(Event::Reloaded { allows: 2, restart: &["listen"] }),
            r#"{"at":"T","event":"reloaded","allows":2,"restart":["listen"]}"#
        );
    }
}
