//! What a session wants mirrored, and what the gateway says about it: whole snapshots with a generation, never deltas, so that the
//! two sides cannot drift. A snapshot is sent after every change and after every reconnect.
//!
//! Before: `tunnel::mirror`; after: [`crate::control`], then `gateway::mirror`. What is mirrored travels as [`crate::mirrored`].

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// Rules in one set at most; a larger set is refused whole.
pub const MAX_RULES: usize = 1_024;

/// All rules of a session that are on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleSet {
    /// Raised by the session with every change; the gateway acknowledges it.
    pub generation: u64,
    /// At most [`MAX_RULES`], of which no two have the same target, port and protocol.
    pub rules: Vec<Rule>,
}

/// One port of one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The session's number for the rule, unique while the session lives; every mirrored flow carries it.
    pub id: u32,
    /// `namespace/kind/name`.
    pub target: String,
    /// The port that the target receives on.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: RuleProtocol,
    /// One replica of the target by its name; all of them when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    /// The share of flows to copy.
    #[serde(default)]
    pub sample: Sample,
    /// Payload bytes a second to copy at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rate: Option<u64>,
    /// Leave out connections that were open before the rule.
    #[serde(default)]
    pub skip_existing: bool,
}

/// What a rule copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleProtocol {
    /// TCP connections.
    Tcp,
    /// UDP datagrams.
    Udp,
}

impl fmt::Display for RuleProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A share of flows, in millionths. A flow is in a sample when its own number, evenly spread over the same range, is below it; so a
/// smaller sample is part of a larger one, and a flow is copied whole or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sample(u32);

impl Sample {
    /// Every flow.
    pub const ALL: Self = Self(1_000_000);

    /// A share in millionths; more than all of them is all.
    pub const fn millionths(millionths: u32) -> Self {
        if millionths < Self::ALL.0 { Self(millionths) } else { Self::ALL }
    }

    /// The share in millionths.
    pub const fn as_millionths(self) -> u32 {
        self.0
    }

    /// Whether a flow is in it, by its number from 0 to 999,999.
    pub const fn takes(self, number: u32) -> bool {
        number < self.0
    }
}

impl Default for Sample {
    fn default() -> Self {
        Self::ALL
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 10_000.0)
    }
}

/// What became of a rule when its set was taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleOutcome {
    /// The rule's number.
    pub id: u32,
    /// What became of it.
    #[serde(flatten)]
    pub state: RuleState,
}

/// Whether a rule copies, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RuleState {
    /// Every replica that is there is tapped.
    On,
    /// The target is known, but none of its replicas is there: they are tapped when they come.
    NoReplica,
    /// The gateway's configuration does not allow it.
    Refused {
        /// What is missing, for a person.
        reason: String,
    },
    /// There is no such target among those that the identity may name.
    UnknownTarget {
        /// The nearest names, the best first; empty when there is nothing like it.
        nearest: Vec<String>,
    },
    /// The target has no such replica.
    UnknownReplica {
        /// Those it has.
        replicas: Vec<String>,
    },
    /// It cannot be tapped.
    Failed {
        /// What is wrong and what to do, for a person.
        reason: String,
    },
    /// A state of a later minor version.
    #[serde(other)]
    Unknown,
}

/// What is mirrored, as the gateway counts it: sent when it changed, at most once a second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorReport {
    /// A part for each rule that is on.
    pub rules: Vec<RuleReport>,
}

/// One rule's part of a [`MirrorReport`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleReport {
    /// The rule's number.
    pub id: u32,
    /// What became of the rule, when that changed after it was acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<RuleState>,
    /// Its replicas, those that are gone included while the rule is on.
    #[serde(default)]
    pub replicas: Vec<ReplicaReport>,
}

/// One replica's part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplicaReport {
    /// The replica's name.
    pub name: String,
    /// Whether its traffic is copied.
    #[serde(flatten)]
    pub state: ReplicaState,
    /// Nothing listens on the port there. It is copied all the same.
    pub nobody_listens: bool,
    /// What was copied for this session since the rule was made.
    #[serde(flatten)]
    pub counts: MirrorCounts,
}

