//! The pipe from the background process to the `adit connect` that waits for it: the process's standard output until traffic flows.
//! A starter that is gone before that ends the session, whatever ended it. After: [`crate::commands::connect`].

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::dup2_stdout,
};
use tokio_util::sync::CancellationToken;

use crate::report::Report;

pub(super) struct ReportPipe {
    /// Nobody waits any more, and nobody needs to.
    done: Arc<AtomicBool>,
}

impl ReportPipe {
    /// Cancels `stop` when the starter goes away before the session has joined.
    pub(super) fn watched(stop: &CancellationToken) -> Self {
        let done = Arc::<AtomicBool>::default();
        let (watched, stop) = (Arc::clone(&done), stop.clone());
        if let Ok(stdout) = io::stdout().as_fd().try_clone_to_owned() {
            std::thread::spawn(move || {
                // A pipe's writing end reports an error, and nothing else, when its reading end is closed.
                let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
                while poll(&mut fds, PollTimeout::NONE) == Err(Errno::EINTR) {}
                if !watched.load(SeqCst) {
                    stop.cancel();
                }
            });
        }
        Self { done }
    }

    /// Sends a report; `false` when nobody reads although the session has not joined yet.
    pub(super) fn send(&self, report: &Report) -> bool {
        if self.done.load(SeqCst) {
            return true;
        }
        let mut line = serde_json::to_vec(report).expect("a report is JSON");
        line.push(b'\n');
        if matches!(report, Report::Joined { .. }) {
            // Before it is written, since the starter may read it and be gone in the next moment.
            self.done.store(true, SeqCst);
        }
        let mut stdout = io::stdout();
        let sent = stdout.write_all(&line).and_then(|()| stdout.flush());
        if matches!(report, Report::Joined { .. } | Report::Failed { .. }) {
            close_stdout();
        }
        sent.is_ok()
    }
}

/// What reads the pipe need not wait for the session's end.
fn close_stdout() {
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        let _ = dup2_stdout(null);
    }
}
