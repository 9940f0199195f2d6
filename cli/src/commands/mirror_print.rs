//! `adit mirror --print`: shows what comes until Ctrl-C. The session takes the rule away when this end of the socket is closed, however
//! that happens. Before: [`super::mirror`]; after: [`crate::mirror_text`].

use std::{
    net::Shutdown,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::{SigSet, Signal};
use tunnel::control::{
    message::{Reply, Request},
    mirror_message::RuleReply,
    state_dir::StateDir,
};

use crate::{
    exit::{Exit, Failure},
    ipc,
    mirror_text::shown,
    output,
};

/// The session says something at least every few seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the rule may take to go: the gateway is not waited for.
const GONE_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks whether it is gone.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Rules that are watched.
#[derive(Debug)]
pub(super) struct Watch {
    rules: Vec<u32>,
    conversation: ipc::Conversation,
    /// What the session said first: mostly nothing, as a sign that it tells all from there on.
    first: Option<Reply>,
}

/// Why nothing more is shown.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The session says nothing more.
    Told,
    /// Nobody reads it.
    Unread,
}

/// Begins to watch; what comes from then on is shown by [`Watch::follow`].
pub(super) fn watch(dir: &StateDir, made: &[RuleReply]) -> Result<Watch, Failure> {
    let rules: Vec<u32> = made.iter().filter_map(|reply| reply.id).collect();
    let mut conversation = ipc::ask(dir, &Request::Print { rules: rules.clone() })?;
    conversation.set_patience(PATIENCE);
    let first = conversation.next(dir)?;
    Ok(Watch { rules, conversation, first })
}

impl Watch {
    /// Shows what comes until a signal.
    pub(super) fn follow(mut self, dir: &StateDir) -> Result<Exit, Failure> {
        // Blocked before the thread is made that takes them, so that none is handled in any other way.
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        signals
            .thread_block()
            .map_err(|errno| Failure::new(Exit::Failed, format!("cannot wait for Ctrl-C: {errno}")))?;
        let interrupted = Arc::new(AtomicBool::new(false));
        let (flag, socket) = (Arc::clone(&interrupted), self.conversation.socket());
        thread::spawn(move || {
            // Ends with the process when no signal comes.
            if signals.wait().is_ok() {
                flag.store(true, Relaxed);
                let _ = socket.map(|socket| socket.shutdown(Shutdown::Both));
            }
        });
        let ended = self.print(dir);
        drop(self.conversation);
        if interrupted.load(Relaxed) {
            await_removal(dir, &self.rules);
            output::progress("the rule is gone");
            return Ok(Exit::Done);
        }
        if ended? == End::Told {
            // The session has ended, or another command took the rule away.
            ipc::status(dir)?;
            output::progress("the rule was taken away");
        }
        Ok(Exit::Done)
    }

    fn print(&mut self, dir: &StateDir) -> Result<End, Failure> {
        let mut reply = self.first.take();
        loop {
            let (events, lost) = match reply {
                Some(Reply::Printed { events, lost }) => (events, lost),
                Some(Reply::Refused { reason }) => return Err(Failure::new(Exit::Failed, reason)),
                Some(Reply::Leaving | Reply::Status(_) | Reply::Mirror { .. }) | None => {
                    return Ok(End::Told);
                }
            };
            if lost > 0 {
                output::progress(format_args!("... {lost} left out: they came faster than they were read"));
            }
            if !events.iter().all(|event| output::result(shown::event(event))) {
                return Ok(End::Unread);
            }
            reply = self.conversation.next(dir)?;
        }
    }
}

fn await_removal(dir: &StateDir, rules: &[u32]) {
    let deadline = Instant::now() + GONE_WITHIN;
    let is_there = || {
        let status = ipc::status(dir);
        status.is_ok_and(|status| status.mirror.iter().any(|rule| rules.contains(&rule.id)))
    };
    while is_there() && Instant::now() < deadline {
        thread::sleep(LOOK_EVERY);
    }
}
