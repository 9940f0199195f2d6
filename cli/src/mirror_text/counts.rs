//! What came of a rule: a line for each replica, and more only where something is missing.
//! Before: [`crate::status_text`]; after: nothing.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use link::rules::{Loss, LossReason, ReplicaState, RuleProtocol};
use tunnel::control::{
    mirror_message::Listener,
    mirror_status::{Delivery, Hole, Presence, ReplicaStatus, RuleStatus},
    status::unix_now,
};

use super::{name, why, word_of};
use crate::{
    output::{BAD, DIM, WARN, styled},
    text::{bytes, duration, list, row, utc_time},
};

/// All that is to be said about a rule.
pub(crate) fn rule(text: &mut String, status: &RuleStatus) {
    let (style, word) = word_of(&status.standing, &status.replicas);
    row(text, "mirror", &format!("{} {}{}", styled(style, word), name(&status.rule), delivered(status)));
    if let Some(why) = why(&status.standing) {
        row(text, "", &styled(WARN, why));
    }
    let flows = if status.rule.protocol == RuleProtocol::Udp { "flows" } else { "connections" };
    for replica in &status.replicas {
        row(text, "", &of_replica(replica, flows));
        for (deliberate, reasons) in by_intent(&replica.lost) {
            let style = if deliberate { DIM } else { WARN };
            row(text, "", &styled(style, format_args!("  {}", list(reasons))));
        }
    }
    for line in undelivered(&status.delivery) {
        row(text, "", &styled(WARN, line));
    }
    for hole in &status.holes {
        row(text, "", &styled(WARN, self::hole(hole)));
    }
    for notice in &status.notices {
        row(text, "notice", &styled(WARN, &notice.text));
    }
}

/// The listener and what it got, behind the rule's name.
fn delivered(status: &RuleStatus) -> String {
    let (delivery, mut text) = (&status.delivery, String::new());
    if let Listener::At(_) = status.rule.listener {
        let _ = match status.listener_state.listener {
            // Nothing arrived, or all is well.
            Presence::Unknown | Presence::Listening => Ok(()),
            Presence::Refused => write!(text, ", {}", styled(BAD, "nothing listens there")),
            Presence::Unreachable => write!(text, ", {}", styled(BAD, "it takes no connections")),
        };
    }
    let requests = &delivery.requests;
    if requests.delivered + requests.missed + requests.in_flight > 0 {
        let missed = format!("{} missed", requests.missed);
        let missed = if requests.missed > 0 { styled(WARN, missed) } else { missed };
        let _ = write!(text, "; requests: {} delivered, {missed}", requests.delivered);
        if requests.in_flight > 0 {
            let _ = write!(text, ", {} under way", requests.in_flight);
        }
    }
    if delivery.answer_bytes > 0 {
        let _ = write!(text, "; {} of answers read", bytes(delivery.answer_bytes));
    }
    text
}

fn of_replica(replica: &ReplicaStatus, flows: &str) -> String {
    let connections = &replica.connections;
    let mut text = format!("{}: {} open of {} {flows}", replica.name, connections.open, connections.all);
    if connections.from_middle > 0 {
        let _ = write!(text, " ({} from the middle)", connections.from_middle);
    }
    let _ = write!(text, ", {}", bytes(replica.bytes));
    if replica.datagrams > 0 {
        let _ = write!(text, " in {} datagrams", replica.datagrams);
    }
    if replica.bytes_per_second > 0 {
        let _ = write!(text, ", {}/s", bytes(replica.bytes_per_second));
    }
    let state = match &replica.state {
        ReplicaState::Tapped => None,
        ReplicaState::Starting => Some((WARN, "starting".to_owned())),
        ReplicaState::Silent => Some((WARN, "its tap says nothing".to_owned())),
        ReplicaState::Failed { reason } => Some((BAD, reason.clone())),
        ReplicaState::Gone => Some((DIM, "gone".to_owned())),
        ReplicaState::Unknown => Some((WARN, "in a state that this adit does not know".to_owned())),
    };
    if let Some((style, words)) = state {
        let _ = write!(text, "; {}", styled(style, words));
    }
    if replica.nobody_listens {
        let _ = write!(text, "; {}", styled(WARN, "nothing listens on the port there"));
    }
    text
}

/// What was left out as the rule says, and what was lost.
fn by_intent(lost: &BTreeMap<LossReason, Loss>) -> Vec<(bool, Vec<String>)> {
    let words = |deliberate| {
        let of =
            lost.iter().filter(|(reason, loss)| is_deliberate(**reason) == deliberate && **loss != Loss::default());
        of.map(|(reason, loss)| format!("{}: {}", reason_words(*reason), amount(*loss))).collect::<Vec<_>>()
    };
    [(true, words(true)), (false, words(false))].into_iter().filter(|(_, words)| !words.is_empty()).collect()
}

