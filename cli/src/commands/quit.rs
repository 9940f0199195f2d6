//! `adit quit`: asks the session to end and waits until it has: the lock on its state directory is free only then.

use std::{
    thread,
    time::{Duration, Instant},
};

use tunnel::control::{
    message::{Reply, Request},
    state_dir::StateDir,
};

use crate::{
    exit::{Exit, Failure},
    ipc, output,
};

/// Restoring takes milliseconds; a session that needs longer than this is stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often the lock is looked at once the socket is closed: the process has nothing left to do but end.
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub(super) fn run() -> Result<Exit, Failure> {
    let dir = StateDir::from_environment()?;
    let status = match ipc::status(&dir) {
        Err(gone) if gone.exit == Exit::NotConnected => {
            dir.forget_words();
            return Err(gone);
        }
        answer => answer?,
    };
    let mut conversation = ipc::ask(&dir, &Request::Quit)?;
    conversation.set_patience(PATIENCE);
    let deadline = Instant::now() + PATIENCE;
    while let Some(reply) = conversation.next(&dir)? {
        if let Reply::Refused { reason } = reply {
            return Err(Failure::new(Exit::Failed, reason));
        }
    }
    while dir.is_held() {
        if Instant::now() > deadline {
            let pid = status.summary.pid;
            return Err(Failure::new(Exit::Failed, format!("the session (pid {pid}) does not end"))
                .try_this(format!("kill -9 {pid}; its device, routes and rules go with it")));
        }
        thread::sleep(LOOK_EVERY);
    }
    output::result(format_args!("left {}", status.summary.link.gateway));
    Ok(Exit::Done)
}
