//! What became of a rule that is not as it was asked for, as a [`Failure`] with its exit code and what to do.
//! Before: [`super::mirror`]; after: [`crate::exit`].

use link::rules::ReplicaState;
use tunnel::control::{
    mirror_message::{NewRule, Rejection, RuleReply, Standing},
    mirror_status::{ReplicaStatus, RuleStatus},
};

use crate::{
    exit::{Exit, Failure},
    mirror_text, output,
    text::list,
};

/// What to do about a rule that is there and does not copy everything yet.
const LATER: &str = "adit status shows when it is: the rule stays, and begins by itself";

/// Why a rule is not there, with its exit code and what to do.
pub(super) fn refusal(reply: &RuleReply) -> Failure {
    let rule = &reply.rule;
    let named = format!("{}, port {}", rule.target, rule.port);
    match &reply.standing {
        // What is missing in gateway.toml stands behind a colon.
        Standing::Refused { reason } => match reason.split_once(": ") {
            Some((what, missing)) => Failure::new(Exit::Refused, what).try_this(missing),
            None => Failure::new(Exit::Refused, format!("{named}: {reason}")),
        },
        Standing::UnknownTarget { nearest } => {
            let failure = Failure::new(Exit::Failed, format!("there is no target {}", rule.target));
            match nearest.split_first() {
                Some((best, others)) => {
                    let others = if others.is_empty() { String::new() } else { format!("; or {}", list(others)) };
                    failure.try_this(format!("adit mirror {best} {}{others}", rule.port))
                }
                None => failure.try_this("the names are those of [[target]] in gateway.toml"),
            }
        }
        Standing::UnknownReplica { replicas } => {
            let asked = rule.replica.as_deref().unwrap_or_default();
            Failure::new(Exit::Failed, format!("{} has no replica {asked}", rule.target))
                .try_this(format!("--replica with one of {}", list(replicas)))
        }
        Standing::Rejected { why: Rejection::Invalid, reason } => {
            Failure::new(Exit::Usage, format!("{named}: {reason}"))
        }
        // The session has put what to do behind a colon.
        Standing::Rejected { reason, .. } => match reason.split_once(": ") {
            Some((what, remedy)) => Failure::new(Exit::Failed, what).try_this(remedy),
            None => Failure::new(Exit::Failed, format!("{named}: {reason}")),
        },
        other @ (Standing::Waiting { .. }
        | Standing::On
        | Standing::Off
        | Standing::NoReplica
        | Standing::Removed
        | Standing::Failed { .. }) => {
            let reason = mirror_text::why(other).unwrap_or_else(|| "it was not taken".to_owned());
            Failure::new(Exit::Failed, format!("{named}: {reason}"))
        }
    }
}

/// What of a rule that is there is not copied all the same, if anything. It is copied as soon as it can be.
pub(super) fn shortfall(reply: &RuleReply, status: Option<&RuleStatus>) -> Option<Failure> {
    let NewRule { target, port, .. } = &reply.rule;
    if let Standing::Waiting { reason } = &reply.standing {
        let message = format!("{target}, port {port} is not copied yet: {reason}");
        return Some(Failure::new(Exit::Failed, message).try_this(LATER));
    }
    let replicas = status.filter(|_| reply.standing == Standing::On).map(|status| status.replicas.iter());
    let idle: Vec<String> = replicas.into_iter().flatten().filter_map(idle).collect();
    let message = || format!("{target}, port {port} is not copied everywhere: {}", idle.join("; "));
    (!idle.is_empty()).then(|| Failure::new(Exit::Failed, message()).try_this(LATER))
}

/// A replica that is there and not copied, and why.
fn idle(replica: &ReplicaStatus) -> Option<String> {
    let name = &replica.name;
    match &replica.state {
        ReplicaState::Tapped | ReplicaState::Gone | ReplicaState::Unknown => None,
        ReplicaState::Starting => Some(format!("the tap of {name} has not begun within eight seconds")),
        ReplicaState::Silent => Some(format!("the tap of {name} says nothing: it was stopped, or cannot run")),
        ReplicaState::Failed { reason } => Some(format!("{name}: {reason}")),
    }
}

/// Prints the lesser of two failures and returns the other: a command has one exit code.
pub(super) fn worse(one: Failure, other: Failure) -> Failure {
    let (lesser, worse) = if one.exit.code() > other.exit.code() { (other, one) } else { (one, other) };
    output::failure(&lesser);
    worse
}
