//! What a session tells about its mirror: a part for each rule, with what was copied, what was not and why. The gateway counts what it
//! copies, loses and leaves out; this side counts what the listener took, and what it did not.
//! Before: [`crate::mirror`]; after: [`super::status`].

use std::collections::BTreeMap;

use link::rules::{Loss, LossReason, ReplicaState};
use serde::{Deserialize, Serialize};

use super::mirror_message::{NewRule, Standing};

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleStatus {
    /// The session's number for it.
    pub id: u32,
    /// The rule as it was made.
    #[serde(flatten)]
    pub rule: NewRule,
    /// Whether it is switched on.
    pub on: bool,
    /// How it stands at the gateway.
    #[serde(flatten)]
    pub standing: Standing,
    /// The target's replicas, as the gateway counts them.
    #[serde(default)]
    pub replicas: Vec<ReplicaStatus>,
    /// What the listener got, since the rule was made.
    #[serde(default)]
    pub delivery: Delivery,
    /// The listener, as the last attempt found it.
    #[serde(default)]
    pub listener_state: ListenerState,
    /// What was seen that a person may want to act upon, each once.
    #[serde(default)]
    pub notices: Vec<Notice>,
    /// When nothing could be copied while the rule was on, the latest last; the oldest are forgotten.
    #[serde(default)]
    pub holes: Vec<Hole>,
}

/// One replica of a rule's target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplicaStatus {
    /// Its name.
    pub name: String,
    /// Whether it is copied: `starting`, `tapped`, `silent`, `failed` with a `reason`, `gone`.
    #[serde(flatten)]
    pub state: ReplicaState,
    /// Nothing listens on the port there.
    pub nobody_listens: bool,
    /// Connections or UDP flows.
    pub connections: Connections,
    /// Payload bytes that the gateway copied.
    pub bytes: u64,
    /// UDP datagrams that the gateway copied.
    pub datagrams: u64,
    /// Payload bytes a second between the last two reports.
    pub bytes_per_second: u64,
    /// What the gateway lost or left out, by reason.
    pub lost: BTreeMap<LossReason, Loss>,
}

/// Connections or UDP flows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Connections {
    /// That are copied now.
    pub open: u64,
    /// Since the rule was made.
    pub all: u64,
    /// Of these, that were open before.
    pub from_middle: u64,
}

/// What the listener got of what arrived here. `bytes` and the bytes of the losses add up to what arrived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Delivery {
    /// Connections or UDP flows that arrive now.
    pub open: u64,
    /// Payload bytes that the listener's socket took.
    pub bytes: u64,
    /// UDP datagrams that the listener's socket took.
    pub datagrams: u64,
    /// Bytes that the listener answered, which go nowhere.
    pub answer_bytes: u64,
    /// Not delivered: the listener did not take its copy fast enough, or the process had no descriptor for it, which a notice says.
    pub listener_lag: Loss,
    /// Not delivered: nobody listened, or the listener ended the connection.
    pub not_delivered: Loss,
    /// Not delivered: they belong to a message whose start was not copied.
    pub not_joined: Loss,
    /// Arrived after the rule was switched off.
    pub switched_off: Loss,
    /// Not delivered: the gateway, its tap or the permission went while the connection was open. The listener's was reset.
    pub source_gone: Loss,
    /// HTTP/1 requests, on connections that are followed.
    pub requests: Requests,
}

/// HTTP/1 requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Requests {
    /// That the listener began to answer.
    pub delivered: u64,
    /// That it got in part or not at all, or that it did not answer before the connection broke.
    /// Those that lie whole within bytes that were lost on the way are not known here: the bytes are counted at their replica.
    pub missed: u64,
    /// That wait for its answer.
    pub in_flight: u64,
}

/// The listener, as the last attempt found it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListenerState {
    /// What it does.
    pub listener: Presence,
    /// Since when, in seconds since 1970-01-01 UTC.
    pub since_unix: u64,
}

/// What a listener does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// Nothing was there to be delivered yet.
    #[default]
    Unknown,
    /// It takes connections.
    Listening,
    /// It refuses them: the program is not running.
    Refused,
    /// It takes none in time: its backlog is full, or the address is not reachable.
    Unreachable,
}

/// What was seen that a person may want to act upon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What it is about, for a program.
    pub kind: NoticeKind,
    /// In how many connections.
    pub connections: u64,
    /// What it is and what can be done, for a person.
    pub text: String,
}

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// The connections are encrypted.
    Tls,
    /// HTTP/2 connections that were open before: they cannot be joined.
    Http2Joined,
    /// Requests whose framing two programs may read differently: not followed.
    AmbiguousFraming,
    /// The process has no descriptor left for more copies.
    Descriptors,
    /// A notice of a later version.
    #[serde(other)]
    Other,
}

/// A time in which nothing could be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hole {
    /// From, in seconds since 1970-01-01 UTC.
    pub since_unix: u64,
    /// Until; `None` while it lasts.
    pub until_unix: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rules_status_survives_its_json() {
        let json = r#"{"id":3,"target":"shop/deploy/web","port":8080,"protocol":"tcp","listener":"127.0.0.1:3000","on":true,
            "standing":"refused","reason":"no","replicas":[{"name":"web-1","state":"failed","reason":"why","bytes":7,
            "lost":{"ring":{"bytes":9}}}],"listener_state":{"listener":"refused","since_unix":7},
            "notices":[{"kind":"tls","connections":2,"text":"encrypted"}],"holes":[{"since_unix":1,"until_unix":null}]}"#;
        let status: RuleStatus = serde_json::from_str(json).unwrap();
        assert_eq!(status.standing, Standing::Refused { reason: "no".to_owned() });
        assert_eq!(status.replicas[0].state, ReplicaState::Failed { reason: "why".to_owned() });
        assert_eq!(status.replicas[0].lost[&LossReason::Ring].bytes, 9);
        let again = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<RuleStatus>(&again).unwrap(), status, "{again}");
    }
}