const fn is_deliberate(reason: LossReason) -> bool {
    matches!(reason, LossReason::Sample | LossReason::Rate | LossReason::Existing)
}

/// Why something was not copied, for a person.
pub(crate) const fn reason_words(reason: LossReason) -> &'static str {
    match reason {
        LossReason::Ring => "lost at the tap, which was too slow or stopped",
        LossReason::Reassembly => "lost behind segments that never came",
        LossReason::Lag => "lost, since this session did not keep up",
        LossReason::Sample => "left out by --sample",
        LossReason::Rate => "left out by --max-rate",
        LossReason::Existing => "left out, open before the rule",
        LossReason::Absent => "lost while the tap or the gateway was not there",
        LossReason::Unknown => "lost for a reason that this adit does not know",
    }
}

/// `3 flows, 1.2 MiB, 7 datagrams`, without what is none.
pub(crate) fn amount(loss: Loss) -> String {
    let flows = (loss.flows > 0).then(|| format!("{} flows", loss.flows));
    let payload = (loss.bytes > 0).then(|| bytes(loss.bytes));
    let datagrams = (loss.datagrams > 0).then(|| format!("{} datagrams", loss.datagrams));
    list(flows.into_iter().chain(payload).chain(datagrams))
}

fn undelivered(delivery: &Delivery) -> Vec<String> {
    let losses = [
        (delivery.listener_lag, "the listener did not keep up"),
        (delivery.not_delivered, "nothing listened, or it ended the connection"),
        (delivery.not_joined, "the start of the message was not copied"),
        (delivery.switched_off, "came after the rule was switched off"),
        (delivery.source_gone, "the gateway, its tap or the permission went"),
    ];
    let losses = losses.into_iter().filter(|(loss, _)| *loss != Loss::default());
    losses.map(|(loss, why)| format!("not delivered: {} ({why})", amount(loss))).collect()
}

fn hole(hole: &Hole) -> String {
    let since = utc_time(Duration::from_secs(hole.since_unix));
    let Some(until) = hole.until_unix else {
        let lasted = Duration::from_secs(unix_now().saturating_sub(hole.since_unix));
        return format!("hole: nothing is copied since {since} ({})", duration(lasted));
    };
    let lasted = Duration::from_secs(until.saturating_sub(hole.since_unix));
    format!("hole: nothing was copied from {since} to {} ({})", utc_time(Duration::from_secs(until)), duration(lasted))
}

#[cfg(test)]
mod tests {
    use tunnel::control::mirror_status::{Notice, NoticeKind};

    use super::*;
    use crate::mirror_text::tests::{plain, status};

    fn shown(status: &RuleStatus) -> String {
        let mut text = String::new();
        rule(&mut text, status);
        plain(&text)
    }

    #[test]
    fn a_rule_with_which_nothing_is_wrong_is_a_line_and_one_a_replica() {
        let expected = "mirror    on shop/deploy/web 8080 -> 127.0.0.1:3000\n          \
                        web-1: 1 open of 20 connections, 4.0 KiB\n          \
                        web-2: 1 open of 20 connections, 4.0 KiB\n";
        assert_eq!(shown(&status()), expected);
    }

    #[test]
    fn what_is_missing_is_said_with_its_reason() {
        let mut status = status();
        status.replicas[0].lost.insert(LossReason::Lag, Loss { bytes: 3 << 20, ..Loss::default() });
        status.replicas[0].lost.insert(LossReason::Sample, Loss { flows: 9, ..Loss::default() });
        status.delivery.not_delivered = Loss { bytes: 512, ..Loss::default() };
        status.delivery.source_gone = Loss { flows: 3, ..Loss::default() };
        (status.delivery.requests.delivered, status.delivery.requests.missed) = (7, 2);
        status.listener_state.listener = Presence::Refused;
        status.holes.push(Hole { since_unix: 3_600, until_unix: Some(3_602) });
        status.notices.push(Notice { kind: NoticeKind::Tls, connections: 1, text: "port 8080 is TLS".to_owned() });
        let text = shown(&status);
        for words in [
            "nothing listens there; requests: 7 delivered, 2 missed",
            "did not keep up: 3.0 MiB",
            "left out by --sample: 9 flows",
            "not delivered: 512 B (nothing listened",
            "not delivered: 3 flows (the gateway, its tap or the permission went)",
            "from 01:00:00Z to 01:00:02Z (2.0 s)",
            "notice    port 8080 is TLS",
        ] {
            assert!(text.contains(words), "no '{words}' in:\n{text}");
        }
    }
}
