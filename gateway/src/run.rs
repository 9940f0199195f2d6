//! A gateway as a process of its own: one thread, and a second for the audit's file; reloaded and ended by signals. Before: the binary, or `adit demo`; after: [`crate::server`].

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use thiserror::Error;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};

use crate::{
    config::Config,
    server::{Gateway, Shutdown, StartError},
};

/// The gateway process cannot run.
#[derive(Debug, Error)]
pub enum RunError {
    /// The gateway cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The kernel refuses what every process needs.
    #[error("cannot set up the process")]
    Process(#[from] io::Error),
}

/// Runs a gateway until SIGTERM or SIGINT, then drains it; a second signal ends it at once. SIGHUP has the configuration read again, as
/// [`crate::Reloader`] does.
///
/// One thread carries everything: a hand-over between threads costs more than the work it saves.
///
/// # Errors
/// [`RunError`] when it cannot start.
pub fn run(config: &Config) -> Result<(), RunError> {
    raise_descriptor_limit();
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let gateway = Gateway::start(config).await?;
        let reloader = gateway.reloader(config.clone());
        let reloading = async {
            while hangup.recv().await.is_some() {
                reloader.reload().await;
            }
            std::future::pending::<()>().await;
        };
        let shutdown = Shutdown::default();
        let told = async {
            for token in [&shutdown.drain, &shutdown.now] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                token.cancel();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = gateway.run(shutdown.clone()) => {}
            () = told => {}
            () = reloading => {}
        }
        Ok(())
    })
}

/// Every flow has a descriptor, and the usual soft limit is 1,024.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| hard));
    match raised {
        Ok(limit) => tracing::debug!(limit, "descriptors"),
        Err(error) => tracing::warn!(%error, "cannot raise the number of open files: flows end at the soft limit"),
    }
}
