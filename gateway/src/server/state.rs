//! [`State`]: what all sessions of a gateway share. Made by [`super::Gateway`].

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use certs::{IdentityName, PeerIdentity, Revoked};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    audit::Audit,
    cluster::Provider,
    config::Limits,
    descriptors::Descriptors,
    dns::Nameserver,
    echo::Echoes,
    limits::{Slots, SlotsByKey},
    metrics::Metrics,
    mirror::Mirror,
    policy::Policy,
    reach::Reach,
};

/// What all sessions share.
pub(crate) struct State {
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) reach: Reach,
    /// Who may do what; sessions follow it.
    pub(crate) policy: watch::Sender<Arc<Policy>>,
    pub(crate) audit: Audit,
    pub(crate) limits: Limits,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) mirror: Arc<Mirror>,
    pub(crate) nameserver: Nameserver,
    pub(crate) echoes: Echoes,
    pub(crate) descriptors: Descriptors,
    pub(super) revoked: Revoked,
    /// Said already.
    pub(super) revoked_unreadable: AtomicBool,
    /// Addresses that a session must not route here.
    pub(crate) never: Vec<SocketAddr>,
    /// Cancelled when the gateway was told to end.
    pub(crate) draining: CancellationToken,
    /// Cancelled when nothing may go on.
    pub(crate) stop: CancellationToken,
    pub(super) sessions: Slots,
    pub(crate) identities: SlotsByKey<IdentityName>,
    pub(super) last_session: AtomicU64,
}

impl State {
    /// Whether the gateway does not believe this identity any more. A list that cannot be read is said, and the last one holds.
    pub(crate) fn is_revoked(&self, peer: &PeerIdentity) -> bool {
        match self.revoked.look() {
            Ok(()) => self.revoked_unreadable.store(false, Ordering::Relaxed),
            Err(error) if !self.revoked_unreadable.swap(true, Ordering::Relaxed) => {
                tracing::warn!("{error}; what was revoked before stays so");
            }
            Err(_) => {}
        }
        self.revoked.holds(peer)
    }

    /// The next session's number, from 1.
    pub(crate) fn number_session(&self) -> u64 {
        self.last_session.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("limits", &self.limits).finish_non_exhaustive()
    }
}
