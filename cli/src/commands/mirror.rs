//! `adit mirror`: asks the session for rules, or to change them, and tells what became of each.
//! Before: [`crate::args`]; after: [`crate::ipc`], and [`super::mirror_print`] with `--print`.

use std::time::Duration;

use link::rules::RuleProtocol;
use tunnel::control::{
    message::{Reply, Request},
    mirror_message::{Listener, NewRule, RuleReply, Selector, Standing},
    mirror_status::RuleStatus,
    state_dir::StateDir,
};

use super::{
    mirror_failures::{refusal, shortfall, worse},
    mirror_print,
};
use crate::{
    args::{
        Form,
        mirror::{Change, Choice, Mirror, New},
        mirror_values::Which,
    },
    exit::{Exit, Failure},
    ipc, listening, mirror_text,
    output::{self, result},
    text::list,
};

/// The session waits a few seconds for the gateway, which waits as long for its taps.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn run(mirror: &Mirror) -> Result<Exit, Failure> {
    let dir = StateDir::from_environment()?;
    match (&mirror.change, &mirror.new) {
        (Some(Change::On(choice)), _) => switch(&dir, choice, true),
        (Some(Change::Off(choice)), _) => switch(&dir, choice, false),
        (Some(Change::Rm(choice)), _) => change(&dir, choice, |which| Request::MirrorRemove { which }),
        (Some(Change::List { output }), _) => show(&dir, *output),
        (None, Some(new)) => add(&dir, new),
        (None, None) => Err(Failure::new(Exit::Usage, "no target was named").try_this("adit mirror --help")),
    }
}

fn add(dir: &StateDir, new: &New) -> Result<Exit, Failure> {
    let before = ipc::status(dir)?;
    let rules = rules(new, &before.summary.namespace);
    let replies = ask(dir, &Request::MirrorAdd { rules })?;
    let (made, refused): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.standing.is_hopeful());
    if new.print && refused.is_empty() {
        // What comes while the rules are told is shown behind that.
        let watch = mirror_print::watch(dir, &made)?;
        tell(dir, &made).iter().for_each(output::failure);
        return watch.follow(dir);
    }
    let mut failures = tell(dir, &made);
    failures.extend(refused.iter().map(refusal));
    // What is said of all of them is said once.
    failures.dedup();
    if new.print {
        remove(dir, &made);
    }
    failures.into_iter().reduce(worse).map_or(Ok(Exit::Done), Err)
}

/// Takes rules away that nobody would watch.
fn remove(dir: &StateDir, made: &[RuleReply]) {
    for reply in made {
        let which = Selector::Target { target: reply.rule.target.clone(), port: Some(reply.rule.port) };
        // A session that is gone has taken its rules along.
        let _ = ask(dir, &Request::MirrorRemove { which });
    }
}

fn rules(new: &New, namespace: &str) -> Vec<NewRule> {
    let of = |mapping: &crate::args::mirror_values::Mapping| NewRule {
        target: new.target.in_namespace(namespace),
        port: mapping.port,
        protocol: if new.udp { RuleProtocol::Udp } else { RuleProtocol::Tcp },
        listener: if new.print { Listener::Print } else { Listener::At(mapping.listener()) },
        replica: new.replica.clone(),
        sample: new.sample,
        max_rate: new.max_rate,
        existing: new.existing.into(),
        proxy_protocol: new.proxy_protocol,
    };
    new.ports.iter().map(of).collect()
}

/// Tells of rules that are there; what of them is not copied yet.
fn tell(dir: &StateDir, made: &[RuleReply]) -> Vec<Failure> {
    // Only for the replicas: a session that is gone by now is the next command's to notice.
    let status = ipc::status(dir).map(|status| status.mirror).unwrap_or_default();
    let mut shortfalls = Vec::new();
    for reply in made {
        let status = status.iter().find(|status| Some(status.id) == reply.id);
        let listens = match reply.rule.listener {
            Listener::At(address) => listening::somebody_listens(address, reply.rule.protocol),
            Listener::Print => None,
        };
        let text = mirror_text::made(reply, status, listens);
        // With --print the standard output is for what comes.
        match reply.rule.listener {
            Listener::At(_) => drop(result(text.trim_end())),
            Listener::Print => output::progress(text.trim_end()),
        }
        shortfalls.extend(shortfall(reply, status));
    }
    shortfalls
}

