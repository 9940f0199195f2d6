//! The process that is the session, in the background or not.
//!
//! 1. [`run`] locks the state directory, so a second session there fails at once.
//! 2. [`log`] opens the log that `adit status` names.
//! 3. [`caretaker`] answers commands and signals on a thread of its own.
//! 4. `tunnel::session::run` is the session: it returns when the machine's network is restored.
//! 5. The caretaker stops, the lock is freed: whoever waits in `adit quit` sees that.
//!
//! Before: [`crate::commands::connect`]; after: `tunnel::session`.

mod caretaker;
mod descriptors;
mod log;
mod pipe;

use std::{path::Path, sync::Arc};

use tokio_util::sync::CancellationToken;
use tunnel::{
    control::{
        state_dir::StateDir,
        status::{SessionStatus, State, unix_now},
    },
    session_options::{Progress, SessionOptions},
};

use crate::{
    args::Connect,
    exit::{Exit, Failure},
    memory,
    report::Report,
};

/// Runs a session until it is told to end. `tell` gets every [`Report`] but the failure, which is returned; when it says `false`,
/// whoever started the session is gone, and a session that has not joined yet ends.
///
/// # Errors
/// [`Failure`] when the session cannot start, or ends by itself.
pub fn run(connect: &Connect, mut tell: impl FnMut(Report) -> bool, stop: &CancellationToken) -> Result<(), Failure> {
    let dir = StateDir::from_environment()?;
    let lock = dir.lock()?;
    memory::give_rings_back();
    let status = Arc::new(SessionStatus::default());
    describe(&status, connect, &dir);
    log::start(&dir.log_file(), &connect.log_level, &status);
    descriptors::raise_limit();
    let caretaker = caretaker::Caretaker::start(&dir, &status, stop)?;
    let options = SessionOptions {
        gateway: connect.gateway.clone(),
        identity: connect.identity.clone(),
        carrier: connect.carrier.into(),
        namespace: connect.namespace.clone(),
        state_dir: dir.path().to_owned(),
    };
    let mut joined = false;
    let progress = |progress| {
        let report = match progress {
            Progress::Flowing => {
                joined = true;
                Report::Joined { status: Box::new(status.snapshot()) }
            }
            step @ (Progress::Connecting
            | Progress::Connected { .. }
            | Progress::Routed { .. }
            | Progress::Named { .. }) => Report::Step { progress: step },
        };
        if !tell(report) {
            stop.cancel();
        }
    };
    let ended = tunnel::session::run(&options, &status, progress, stop).map_err(Failure::from);
    if let Err(failure) = &ended {
        tracing::error!(reason = %failure.message, "the session ends");
    }
    // Before the socket is closed, for then those who watch ask why. One that never joined has told its starter.
    if joined && let Some((reason, remedy)) = last_words(&ended, &caretaker) {
        // A disk that is full keeps them from being left, and nothing else.
        let _ = dir.leave_words(&lock, reason, remedy);
    }
    caretaker.end();
    ended
}

/// The background process of `adit connect`: reports through its standard output, which its starter reads.
pub fn background(connect: &Connect) -> Exit {
    descriptors::close_inherited();
    // A session of its own, so that no terminal's Ctrl-C or hang-up reaches it. Fails only for a process group's leader, which a
    // process started by `connect` is not.
    let _ = nix::unistd::setsid();
    let stop = CancellationToken::new();
    let pipe = pipe::ReportPipe::watched(&stop);
    match run(connect, |report| pipe.send(&report), &stop) {
        Ok(()) => Exit::Done,
        Err(failure) => {
            pipe.send(&Report::from(&failure));
            failure.exit
        }
    }
}

/// Why a session ends that nobody told to quit, and what to do about it.
fn last_words(ended: &Result<(), Failure>, caretaker: &caretaker::Caretaker) -> Option<(String, Option<String>)> {
    match ended {
        Err(failure) => Some((failure.message.clone(), failure.remedy.clone())),
        Ok(()) => caretaker.signal().map(|signal| (format!("{signal} asked it to end"), None)),
    }
}

fn describe(status: &SessionStatus, connect: &Connect, dir: &StateDir) {
    status.update(|summary| {
        summary.pid = std::process::id();
        summary.version = env!("CARGO_PKG_VERSION").to_owned();
        summary.started_unix = unix_now();
        summary.state_dir = dir.path().to_owned();
        summary.log_file = dir.log_file();
        summary.namespace.clone_from(&connect.namespace);
        summary.link.gateway = connect.gateway.to_string();
    });
    status.enter(State::Connecting, None);
}

/// A relative path as it is from here, for a process that starts in another directory.
pub(crate) fn from_here(path: &Path) -> Result<std::path::PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::new(Exit::Usage, format!("the path {}: {error}", path.display())))
}
