//! Runs servers inside a namespace: one thread, one runtime, stopped as a whole.
//!
//! Before it in the flow: the servers ([`super::nameserver`], [`super::http`], [`super::echo`]). Next: [`super::world`].

use std::{io, sync::mpsc, thread};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::namespace::Namespace;

/// Where servers start their tasks. Clones are the same.
#[derive(Debug, Clone)]
pub struct Supervisor {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Supervisor {
    /// Runs `task` until it ends or the services stop.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }
}

/// Servers that run in one namespace until this is dropped.
#[derive(Debug)]
pub struct Services {
    stop: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
}

impl Services {
    /// Starts a thread in `namespace` and calls `start` on its runtime; `start` binds every socket before it returns,
    /// so that all are there when this returns, and its error is this one's.
    pub fn start(
        namespace: &Namespace,
        start: impl FnOnce(&Supervisor) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let supervisor = Supervisor { tasks: TaskTracker::new(), stop: stop.clone() };
        // One message ever is sent, so the sender never waits.
        let (started, outcome) = mpsc::sync_channel(1);
        let namespace = namespace.clone();
        let thread = thread::Builder::new().name("services".to_owned()).spawn(move || {
            let runtime =
                namespace.enter().and_then(|()| tokio::runtime::Builder::new_current_thread().enable_all().build());
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error))),
            };
            runtime.block_on(async {
                let bound = start(&supervisor);
                let failed = bound.is_err();
                // The receiver waits for it, or is gone and wants nothing.
                let _ = started.send(bound);
                if !failed {
                    supervisor.stop.cancelled().await;
                }
                supervisor.tasks.close();
                supervisor.tasks.wait().await;
            });
        })?;
        let services = Self { stop, thread: Some(thread) };
        outcome
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("the services' thread ended before they had started")))?;
        Ok(services)
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic of a server has been printed by its own thread.
            let _ = thread.join();
        }
    }
}
