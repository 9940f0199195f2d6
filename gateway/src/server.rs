//! [`Gateway`]: listens, serves sessions, and ends in order: no new ones, the open flows' time, then all.
//!
//! Before: [`crate::run`], or whoever embeds a gateway; after: [`crate::session`].

mod state;

use std::{
    net::SocketAddr,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    time::{Duration, SystemTime},
};

use certs::{Authority, AuthorityError, PrivateFileError, Revoked, RevokedError, TlsError};
use link::{
    listen::{ListenError, Listener},
    version::ALPN,
};
use quinn::AsyncUdpSocket;
use rustls::ServerConfig;
use thiserror::Error;
use tokio::{sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::state::State;
use crate::{
    audit::{Audit, AuditError},
    cluster,
    config::Config,
    descriptors::Descriptors,
    dns::{Nameserver, ResolveError},
    echo::Echoes,
    limits::{Slots, SlotsByKey},
    metrics::Metrics,
    mirror::{Mirror, StartTap, TapProgram},
    observe::{ObserveError, Observer},
    policy::{self, Policy},
    reach::Reach,
    reload::Reloader,
    session,
};

/// Sessions that were told to end are given this long to hear it.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// The gateway cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Its authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Its reset key.
    #[error(transparent)]
    Secret(#[from] PrivateFileError),
    /// Its list of revoked identities.
    #[error(transparent)]
    Revoked(#[from] RevokedError),
    /// Its TLS configuration.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Its audit.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Its cluster's nameserver.
    #[error(transparent)]
    Nameserver(#[from] ResolveError),
    /// The link's port.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The metrics' port.
    #[error(transparent)]
    Observe(#[from] ObserveError),
}

/// How a gateway is told to end.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Takes no more sessions or flows; open flows go on for `limits.drain` at most.
    pub drain: CancellationToken,
    /// Ends at once.
    pub now: CancellationToken,
}

/// A gateway that listens.
#[derive(Debug)]
pub struct Gateway {
    listener: Listener,
    observer: Option<Observer>,
    state: Arc<State>,
    tasks: TaskTracker,
}

impl Gateway {
    /// Opens the authority (made on the first start), looks the nameserver up, and listens. Taps are this program's own.
    ///
    /// # Errors
    /// [`StartError`], which names the thing and the remedy.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        Self::start_with(config, Arc::new(TapProgram::own())).await
    }

    /// The same with taps that are started in another way.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(config: &Config, taps: Arc<dyn StartTap>) -> Result<Self, StartError> {
        let (tls, reset_secret) = keys(config)?;
        let tasks = TaskTracker::new();
        let listener = Listener::bind(config.listen, tls, &reset_secret, &tasks).await?;
        Self::behind(listener, config, tasks, taps).await
    }

    /// The same on `network` in place of the configured address: whatever carries QUIC packets.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_over(config: &Config, network: Arc<dyn AsyncUdpSocket>) -> Result<Self, StartError> {
        let (tls, reset_secret) = keys(config)?;
        let tasks = TaskTracker::new();
        let listener = Listener::over(network, tls, &reset_secret, &tasks)?;
        Self::behind(listener, config, tasks, Arc::new(TapProgram::own())).await
    }

    async fn behind(
        listener: Listener,
        config: &Config,
        tasks: TaskTracker,
        taps: Arc<dyn StartTap>,
    ) -> Result<Self, StartError> {
        let provider = cluster::provider(config);
        for warning in provider.warnings().into_iter().chain(policy::warnings(config)) {
            tracing::warn!("{warning}");
        }
        let metrics = Arc::new(Metrics::new());
        let audit = Audit::open(config.audit.as_deref(), metrics.lost_audit_lines.clone())?;
        let descriptors = Descriptors::of_process();
        if let Err(too_few) = descriptors.hold(&config.limits) {
            tracing::warn!("{too_few}");
        }
        let nameserver = Nameserver::resolve(&config.cluster.nameserver).await?;
        let state = Arc::new(State {
            mirror: Arc::new(Mirror::new(Arc::clone(&provider), taps, Arc::clone(&metrics))),
            reach: Reach::new(&provider.network().routes),
            provider,
            policy: watch::Sender::new(Arc::new(Policy::new(config.allows.clone()))),
            audit,
            limits: config.limits.clone(),
            metrics,
            nameserver,
            echoes: Echoes::open(),
            descriptors,
            revoked: Revoked::open(&config.state_dir)?,
            revoked_unreadable: AtomicBool::new(false),
            never: Some(listener.local_addr()).filter(|address| !address.ip().is_unspecified()).into_iter().collect(),
            draining: CancellationToken::new(),
            stop: CancellationToken::new(),
            sessions: Slots::new(config.limits.sessions),
            identities: SlotsByKey::new(config.limits.sessions_per_identity),
            last_session: AtomicU64::new(0),
        });
        let observer = match config.metrics {
            Some(address) => Some(Observer::bind(address).await?),
            None => None,
        };
        Ok(Self { listener, observer, state, tasks })
    }

    /// Where sessions connect, UDP and TCP.
    pub const fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Where metrics and health are read, if anywhere.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.observer.as_ref().map(Observer::local_addr)
    }

    /// What takes over a changed configuration while the gateway runs; `started` is the one it was started with.
    pub fn reloader(&self, started: Config) -> Reloader {
        Reloader::new(Arc::clone(&self.state), started)
    }

    /// Serves until told to end and ended.
    pub async fn run(self, shutdown: Shutdown) {
        let Self { mut listener, observer, state, tasks } = self;
        if let Some(observer) = observer {
            tasks.spawn(observer.serve(Arc::clone(&state), tasks.clone()));
        }
        tasks.spawn(Echoes::serve(Arc::clone(&state)));
        let auditing = Arc::clone(&state);
        tasks.spawn(async move { auditing.audit.serve(auditing.stop.clone()).await });
        tasks.spawn(Arc::clone(&state.mirror).watch());
        let sessions = TaskTracker::new();
        tracing::info!(listen = %listener.local_addr(), "gateway ready");
        loop {
            let arrived = tokio::select! {
                Some(arrived) = listener.accept() => arrived,
                () = shutdown.drain.cancelled() => break,
                () = shutdown.now.cancelled() => break,
            };
            let slot = state.sessions.claim();
            sessions.spawn(session::serve(Arc::clone(&state), arrived, slot));
        }
        listener.stop();
        tracing::info!(sessions = sessions.len(), "gateway drains");
        state.draining.cancel();
        sessions.close();
        tokio::select! {
            () = sessions.wait() => {}
            () = tokio::time::sleep(state.limits.drain) => tracing::warn!("flows are cut: the time to drain is over"),
            () = shutdown.now.cancelled() => {}
        }
        state.stop.cancel();
        let _ = timeout(GOODBYE_TIMEOUT, async { tokio::join!(sessions.wait(), state.mirror.end()) }).await;
        listener.flush().await;
        state.audit.finish().await;
        tracing::info!("gateway ended");
    }
}

/// The authority's TLS configuration, and the key by which peers of an earlier run are told that it is over.
fn keys(config: &Config) -> Result<(Arc<ServerConfig>, impl Deref<Target = [u8; 64]>), StartError> {
    let authority = Arc::new(Authority::open_or_create(&config.state_dir, SystemTime::now())?);
    let reset_secret = certs::open_or_create_secret(&config.state_dir.join("reset.key"))?;
    Ok((Arc::new(certs::server_config(authority, &[ALPN])?), reset_secret))
}