/// Whether a replica's traffic is copied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ReplicaState {
    /// Its tap is being started.
    #[default]
    Starting,
    /// It is tapped.
    Tapped,
    /// Its tap does not say anything: what it loses meanwhile is told when it does.
    Silent,
    /// It cannot be tapped.
    Failed {
        /// What is wrong and what to do, for a person.
        reason: String,
    },
    /// It is gone.
    Gone,
    /// A state of a later minor version.
    #[serde(other)]
    Unknown,
}

/// What was copied, and what was not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MirrorCounts {
    /// Connections or UDP flows that are being copied.
    pub open: u64,
    /// Connections or UDP flows since the rule was made.
    pub total: u64,
    /// Of these, connections that were open before they were seen.
    pub from_middle: u64,
    /// Payload bytes handed to the link.
    pub bytes: u64,
    /// UDP datagrams handed to the link.
    pub datagrams: u64,
    /// What was left out or lost, by reason.
    pub lost: BTreeMap<LossReason, Loss>,
}

/// How much was not copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Loss {
    /// Connections or flows that were left out whole.
    pub flows: u64,
    /// Payload bytes.
    pub bytes: u64,
    /// UDP datagrams.
    pub datagrams: u64,
}

/// Why something was not copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum LossReason {
    /// The tap was too slow for its ring, or stopped.
    Ring = 0,
    /// Segments that were held back for one that was missing passed their bounds.
    Reassembly = 1,
    /// This session did not take its copy fast enough.
    Lag = 2,
    /// Not in the rule's sample.
    Sample = 3,
    /// Above the rule's rate.
    Rate = 4,
    /// Open before the rule, which leaves such connections out.
    Existing = 5,
    /// The tap or the gateway was not there.
    Absent = 6,
    /// A reason of a later minor version.
    #[serde(other)]
    Unknown = 255,
}

impl From<u8> for LossReason {
    fn from(byte: u8) -> Self {
        [Self::Ring, Self::Reassembly, Self::Lag, Self::Sample, Self::Rate, Self::Existing, Self::Absent]
            .get(usize::from(byte))
            .copied()
            .unwrap_or(Self::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_sample_is_part_of_a_large_one() {
        let (small, large) = (Sample::millionths(100_000), Sample::millionths(500_000));
        assert!((0..1_000_000).filter(|number| small.takes(*number)).all(|number| large.takes(number)));
        assert_eq!((0..1_000_000).filter(|number| small.takes(*number)).count(), 100_000);
        assert!(Sample::ALL.takes(999_999) && !Sample::millionths(0).takes(0));
        assert_eq!(small.to_string(), "10%");
    }

    #[test]
    fn what_a_later_version_adds_is_read_as_unknown() {
        let outcome: RuleOutcome = serde_json::from_str(r#"{"id":1,"state":"paused","since":3}"#).unwrap();
        assert_eq!(outcome.state, RuleState::Unknown);
        let report: MirrorReport = serde_json::from_str(
            r#"{"rules":[{"id":1,"replicas":[{"name":"web-1","state":"asleep","bytes":7,"lost":{"heat":{"bytes":3}}}]}]}"#,
        )
        .unwrap();
        let replica = &report.rules[0].replicas[0];
        assert_eq!((replica.state.clone(), replica.counts.bytes), (ReplicaState::Unknown, 7));
        assert_eq!(replica.counts.lost[&LossReason::Unknown].bytes, 3);
    }

    #[test]
    fn a_report_survives_its_json() {
        let counts = MirrorCounts {
            bytes: 7,
            lost: [(LossReason::Lag, Loss { bytes: 9, ..Loss::default() })].into(),
            ..MirrorCounts::default()
        };
        let state = ReplicaState::Failed { reason: "no".to_owned() };
        let replica = ReplicaReport { name: "web-1".to_owned(), state, nobody_listens: true, counts };
        let report =
            MirrorReport { rules: vec![RuleReport { id: 3, state: Some(RuleState::On), replicas: vec![replica] }] };
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<MirrorReport>(&json).unwrap(), report, "{json}");
    }
}
