//! What a session is told of its rules: the state of each, and what was copied. Pure, apart from what it reads.
//! Before: [`super::rules`]; after: [`crate::control`].

use link::{
    control::{MAX_MESSAGE_BYTES, ToSession},
    rules::{MirrorReport, ReplicaReport, ReplicaState, RuleOutcome, RuleReport, RuleState},
};

use super::{subscription::Subscription, targets::Found};
use crate::cluster::Missing;

/// A report is cut between rules above this, so that each part is far below what a message may have.
const REPORT_BYTES: usize = MAX_MESSAGE_BYTES / 4;
/// Of a text that a session is told, when all together are too long.
const SHORT_CHARS: usize = 200;

/// What became of a rule that is on.
pub(super) fn state(subscription: &Subscription, found: Found) -> RuleState {
    if !found.is_there {
        let is_known = subscription.rule.replica.as_ref().is_none_or(|name| found.names.contains(name));
        return match found.wrong.first() {
            Some(Missing { name, reason, .. }) => RuleState::Failed { reason: format!("{name}: {reason}") },
            None if is_known => RuleState::NoReplica,
            None => RuleState::UnknownReplica { replicas: found.names },
        };
    }
    let mut reason = None;
    for part in subscription.parts().values() {
        match part.tap.state_for(&subscription.rule, part.generation).0 {
            ReplicaState::Failed { reason: why } => reason = reason.or(Some(why)),
            ReplicaState::Gone => {}
            ReplicaState::Starting | ReplicaState::Tapped | ReplicaState::Silent | ReplicaState::Unknown => {
                return RuleState::On;
            }
        }
    }
    reason.map_or(RuleState::On, |reason| RuleState::Failed { reason })
}

/// A rule's replicas, and those that cannot be any for what is in their place.
pub(super) fn replicas(subscription: &Subscription, found: Found) -> Vec<ReplicaReport> {
    let report = |(name, part): (&String, &super::subscription::Part)| {
        let (state, nobody_listens) = part.tap.state_for(&subscription.rule, part.generation);
        ReplicaReport { name: name.clone(), state, nobody_listens, counts: part.counts.read() }
    };
    let mut replicas: Vec<_> = subscription.parts().iter().map(report).collect();
    for Missing { name, reason, .. } in found.wrong {
        let state = ReplicaState::Failed { reason };
        // It may have been there before.
        match replicas.iter_mut().find(|replica| replica.name == name) {
            Some(replica) => replica.state = state,
            None => replicas.push(ReplicaReport { name, state, ..ReplicaReport::default() }),
        }
    }
    replicas
}

/// The acknowledgement of a set, shortened if it must be.
pub(super) fn applied(generation: u64, mut outcomes: Vec<RuleOutcome>) -> ToSession {
    let len = |outcomes: &Vec<RuleOutcome>| serde_json::to_vec(outcomes).map_or(0, |bytes| bytes.len());
    if len(&outcomes) > MAX_MESSAGE_BYTES / 2 {
        outcomes.iter_mut().for_each(|outcome| shorten(&mut outcome.state));
    }
    ToSession::RulesApplied { generation, outcomes }
}

fn shorten(state: &mut RuleState) {
    match state {
        RuleState::UnknownTarget { nearest: names } | RuleState::UnknownReplica { replicas: names } => names.clear(),
        RuleState::Refused { reason } | RuleState::Failed { reason } => {
            *reason = reason.chars().take(SHORT_CHARS).collect();
        }
        RuleState::On | RuleState::NoReplica | RuleState::Unknown => {}
    }
}

/// The reports of all rules, in as many messages as they need.
pub(super) fn messages(rules: Vec<RuleReport>) -> Vec<ToSession> {
    let mut parts = vec![Vec::new()];
    let mut bytes = 0;
    for rule in rules {
        let len = serde_json::to_vec(&rule).map_or(0, |bytes| bytes.len());
        if bytes + len > REPORT_BYTES && bytes > 0 {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += len;
        parts.last_mut().expect("there is always one").push(rule);
    }
    parts.into_iter().map(|rules| ToSession::Mirror(MirrorReport { rules })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_long_reports_become_several_messages_that_each_fit() {
        let replica = |name: usize| ReplicaReport { name: format!("{name:0>255}"), ..ReplicaReport::default() };
        let rule = |id| RuleReport { id, state: None, replicas: (0..64).map(replica).collect() };
        let messages = messages((0..1_024).map(rule).collect());
        assert!(messages.len() > 1);
        let mut ids = Vec::new();
        for message in messages {
            assert!(serde_json::to_vec(&message).unwrap().len() < MAX_MESSAGE_BYTES);
            let ToSession::Mirror(report) = message else { panic!("{message:?}") };
            ids.extend(report.rules.iter().map(|rule| rule.id));
        }
        assert!(ids.into_iter().eq(0..1_024));
    }

    #[test]
    fn an_acknowledgement_of_long_refusals_fits_a_message() {
        let outcome = |id| RuleOutcome { id, state: RuleState::Refused { reason: "no ".repeat(1_000) } };
        let message = applied(1, (0..1_024).map(outcome).collect());
        assert!(serde_json::to_vec(&message).unwrap().len() < MAX_MESSAGE_BYTES);
    }
}
