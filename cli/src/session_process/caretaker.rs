//! The thread beside the data plane: serves the control socket and turns signals into an orderly end.
//! It runs from before the session starts until after the network is restored. After: `tunnel::control::server`.

use std::{
    io,
    sync::{Arc, OnceLock},
    thread::JoinHandle,
};

use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tunnel::control::{server::Server, state_dir::StateDir, status::SessionStatus};

use crate::exit::{Exit, Failure};

pub(super) struct Caretaker {
    thread: JoinHandle<()>,
    end: CancellationToken,
    signal: Arc<OnceLock<&'static str>>,
}

impl Caretaker {
    /// Listens before it returns, so that a session that is being made can be asked and told to quit.
    pub(super) fn start(
        dir: &StateDir,
        status: &Arc<SessionStatus>,
        stop: &CancellationToken,
    ) -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            let message = format!("cannot listen on {}: {error}", dir.socket().display());
            Failure::new(Exit::Usage, message)
                .try_this("set ADIT_STATE_DIR to a directory with a short path that you can write to")
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (server, signals) = prepare(&runtime, dir, status, stop).map_err(failed)?;
        let (end, stop, until) = (CancellationToken::new(), stop.clone(), dir.socket());
        let (serving, signal) = (end.clone(), Arc::<OnceLock<_>>::default());
        let heard = Arc::clone(&signal);
        let thread = std::thread::Builder::new().name("caretaker".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::join!(server.serve(serving.clone()), serving.run_until_cancelled(signals.cancel(stop, &heard)));
            });
            let _ = std::fs::remove_file(until);
        });
        Ok(Self { thread: thread.map_err(failed)?, end, signal })
    }

    /// The signal that asked the session to end, if one did.
    pub(super) fn signal(&self) -> Option<&'static str> {
        self.signal.get().copied()
    }

    /// Closes the socket, which tells those who wait in `adit quit`.
    pub(super) fn end(self) {
        self.end.cancel();
        // A panic there has been printed to the log; there is nothing left to take care of.
        let _ = self.thread.join();
    }
}

fn prepare(
    runtime: &Runtime,
    dir: &StateDir,
    status: &Arc<SessionStatus>,
    stop: &CancellationToken,
) -> io::Result<(Server, Signals)> {
    let _inside = runtime.enter();
    Ok((Server::bind(dir, Arc::clone(status), stop.clone())?, Signals::listen()?))
}

/// The signals that ask a process to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn cancel(mut self, stop: CancellationToken, heard: &OnceLock<&'static str>) {
        let name = tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hang_up.recv() => "SIGHUP",
        };
        tracing::info!("{name} asks the session to end");
        let _ = heard.set(name);
        stop.cancel();
    }
}