fn switch(dir: &StateDir, choice: &Choice, on: bool) -> Result<Exit, Failure> {
    change(dir, choice, |which| Request::MirrorSwitch { on, which })
}

fn change(dir: &StateDir, choice: &Choice, request: impl FnOnce(Selector) -> Request) -> Result<Exit, Failure> {
    let status = ipc::status(dir)?;
    let selector = selector(choice, &status.mirror)?;
    let replies = ask(dir, &request(selector))?;
    if replies.is_empty() {
        return Err(none(choice));
    }
    let (changed, failed): (Vec<_>, Vec<_>) =
        replies.into_iter().partition(|reply| reply.standing.is_hopeful() || reply.standing == Standing::Removed);
    let status = ipc::status(dir).map(|status| status.mirror).unwrap_or_default();
    let mut failures: Vec<Failure> = failed.iter().map(refusal).collect();
    for reply in &changed {
        result(mirror_text::changed(reply).trim_end());
        if reply.standing == Standing::NoReplica {
            output::progress(format_args!("          {}", mirror_text::NO_REPLICA));
        }
        failures.extend(shortfall(reply, status.iter().find(|status| Some(status.id) == reply.id)));
    }
    failures.into_iter().reduce(worse).map_or(Ok(Exit::Done), Err)
}

/// Without a choice it is the only rule; when there are several, one must be made.
fn selector(choice: &Choice, rules: &[RuleStatus]) -> Result<Selector, Failure> {
    match (&choice.which, choice.port) {
        (Some(Which::Target(target)), port) => Ok(Selector::Target { target: target.clone(), port }),
        (Some(_), Some(_)) => {
            Err(Failure::new(Exit::Usage, "a second port is only for a target: adit mirror off TARGET PORT"))
        }
        (Some(Which::All), None) => Ok(Selector::All),
        (Some(Which::Port(port)), None) => Ok(Selector::Port { port: *port }),
        (None, _) if rules.len() <= 1 => Ok(Selector::All),
        (None, _) => {
            let names =
                list(rules.iter().map(|status| format!("{} {}", status.rule.target, mirror_text::port(&status.rule))));
            let message = format!("there are {} rules: {names}", rules.len());
            Err(Failure::new(Exit::Usage, message).try_this("name a port, a target, or all"))
        }
    }
}

/// No rule is what was named.
fn none(choice: &Choice) -> Failure {
    let which = match (&choice.which, choice.port) {
        (Some(Which::Target(target)), Some(port)) => format!("for port {port} of {target}"),
        (Some(Which::Target(target)), None) => format!("for {target}"),
        (Some(Which::Port(port)), _) => format!("for port {port}"),
        (Some(Which::All) | None, _) => {
            return Failure::new(Exit::Failed, "there are no rules").try_this("adit mirror TARGET PORT makes one");
        }
    };
    Failure::new(Exit::Failed, format!("no rule is {which}")).try_this("adit mirror list")
}

fn show(dir: &StateDir, form: Form) -> Result<Exit, Failure> {
    let rules = ipc::status(dir)?.mirror;
    match form {
        Form::Json => drop(result(serde_json::to_string_pretty(&rules).expect("rules are JSON"))),
        Form::Text if rules.is_empty() => drop(result("no rules; adit mirror TARGET PORT makes one")),
        Form::Text => drop(result(mirror_text::table(&rules).trim_end())),
    }
    Ok(Exit::Done)
}

fn ask(dir: &StateDir, request: &Request) -> Result<Vec<RuleReply>, Failure> {
    let mut conversation = ipc::ask(dir, request)?;
    conversation.set_patience(PATIENCE);
    match conversation.next(dir)? {
        Some(Reply::Mirror { rules }) => Ok(rules),
        Some(Reply::Refused { reason }) => Err(Failure::new(Exit::Failed, reason)),
        Some(Reply::Leaving | Reply::Status(_) | Reply::Printed { .. }) | None => {
            Err(Failure::new(Exit::NotConnected, "the session ended"))
        }
    }
}
