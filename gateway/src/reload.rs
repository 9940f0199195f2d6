//! [`Reloader`]: reads the configuration again, on SIGHUP, and takes over who may do what.
//!
//! 1. The file is read and checked whole. What cannot be used changes nothing.
//! 2. The `[[allow]]` are taken over: every session hears of it, and ends what is no longer allowed ([`crate::permit`]).
//! 3. What else was changed is named: it needs a restart.
//!
//! The audit's file is opened anew in any case, so that one signal serves log rotation as well. Before: [`mod@crate::run`].

use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::{
    audit::Event,
    config::{Config, ConfigError},
    metrics::Reload,
    policy::{self, Policy},
    server::State,
};

/// Takes changed configurations over.
#[derive(Debug)]
pub struct Reloader {
    state: Arc<State>,
    /// What the gateway was started with, which only a restart replaces.
    started: Config,
}

impl Reloader {
    pub(crate) const fn new(state: Arc<State>, started: Config) -> Self {
        Self { state, started }
    }

    /// Reads the file that the gateway was started with.
    pub async fn reload(&self) {
        let path = self.started.path.clone();
        // Flows must not wait for a disk.
        match spawn_blocking(move || Config::load(&path)).await {
            Ok(loaded) => self.take_over(loaded),
            Err(error) => tracing::error!(%error, "reading the configuration ended without a result"),
        }
    }

    /// Takes over what was read, or says why it cannot be.
    pub fn take_over(&self, loaded: Result<Config, ConfigError>) {
        let State { audit, metrics, .. } = self.state.as_ref();
        audit.reopen();
        let config = match loaded {
            Ok(config) => config,
            Err(error) => {
                metrics.reloads.count(Reload::Failed);
                tracing::error!(%error, "the configuration cannot be used: everything stays as it was");
                return audit.write(&Event::ReloadFailed { problem: &error.to_string() });
            }
        };
        for warning in policy::warnings(&config) {
            tracing::warn!("{warning}");
        }
        let restart = self.started.changes_for_a_restart(&config);
        if !restart.is_empty() {
            tracing::warn!(keys = restart.join(", "), "also changed, and in force only after a restart");
        }
        let allows = config.allows.len();
        // Before anything ends by it, so that the lines are in their order.
        audit.write(&Event::Reloaded { allows, restart: &restart });
        self.state.policy.send_replace(Arc::new(Policy::new(config.allows)));
        metrics.reloads.count(Reload::Applied);
        tracing::info!(allows, "configuration read again");
    }
}
