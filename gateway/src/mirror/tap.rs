//! [`Tap`]: the gateway's view of one replica's tap, shared by all sessions: what is wanted of it, what it copies, and how it is.
//!
//! Its process is started, watched and ended by [`supervise`](super::supervise), and read by [`super::reader`].
//! Before: [`super::targets`]; after: [`super::fanout`].

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use link::rules::{ReplicaState, Rule};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    fanout::{FanOut, Port, no_stats},
    subscription::{Part, Subscription},
    wanted::Wanted,
};
use crate::{
    cluster::Replica,
    tap::protocol::{MAX_PORTS, PortStats},
};

/// A tap says something every second; one that does not for so long has been stopped, or cannot run.
pub(super) const SILENT_AFTER: Duration = Duration::from_secs(3);

/// One replica's tap.
#[derive(Debug)]
pub(super) struct Tap {
    pub(super) replica: Replica,
    pub(super) fanout: Mutex<FanOut>,
    pub(super) wanted: watch::Sender<Wanted>,
    state: Mutex<State>,
    /// Cancelled when the replica is gone, or nobody wants its tap.
    pub(super) over: CancellationToken,
}

#[derive(Debug)]
struct State {
    is: ReplicaState,
    /// The last rules that the tap said were in force; 0 while there is no process.
    acknowledged: u64,
    ports: BTreeMap<Port, PortStats>,
    heard: Instant,
}

impl Tap {
    pub(super) fn new(replica: Replica, over: CancellationToken) -> Self {
        Self {
            fanout: Mutex::new(FanOut::new(&replica.name)),
            replica,
            wanted: watch::Sender::default(),
            state: Mutex::new(State {
                is: ReplicaState::Starting,
                acknowledged: 0,
                ports: BTreeMap::new(),
                heard: Instant::now(),
            }),
            over,
        }
    }

    /// Copies for a rule from here on.
    pub(super) fn subscribe(self: &Arc<Self>, subscription: &Arc<Subscription>) {
        let name = &self.replica.name;
        let counts = subscription.counts(name);
        let port = (subscription.rule.protocol, subscription.rule.port);
        let mut fanout = self.fanout();
        let seen = self.state().ports.get(&port).copied().unwrap_or_else(|| no_stats(port));
        fanout.subscribe(subscription, &counts, seen);
        let generation = self.want(&fanout);
        drop(fanout);
        subscription.join(name, Part { counts, tap: Arc::clone(self), generation, joined: 0 });
    }

    /// Copies nothing for a rule any more.
    pub(super) fn unsubscribe(&self, subscription: &Arc<Subscription>) {
        let mut fanout = self.fanout();
        fanout.unsubscribe(subscription);
        self.want(&fanout);
    }

    /// Tells the tap what is wanted; the generation that has it.
    fn want(&self, fanout: &FanOut) -> u64 {
        self.wanted.send_if_modified(|wanted| wanted.change(fanout.ports()));
        self.wanted.borrow().generation
    }

    /// Whether nobody wants anything of it.
    pub(super) fn is_unwanted(&self) -> bool {
        self.wanted.borrow().ports.is_empty()
    }

    /// Whether the replica is gone.
    pub(super) fn is_gone(&self) -> bool {
        self.state().is == ReplicaState::Gone
    }

    /// Whether rules of this generation are in force, or never will be.
    pub(super) fn is_settled(&self, generation: u64) -> bool {
        let state = self.state();
        state.acknowledged >= generation || matches!(state.is, ReplicaState::Failed { .. } | ReplicaState::Gone)
    }

    /// How it is for a rule that is in its rules from this generation on, and whether nobody listens there.
    pub(super) fn state_for(&self, rule: &Rule, generation: u64) -> (ReplicaState, bool) {
        let port = (rule.protocol, rule.port);
        let state = self.state();
        let nobody_listens = state.ports.get(&port).is_some_and(|stats| stats.nobody_listens);
        if state.is != ReplicaState::Gone && !self.wanted.borrow().has(port) {
            let reason = format!(
                "{MAX_PORTS} ports of this replica are copied for all sessions together, and more cannot be: ask those who mirror \
                 it, whom the gateway's audit names, to turn some off"
            );
            return (ReplicaState::Failed { reason }, nobody_listens);
        }
        let is_new = state.is == ReplicaState::Tapped && state.acknowledged < generation;
        (if is_new { ReplicaState::Starting } else { state.is.clone() }, nobody_listens)
    }

    /// Its process is started. Why the one before ended stays to be seen until this one copies.
    pub(super) fn begin(&self) {
        let mut state = self.state();
        (state.acknowledged, state.heard) = (0, Instant::now());
        state.ports.clear();
    }

    /// It is in this state; every session that wants it is told.
    pub(super) fn set(&self, is: ReplicaState) {
        let mut state = self.state();
        state.is = is;
        drop(state);
        self.tell(&self.fanout());
    }

    fn tell(&self, fanout: &FanOut) {
        for subscription in fanout.subscriptions() {
            subscription.shared.changed.notify_one();
        }
    }

    /// The tap said something.
    pub(super) fn hear(&self, now: Instant) {
        let mut state = self.state();
        state.heard = now;
        if state.is == ReplicaState::Silent {
            state.is = if state.acknowledged > 0 { ReplicaState::Tapped } else { ReplicaState::Starting };
        }
    }

    /// Notes if it has not been heard for too long; whether it is so.
    pub(super) fn note_silence(&self, now: Instant) -> bool {
        let mut state = self.state();
        let is_silent = now.saturating_duration_since(state.heard) > SILENT_AFTER;
        let is_new = is_silent && matches!(state.is, ReplicaState::Starting | ReplicaState::Tapped);
        if is_new {
            state.is = ReplicaState::Silent;
        }
        is_new
    }

    /// The rules of this generation are in force.
    pub(super) fn acknowledge(&self, fanout: &FanOut, generation: u64, nobody_listens: &[Port]) {
        let mut state = self.state();
        state.acknowledged = generation;
        state.is = ReplicaState::Tapped;
        for (port, _) in fanout.ports() {
            let stats = state.ports.entry(port).or_insert_with(|| no_stats(port));
            stats.nobody_listens = nobody_listens.contains(&port);
        }
        drop(state);
        self.tell(fanout);
    }

    /// What the tap counted.
    pub(super) fn count(&self, fanout: &mut FanOut, stats: &[PortStats]) {
        fanout.count(stats);
        self.state().ports = stats.iter().map(|port| ((port.protocol, port.port), *port)).collect();
    }

    pub(super) fn fanout(&self) -> MutexGuard<'_, FanOut> {
        self.fanout.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locked behind the fan-out where both are.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
