//! Rules in words: what a rule is, how it stands, what came of it. Pure: it returns text.
//!
//! [`made`] and [`changed`] are what `adit mirror` prints, [`table`] what `adit mirror list` does. Before: [`crate::commands`]; after:
//! [`counts`], which [`crate::status_text`] shows, and [`shown`], the lines of `--print`.

pub(crate) mod counts;
pub(crate) mod shown;

use std::{fmt::Write, net::SocketAddr};

use anstyle::Style;
use link::rules::{ReplicaState, RuleProtocol, Sample};
use tunnel::control::{
    mirror_message::{Existing, Listener, NewRule, RuleReply, Standing},
    mirror_status::{ReplicaStatus, RuleStatus},
};

use crate::{
    output::{BAD, DIM, GOOD, WARN, styled},
    text::{bytes, list, row},
};

/// `shop/deploy/web 8080 -> 127.0.0.1:3000`, and what narrows it.
pub(crate) fn name(rule: &NewRule) -> String {
    let mut text = format!("{} {}", rule.target, port(rule));
    let _ = match rule.listener {
        Listener::At(address) => write!(text, " -> {address}"),
        Listener::Print => write!(text, ", shown"),
    };
    if let Some(replica) = &rule.replica {
        let _ = write!(text, ", replica {replica}");
    }
    if rule.sample != Sample::ALL {
        let _ = write!(text, ", {} of the connections", rule.sample);
    }
    if let Some(rate) = rule.max_rate {
        let _ = write!(text, ", at most {}/s", bytes(rate));
    }
    if rule.existing == Existing::Skip {
        text.push_str(", new connections only");
    }
    text
}

/// `8080`, or `53/udp`.
pub(crate) fn port(rule: &NewRule) -> String {
    match rule.protocol {
        RuleProtocol::Tcp => rule.port.to_string(),
        RuleProtocol::Udp => format!("{}/udp", rule.port),
    }
}

/// One word for how a rule stands, in its colour.
pub(crate) fn word(standing: &Standing) -> (Style, &'static str) {
    match standing {
        Standing::On => (GOOD, "on"),
        Standing::Off => (DIM, "off"),
        Standing::Removed => (DIM, "removed"),
        Standing::Waiting { .. } => (WARN, "waiting"),
        Standing::NoReplica => (WARN, "waiting"),
        Standing::Refused { .. } => (BAD, "refused"),
        Standing::UnknownTarget { .. } | Standing::UnknownReplica { .. } => (BAD, "unknown"),
        Standing::Failed { .. } | Standing::Rejected { .. } => (BAD, "failed"),
    }
}

/// As [`word`], of a rule whose replicas are known: one that is on at the gateway, but copied nowhere, is not on.
pub(crate) fn word_of(standing: &Standing, replicas: &[ReplicaStatus]) -> (Style, &'static str) {
    let mut there =
        replicas.iter().map(|replica| &replica.state).filter(|state| **state != ReplicaState::Gone).peekable();
    let is_copied = there.peek().is_none() || there.clone().any(|state| *state == ReplicaState::Tapped);
    if *standing != Standing::On || is_copied {
        return word(standing);
    }
    if there.clone().any(|state| *state == ReplicaState::Starting) {
        (WARN, "starting")
    } else if there.any(|state| *state == ReplicaState::Silent) {
        (WARN, "silent")
    } else {
        (BAD, "failed")
    }
}

/// What is said of a target without a replica.
pub(crate) const NO_REPLICA: &str = "the target has no replica now: they are copied when they come";

/// Why it stands so, where one word is not enough.
pub(crate) fn why(standing: &Standing) -> Option<String> {
    match standing {
        Standing::On | Standing::Off | Standing::Removed => None,
        Standing::Waiting { reason }
        | Standing::Refused { reason }
        | Standing::Failed { reason }
        | Standing::Rejected { reason, .. } => Some(reason.clone()),
        Standing::NoReplica => Some(NO_REPLICA.to_owned()),
        Standing::UnknownTarget { nearest } if nearest.is_empty() => Some("the gateway has no such target".to_owned()),
        Standing::UnknownTarget { nearest } => Some(format!("the gateway has no such target, but {}", list(nearest))),
        Standing::UnknownReplica { replicas } => Some(format!("the target's replicas are {}", list(replicas))),
    }
}

