//! What a command asks of the mirror, carried out: checked against what is there, put into the rules, and answered when the gateway
//! has answered, or after a few seconds. Before: [`crate::control::server`]; after: [`super::rules`].

use std::{net::IpAddr, time::Duration};

use link::{prefix::Prefix, rules::RuleProtocol};
use tokio::time::{sleep, timeout};

use super::{
    own_ports,
    print::{self, Watcher},
    rules::{HostRules, is_same},
};
use crate::control::mirror_message::{Listener, NewRule, Rejection, RuleReply, Selector, Standing};

/// A gateway answers at the latest after two seconds, with what it has; a command gives up a little later.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(3_500);
/// Taps begin within a fraction of a second. Those that have not by then are told, and the rule stays.
const TAPS_TIMEOUT: Duration = Duration::from_secs(8);
/// A command that made rules which are only printed asks for what is printed right after; one that was killed never does.
const WATCHER_TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes of a target's or a replica's name: a set of as many rules as there may be must fit a control message.
const MAX_NAME_BYTES: usize = 320;

/// Adds rules; `cluster` are the prefixes that lead there.
pub(crate) async fn add(rules: &HostRules, new: Vec<NewRule>, cluster: &[Prefix]) -> Vec<RuleReply> {
    let mut checked: Vec<Result<NewRule, RuleReply>> = Vec::new();
    for rule in new {
        let twice = checked.iter().flatten().any(|other| is_same(other, &rule));
        checked.push(match check(rules, &rule, twice, cluster) {
            Ok(()) => Ok(rule),
            Err((why, reason)) => Err(rejected(rule, why, reason)),
        });
    }
    let good: Vec<_> = checked.iter().flatten().cloned().collect();
    if good.is_empty() {
        return checked.into_iter().filter_map(Result::err).collect();
    }
    let Some((ids, generation)) = rules.add(good) else {
        let reason = format!("a session has {} rules at most: adit mirror rm ...", link::rules::MAX_RULES);
        let too_many = |rule| rejected(rule, Rejection::TooMany, reason.clone());
        return checked.into_iter().map(|one| one.map_or_else(|reply| reply, too_many)).collect();
    };
    wait(rules, generation).await;
    wait_for_taps(rules, &ids).await;
    let mut replies = rules.replies(&ids).into_iter();
    let hopeless = |reply: &RuleReply| !reply.standing.is_hopeful();
    let gone: Vec<_> = replies.as_slice().iter().filter(|reply| hopeless(reply)).filter_map(|reply| reply.id).collect();
    if !gone.is_empty() {
        rules.remove(|rule| gone.contains(&rule.id));
    }
    // A rule that another command took away meanwhile has no reply.
    checked
        .into_iter()
        .filter_map(|one| one.map_or_else(Some, |_| replies.next().map(without_number_if_gone)))
        .collect()
}

/// Switches rules on or off.
pub(crate) async fn switch(rules: &HostRules, on: bool, which: &Selector) -> Vec<RuleReply> {
    let (ids, generation) = rules.switch(on, which);
    if !ids.is_empty() {
        wait(rules, generation).await;
        wait_for_taps(rules, &ids).await;
    }
    rules.replies(&ids)
}

/// Takes rules away.
pub(crate) async fn remove(rules: &HostRules, which: &Selector) -> Vec<RuleReply> {
    let (replies, generation) = rules.remove_selected(which);
    if !replies.is_empty() {
        wait(rules, generation).await;
    }
    replies
}

/// Watches rules; `None` when none of them is there.
pub(crate) fn watch(rules: &HostRules, ids: &[u32]) -> Option<Watcher> {
    let (printer, watcher) = print::channel();
    let live: Vec<_> = ids.iter().filter_map(|id| rules.live(*id)).collect();
    for rule in &live {
        rule.printers.add(printer.clone());
    }
    (!live.is_empty()).then_some(watcher)
}

