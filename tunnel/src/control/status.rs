//! What a session tells about itself. The data plane raises [`SessionStatus::flows`] and its siblings and now and then replaces a
//! part of the [`Summary`]; a reader takes a [`Status`], the documented object that `adit status -o json` prints.
//! Before: `session`, `outbound`, `dns`; after: [`super::server`].

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use link::prefix::Prefix;
use serde::{Deserialize, Serialize};

use super::{
    counters::{Counter, DnsCounters, DnsNumbers, FlowCounters, Flows, Traffic, TrafficCounters},
    mirror_status::RuleStatus,
};
use crate::mirror::rules::HostRules;

/// The shared handle: the session writes it, the control server reads it.
#[derive(Debug, Default)]
pub struct SessionStatus {
    /// Flow counters and gauges.
    pub flows: FlowCounters,
    /// Bytes and packets.
    pub traffic: TrafficCounters,
    /// DNS queries.
    pub dns: DnsCounters,
    /// The rules of the mirror, and what they count.
    pub mirror: HostRules,
    /// Log lines that could not be written, for example because the disk is full.
    pub log_failures: Counter,
    summary: Mutex<Summary>,
}

impl SessionStatus {
    /// Changes the summary; the lock is held for `change` only, which must not wait.
    pub fn update(&self, change: impl FnOnce(&mut Summary)) {
        change(&mut self.lock());
    }

    /// Enters a state, with the time and an optional error.
    pub fn enter(&self, state: State, error: Option<String>) {
        self.update(|summary| {
            if summary.state != state || summary.since_unix == 0 {
                summary.state = state;
                summary.since_unix = unix_now();
            }
            summary.error = error;
        });
    }

    /// The whole status as it stands.
    pub fn snapshot(&self) -> Status {
        Status {
            summary: self.lock().clone(),
            flows: self.flows.snapshot(),
            traffic: self.traffic.snapshot(),
            dns_queries: self.dns.snapshot(),
            log_failures: self.log_failures.value(),
            mirror: self.mirror.statuses(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Summary> {
        self.summary.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What `adit status -o json` prints. Fields are only ever added; a reader must ignore the ones it does not know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The parts that change rarely, flattened into the same object.
    #[serde(flatten)]
    pub summary: Summary,
    /// Flow counters and gauges.
    pub flows: Flows,
    /// Bytes and packets.
    pub traffic: Traffic,
    /// DNS queries.
    pub dns_queries: DnsNumbers,
    /// Log lines that could not be written.
    pub log_failures: u64,
    /// What is mirrored: a part for each rule, in the order in which they were made.
    pub mirror: Vec<RuleStatus>,
}

/// Where the session is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The first link is being made.
    #[default]
    Connecting,
    /// Traffic flows.
    Connected,
    /// The link broke and is being made again; routes and names stay.
    Reconnecting,
    /// The machine's network is being restored.
    Leaving,
}

/// The parts of a status that change rarely.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// Where the session is in its life.
    pub state: State,
    /// When it entered that state, in seconds since 1970-01-01 UTC.
    pub since_unix: u64,
    /// When the session started, in seconds since 1970-01-01 UTC.
    pub started_unix: u64,
    /// Why the session is not connected.
    pub error: Option<String>,
    /// The session's process.
    pub pid: u32,
    /// The session's program version.
    pub version: String,
    /// The session's state directory.
    pub state_dir: PathBuf,
    /// The session's log.
    pub log_file: PathBuf,
    /// The namespace in which names without dots are looked up first.
    pub namespace: String,
    /// The link to the gateway.
    pub link: LinkStatus,
    /// The TUN device and what is routed into it.
    pub network: NetworkStatus,
    /// How names are resolved.
    pub dns: DnsStatus,
    /// What works less well than it could, each with what to do: a nameserver that cannot be captured, a network that is hidden.
    pub warnings: Vec<String>,
    /// Packets dropped, by reason.
    pub drops: BTreeMap<String, u64>,
}

/// The link to the gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkStatus {
    /// The gateway as the user wrote it.
    pub gateway: String,
    /// The address in use.
    pub address: Option<SocketAddr>,
    /// `udp` or `tcp`.
    pub carrier: Option<String>,
    /// The smoothed round trip in microseconds.
    pub rtt_micros: Option<u64>,
    /// The identity's name.
    pub identity: String,
    /// When the identity ends, in seconds since 1970-01-01 UTC.
    pub identity_ends_unix: Option<u64>,
    /// The session's number at the gateway, the same in the gateway's log.
    pub session: Option<u64>,
    /// The gateway's program version.
    pub gateway_version: Option<String>,
    /// The protocol both sides speak.
    pub protocol: Option<String>,
    /// How often the link was made again.
    pub reconnects: u64,
}

/// The TUN device and what is routed into it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkStatus {
    /// The device's name.
    pub device: Option<String>,
    /// The device's addresses.
    pub addresses: Vec<Prefix>,
    /// The prefixes that go to the cluster.
    pub routes: Vec<Prefix>,
}

/// How names are resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DnsStatus {
    /// How queries are captured: `policy_rule`, or `off`.
    pub mode: String,
    /// The machine's own nameservers, whose port 53 is captured.
    pub nameservers: Vec<SocketAddr>,
    /// The cluster's domain.
    pub domain: String,
    /// The cluster's namespaces, for short names.
    pub namespaces: Vec<String>,
}

/// Seconds since 1970-01-01 UTC.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_survives_its_json() {
        let session = SessionStatus::default();
        session.enter(State::Connected, None);
        session.flows.tcp_open.set(3);
        session.update(|summary| summary.link.gateway = "gateway.example.com:7844".to_owned());
        let status = session.snapshot();
        let json = serde_json::to_string(&status).unwrap();
        assert!(json.contains(r#""state":"connected""#) && json.contains(r#""tcp_open":3"#), "{json}");
        assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
    }

    #[test]
    fn a_reader_ignores_what_it_does_not_know() {
        let status: Status = serde_json::from_str(r#"{"state":"leaving","later":{"a":1}}"#).unwrap();
        assert_eq!(status.summary.state, State::Leaving);
    }

    #[test]
    fn the_time_of_a_state_is_that_of_entering_it() {
        let session = SessionStatus::default();
        session.enter(State::Reconnecting, Some("timed out".to_owned()));
        session.update(|summary| summary.since_unix = 7);
        session.enter(State::Reconnecting, Some("still".to_owned()));
        assert_eq!(session.snapshot().summary.since_unix, 7);
    }
}