/// What a rule's making is told with: a few aligned lines.
pub(crate) fn made(reply: &RuleReply, status: Option<&RuleStatus>, listens: Option<bool>) -> String {
    let replicas = status.map(|status| status.replicas.as_slice()).unwrap_or_default();
    let mut text = headed(word_of(&reply.standing, replicas), &reply.rule);
    if reply.standing == Standing::NoReplica {
        row(&mut text, "", &styled(WARN, NO_REPLICA));
    }
    if !replicas.is_empty() {
        row(&mut text, "replicas", &list(replicas.iter().map(replica)));
    }
    if let Listener::At(address) = reply.rule.listener {
        row(&mut text, "listener", &listener(address, listens));
    }
    if reply.nobody_listens {
        let idle: Vec<&str> =
            replicas.iter().filter(|replica| replica.nobody_listens).map(|replica| replica.name.as_str()).collect();
        let of = if idle.is_empty() { reply.rule.target.clone() } else { list(idle) };
        let told = format!("nothing listens on port {} of {of} now: what comes later is copied", port(&reply.rule));
        row(&mut text, "target", &styled(WARN, told));
    }
    text
}

/// One line for what a command changed.
pub(crate) fn changed(reply: &RuleReply) -> String {
    headed(word(&reply.standing), &reply.rule)
}

fn headed((style, word): (Style, &str), rule: &NewRule) -> String {
    format!("{} {}\n", styled(style, format_args!("{word:<9}")), name(rule))
}

fn listener(address: SocketAddr, listens: Option<bool>) -> String {
    match listens {
        Some(true) => format!("listening on {address}"),
        Some(false) => styled(
            WARN,
            format_args!("nothing listens on {address} yet: start it, what comes before that is counted as missed"),
        ),
        None => format!("{address}, which is not an address of this machine"),
    }
}

fn replica(replica: &ReplicaStatus) -> String {
    match &replica.state {
        ReplicaState::Tapped => replica.name.clone(),
        ReplicaState::Starting => styled(WARN, format_args!("{} (starting)", replica.name)),
        ReplicaState::Silent => styled(WARN, format_args!("{} (silent)", replica.name)),
        ReplicaState::Failed { .. } => styled(BAD, format_args!("{} (failed)", replica.name)),
        ReplicaState::Gone => styled(DIM, format_args!("{} (gone)", replica.name)),
        ReplicaState::Unknown => format!("{} (in a state that this adit does not know)", replica.name),
    }
}