/// A watcher is gone: so are those of its rules that had no other use.
pub(crate) async fn unwatch(rules: &HostRules, ids: &[u32], watcher: Watcher) {
    drop(watcher);
    remove_unwatched(rules, ids).await;
}

/// Gives whoever made rules that are only printed a moment to watch them; those that nobody watches then are taken away.
pub(crate) async fn expect_watchers(rules: &HostRules, ids: &[u32]) {
    let is_printed = |id: &u32| rules.live(*id).is_some_and(|rule| rule.spec.listener == Listener::Print);
    if ids.iter().any(is_printed) {
        sleep(WATCHER_TIMEOUT).await;
        remove_unwatched(rules, ids).await;
    }
}

async fn remove_unwatched(rules: &HostRules, ids: &[u32]) {
    let unused: Vec<_> = ids
        .iter()
        .filter_map(|id| rules.live(*id))
        .filter(|rule| !rule.printers.sweep() && rule.spec.listener == Listener::Print)
        .map(|rule| rule.id)
        .collect();
    if !unused.is_empty() {
        let (_, generation) = rules.remove(|rule| unused.contains(&rule.id));
        wait(rules, generation).await;
    }
}

async fn wait(rules: &HostRules, generation: u64) {
    // Without an answer in time the rules' standing says so.
    let _ = timeout(ANSWER_TIMEOUT, rules.settled(generation)).await;
}

/// Whoever is told that a rule is on may rely on it: the next connection, and the next request of an open one, is copied.
async fn wait_for_taps(rules: &HostRules, ids: &[u32]) {
    let _ = timeout(TAPS_TIMEOUT, rules.at_work(ids)).await;
}

fn check(rules: &HostRules, rule: &NewRule, twice: bool, cluster: &[Prefix]) -> Result<(), (Rejection, String)> {
    let NewRule { target, port, protocol, .. } = rule;
    if !is_name(target) || target.split('/').count() != 3 || *port == 0 {
        return Err((
            Rejection::Invalid,
            format!("'{target}' port {port} is no port of a target: write NAMESPACE/KIND/NAME PORT"),
        ));
    }
    if rule.replica.as_ref().is_some_and(|replica| !is_name(replica)) {
        return Err((Rejection::Invalid, "a replica's name has letters, digits and . - _ : only".to_owned()));
    }
    if rule.proxy_protocol && *protocol == RuleProtocol::Udp {
        let reason = "--proxy-protocol is for TCP: it stands at the start of a connection, and UDP has none".to_owned();
        return Err((Rejection::Invalid, reason));
    }
    if twice || rules.has(rule) {
        let reason =
            format!("{target} {port}/{protocol} is mirrored already: adit mirror rm {target} {port}, then again");
        return Err((Rejection::Duplicate, reason));
    }
    let Listener::At(listener) = rule.listener else { return Ok(()) };
    if listener.port() == 0 {
        return Err((Rejection::Invalid, format!("the listener {listener} has no port")));
    }
    if cluster.iter().any(|prefix| prefix.contains(canonical(listener.ip()))) {
        let reason = format!(
            "the listener {listener} is in the cluster, and a copy would go back to where it comes from: \
             a program on this machine, such as {port}:3000"
        );
        return Err((Rejection::InCluster, reason));
    }
    if own_ports::is_own(listener, *protocol) {
        let reason = format!(
            "port {} of this machine is a socket of adit itself: another port for the listener",
            listener.port()
        );
        return Err((Rejection::OwnPort, reason));
    }
    Ok(())
}

fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// What names are made of: nothing that a JSON text would have to escape.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"./-_:@+".contains(&byte);
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(allowed)
}

const fn rejected(rule: NewRule, why: Rejection, reason: String) -> RuleReply {
    RuleReply { id: None, rule, standing: Standing::Rejected { why, reason }, nobody_listens: false }
}

fn without_number_if_gone(reply: RuleReply) -> RuleReply {
    let id = reply.id.filter(|_| reply.standing.is_hopeful());
    RuleReply { id, ..reply }
}

#[cfg(test)]
mod tests;
