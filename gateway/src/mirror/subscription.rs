//! [`Subscription`]: one rule of one session that is on, and [`Shared`], what all rules of a session share.
//! Before: [`super::rules`]; after: [`super::fanout`], which opens a [`Feed`] for each of its flows.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use link::{
    mirrored::MirrorHeader,
    rules::{Loss, LossReason, Rule},
};
use quinn::Connection;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::{budget::Budget, counts::Counts, feed::Feed, pace::Pace, tap::Tap, writer};
use crate::{limits::Slots, metrics::Metrics, session::Session, tap::protocol::Opened};

/// Replicas that are gone of which the counts are kept, for each rule: containers come and go, and a report has bounds.
const MOST_GONE: usize = 64;

/// What the mirrored flows of a session share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) connection: Connection,
    pub(super) budget: Budget,
    /// How many there may be. An open one never ends for a new one: the new one is left out and counted.
    pub(super) flows: Slots,
    /// Every task of the session.
    pub(super) tasks: TaskTracker,
    pub(super) metrics: Arc<Metrics>,
    /// Told when the state of a replica changed.
    pub(super) changed: Notify,
}

impl Shared {
    pub(super) fn new(session: &Session) -> Self {
        let limits = &session.state.limits;
        Self {
            connection: session.connection.clone(),
            budget: Budget::new(limits.mirror_memory_bytes),
            flows: Slots::new(limits.mirrored_flows),
            tasks: session.tasks.clone(),
            metrics: Arc::clone(&session.state.metrics),
            changed: Notify::new(),
        }
    }
}

/// A rule that is on.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) rule: Rule,
    pub(super) shared: Arc<Shared>,
    pace: Option<Mutex<Pace>>,
    /// Its flows, until each is written whole: they outlive the tap's own.
    feeds: Mutex<FxHashMap<u64, Arc<Feed>>>,
    last_feed: AtomicU64,
    writers: TaskTracker,
    parts: Mutex<BTreeMap<String, Part>>,
}

/// What a subscription has of one replica, there or gone.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) counts: Arc<Counts>,
    pub(super) tap: Arc<Tap>,
    /// The tap's rules have this rule's port from this generation on.
    pub(super) generation: u64,
    /// Raised with each that joins, which gives it.
    pub(super) joined: u64,
}

impl Subscription {
    pub(super) fn new(rule: Rule, shared: Arc<Shared>) -> Self {
        let pace = rule.max_rate.map(|rate| Mutex::new(Pace::new(rate, Instant::now())));
        Self {
            rule,
            shared,
            pace,
            feeds: Mutex::default(),
            last_feed: AtomicU64::new(0),
            writers: TaskTracker::new(),
            parts: Mutex::default(),
        }
    }

    /// Whether the rule is for a replica of this name.
    pub(super) fn wants(&self, replica: &str) -> bool {
        self.rule.replica.as_deref().is_none_or(|name| name == replica)
    }

    /// Whether the rule's rate allows a frame with so much payload.
    pub(super) fn allows(&self, bytes: u64, now: Instant) -> bool {
        self.pace.as_ref().is_none_or(|pace| pace.lock().unwrap_or_else(PoisonError::into_inner).allows(bytes, now))
    }

    /// Begins a flow's copy. `None` when the session has as many as it may.
    pub(super) fn open(
        self: &Arc<Self>,
        replica: &str,
        counts: &Arc<Counts>,
        opened: &Opened,
        from_start: bool,
    ) -> Option<Arc<Feed>> {
        let Some(slot) = self.shared.flows.claim() else {
            self.leave_out(counts, LossReason::Lag);
            return None;
        };
        let header = MirrorHeader {
            rule: self.rule.id,
            protocol: opened.protocol,
            from_start,
            client: opened.client,
            server: opened.server,
            seen_unix_micros: opened.seen_unix_micros,
            replica: replica.to_owned(),
        };
        let number = self.last_feed.fetch_add(1, Ordering::Relaxed);
        let feed = Arc::new(Feed::new(number, Arc::clone(self), Arc::clone(counts), slot, from_start));
        self.feeds().insert(number, Arc::clone(&feed));
        self.shared.tasks.spawn(self.writers.track_future(writer::write(Arc::clone(&feed), header)));
        Some(feed)
    }

    /// A flow is not copied, for this reason.
    pub(super) fn leave_out(&self, counts: &Counts, reason: LossReason) {
        let loss = Loss { flows: 1, ..Loss::default() };
        counts.lose(reason, loss);
        self.shared.metrics.lose_mirrored(reason, loss);
    }

    /// The counts of a replica, from before if there was one of the same name.
    pub(super) fn counts(&self, replica: &str) -> Arc<Counts> {
        self.parts().get(replica).map_or_else(Arc::default, |part| Arc::clone(&part.counts))
    }

    /// A replica's tap copies for it from this generation of its rules on.
    pub(super) fn join(&self, replica: &str, part: Part) {
        let mut parts = self.parts();
        let joined = parts.values().map(|part| part.joined).max().unwrap_or(0) + 1;
        parts.insert(replica.to_owned(), Part { joined, ..part });
        let mut gone: Vec<_> = parts.iter().filter(|(_, part)| part.tap.is_gone()).collect();
        gone.sort_unstable_by_key(|(_, part)| part.joined);
        let surplus = gone.len().saturating_sub(MOST_GONE);
        let oldest: Vec<String> = gone.into_iter().take(surplus).map(|(name, _)| name.clone()).collect();
        for name in oldest {
            parts.remove(&name);
        }
    }

    /// Its replicas, by name.
    pub(super) fn parts(&self) -> MutexGuard<'_, BTreeMap<String, Part>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether each of its taps has the rule in force or has failed.
    pub(super) fn is_settled(&self) -> bool {
        self.parts().values().all(|part| part.tap.is_settled(part.generation))
    }

    /// A flow of it is written whole, or never will be.
    pub(super) fn forget(&self, feed: u64) {
        self.feeds().remove(&feed);
    }

    /// Drops what its flows have waiting, and waits until none writes to the link any more. To be called when no tap copies for it.
    pub(super) async fn end(&self) {
        let feeds: Vec<_> = self.feeds().drain().map(|(_, feed)| feed).collect();
        for feed in feeds {
            feed.close();
        }
        self.writers.close();
        self.writers.wait().await;
    }

    fn feeds(&self) -> MutexGuard<'_, FxHashMap<u64, Arc<Feed>>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