/// The rules as a table.
pub(crate) fn table(rules: &[RuleStatus]) -> String {
    let mut rows = vec![["STATE", "TARGET", "PORT", "LISTENER", "CONNECTIONS", "REPLICAS"].map(str::to_owned)];
    rows.extend(rules.iter().map(|status| {
        let (open, all) = status
            .replicas
            .iter()
            .fold((0, 0), |(open, all), replica| (open + replica.connections.open, all + replica.connections.all));
        let there = status.replicas.iter().filter(|replica| replica.state != ReplicaState::Gone);
        [
            word_of(&status.standing, &status.replicas).1.to_owned(),
            status.rule.target.clone(),
            port(&status.rule),
            status.rule.listener.to_string(),
            format!("{open} open of {all}"),
            list(there.map(replica)),
        ]
    }));
    let styles = std::iter::once(DIM).chain(rules.iter().map(|status| word_of(&status.standing, &status.replicas).0));
    let mut text = String::new();
    for (cells, style) in rows.iter().zip(styles) {
        let padded = cells.iter().enumerate().map(|(column, cell)| {
            let width = rows.iter().map(|cells| cells[column].chars().count()).max().unwrap_or_default();
            // Nothing is behind the last one.
            let padded = if column + 1 == cells.len() { cell.clone() } else { format!("{cell:<width$}") };
            // The first column's colour is its rule's; the titles are dim all over.
            if column == 0 || style == DIM && cells[0] == "STATE" { styled(style, padded) } else { padded }
        });
        let line = padded.collect::<Vec<_>>().join("  ");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use tunnel::control::mirror_status::{Connections, Delivery, ListenerState};

    use super::*;

    pub(crate) fn rule() -> NewRule {
        NewRule {
            target: "shop/deploy/web".to_owned(),
            port: 8080,
            protocol: RuleProtocol::Tcp,
            listener: Listener::At("127.0.0.1:3000".parse().unwrap()),
            replica: None,
            sample: Sample::ALL,
            max_rate: None,
            existing: Existing::Http,
            proxy_protocol: false,
        }
    }

    pub(crate) fn status() -> RuleStatus {
        let replica = |name: &str| ReplicaStatus {
            name: name.to_owned(),
            state: ReplicaState::Tapped,
            connections: Connections { open: 1, all: 20, from_middle: 0 },
            bytes: 4096,
            ..ReplicaStatus::default()
        };
        RuleStatus {
            id: 1,
            rule: rule(),
            on: true,
            standing: Standing::On,
            replicas: vec![replica("web-1"), replica("web-2")],
            delivery: Delivery::default(),
            listener_state: ListenerState::default(),
            notices: Vec::new(),
            holes: Vec::new(),
        }
    }

    pub(crate) fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn a_rule_that_is_on_is_three_lines() {
        let reply = RuleReply { id: Some(1), rule: rule(), standing: Standing::On, nobody_listens: false };
        let expected = "on        shop/deploy/web 8080 -> 127.0.0.1:3000\n\
                        replicas  web-1, web-2\n\
                        listener  listening on 127.0.0.1:3000\n";
        assert_eq!(plain(&made(&reply, Some(&status()), Some(true))), expected);
        let missing = plain(&made(&reply, Some(&status()), Some(false)));
        assert!(missing.contains("nothing listens on 127.0.0.1:3000 yet: start it"), "{missing}");
    }

    #[test]
    fn a_target_where_nobody_listens_is_told_by_replica() {
        let mut status = status();
        status.replicas[1].nobody_listens = true;
        let reply = RuleReply { id: Some(1), rule: rule(), standing: Standing::On, nobody_listens: true };
        let text = plain(&made(&reply, Some(&status), Some(true)));
        assert!(text.contains("target    nothing listens on port 8080 of web-2 now"), "{text}");
    }

    #[test]
    fn what_narrows_a_rule_is_part_of_its_name() {
        let narrow = NewRule {
            protocol: RuleProtocol::Udp,
            replica: Some("web-1".to_owned()),
            sample: Sample::millionths(100_000),
            max_rate: Some(1 << 20),
            existing: Existing::Skip,
            ..rule()
        };
        let expected = "shop/deploy/web 8080/udp -> 127.0.0.1:3000, replica web-1, 10% of the connections, \
                        at most 1.0 MiB/s, new connections only";
        assert_eq!(name(&narrow), expected);
    }

    #[test]
    fn the_table_says_which_replicas_are_not_copied() {
        let (mut half, mut none, mut silent) = (status(), status(), status());
        let failed = ReplicaState::Failed { reason: "no such namespace".to_owned() };
        half.replicas[1].state = failed.clone();
        none.replicas.iter_mut().for_each(|replica| replica.state = failed.clone());
        silent.replicas[0].state = ReplicaState::Silent;
        silent.replicas[1].state = ReplicaState::Gone;
        let text = plain(&table(&[half, none, silent]));
        let lines: Vec<&str> = text.lines().skip(1).collect();
        for (line, word, replicas) in [
            (lines[0], "on ", "web-1, web-2 (failed)"),
            (lines[1], "failed ", "web-1 (failed), web-2 (failed)"),
            (lines[2], "silent ", "web-1 (silent)"),
        ] {
            assert!(line.starts_with(word) && line.ends_with(replicas), "{text}");
        }
    }

    #[test]
    fn the_table_is_aligned() {
        let mut off = status();
        (off.standing, off.rule.port, off.rule.listener) = (Standing::Off, 53, Listener::Print);
        let text = plain(&table(&[status(), off]));
        let columns: Vec<Option<usize>> = text.lines().map(|line| line.find("web-1, web-2")).collect();
        assert!(columns[1].is_some() && columns[1] == columns[2], "{text}");
        assert_eq!(text.lines().next().unwrap().find("REPLICAS"), columns[1], "{text}");
    }
}
