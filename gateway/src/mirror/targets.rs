//! [`Targets`]: which replicas the mirrored targets have, looked at every second while somebody mirrors them, and the tap of each that
//! some rule wants. Before: [`super::rules`]; after: [`super::tap`].

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, task::spawn_blocking, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{subscription::Subscription, supervise::supervise, tap::Tap, tap_process::StartTap};
use crate::{
    cluster::{Missing, Provider, Replica, Replicas},
    config::Target,
    metrics::Metrics,
};

/// How often mirrored targets are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks that a tap lives without a rule: a rule that is switched off and on again finds its tap.
const LOOKS_UNWANTED: u32 = 3;

/// The targets that are mirrored.
#[derive(Debug)]
pub(super) struct Targets {
    watched: Mutex<BTreeMap<String, Watched>>,
    /// Told when there is something to watch.
    wanted: Notify,
    start: Arc<dyn StartTap>,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A target that somebody mirrors, or did a moment ago.
#[derive(Debug, Default)]
struct Watched {
    replicas: Replicas,
    subscriptions: Vec<Arc<Subscription>>,
    taps: Vec<Tapped>,
}

/// What a target has for a rule.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The names of all its replicas, there or not.
    pub(super) names: Vec<String>,
    /// One that the rule wants is there.
    pub(super) is_there: bool,
    /// Those that the rule wants and in whose place is something else.
    pub(super) wrong: Vec<Missing>,
}

#[derive(Debug)]
struct Tapped {
    tap: Arc<Tap>,
    looks_unwanted: u32,
}

impl Targets {
    pub(super) fn new(start: Arc<dyn StartTap>, metrics: Arc<Metrics>) -> Self {
        Self {
            watched: Mutex::default(),
            wanted: Notify::new(),
            start,
            metrics,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Puts a rule on. `replicas` are those that its target has at this moment.
    pub(super) fn subscribe(&self, subscription: &Arc<Subscription>, replicas: &Replicas) {
        let mut watched = self.lock();
        let target = watched.entry(subscription.rule.target.clone()).or_default();
        target.subscriptions.push(Arc::clone(subscription));
        target.update(self, replicas.clone());
        for tapped in target.taps.iter().filter(|tapped| subscription.wants(&tapped.tap.replica.name)) {
            // A tap that this very rule started has it already.
            if !subscription
                .parts()
                .get(&tapped.tap.replica.name)
                .is_some_and(|part| Arc::ptr_eq(&part.tap, &tapped.tap))
            {
                tapped.tap.subscribe(subscription);
            }
        }
        self.metrics.mirror_rules.inc();
        self.wanted.notify_one();
    }

    /// Takes a rule off: nothing is copied for it any more.
    pub(super) fn unsubscribe(&self, subscription: &Arc<Subscription>) {
        let mut watched = self.lock();
        let Some(target) = watched.get_mut(&subscription.rule.target) else { return };
        target.subscriptions.retain(|other| !Arc::ptr_eq(other, subscription));
        for tapped in &target.taps {
            tapped.tap.unsubscribe(subscription);
        }
        self.metrics.mirror_rules.dec();
    }

    /// What a rule's target has at this moment.
    pub(super) fn found(&self, subscription: &Subscription) -> Found {
        let watched = self.lock();
        let Some(target) = watched.get(&subscription.rule.target) else { return Found::default() };
        let Replicas { there, missing } = &target.replicas;
        let names = there.iter().map(|replica| &replica.name).chain(missing.iter().map(|missing| &missing.name));
        let is_wrong = |missing: &&Missing| missing.is_wrong && subscription.wants(&missing.name);
        Found {
            names: names.cloned().collect(),
            is_there: there.iter().any(|replica| subscription.wants(&replica.name)),
            wrong: missing.iter().filter(is_wrong).cloned().collect(),
        }
    }

    /// Looks at the mirrored targets until the gateway ends.
    pub(super) async fn watch(self: Arc<Self>, provider: Arc<dyn Provider>) {
        let watching = async {
            loop {
                let names: Vec<String> = self.lock().keys().cloned().collect();
                if names.is_empty() {
                    self.wanted.notified().await;
                }
                sleep(LOOK_EVERY).await;
                let provider = Arc::clone(&provider);
                let looks = spawn_blocking(move || look_at(provider.as_ref(), &names)).await;
                self.take_over(looks.unwrap_or_default());
            }
        };
        tokio::select! {
            () = watching => {}
            () = self.stop.cancelled() => {}
        }
    }

    fn take_over(&self, looks: Vec<(String, Replicas)>) {
        let mut watched = self.lock();
        for (name, replicas) in looks {
            let Some(target) = watched.get_mut(&name) else { continue };
            target.update(self, replicas);
            target.end_unwanted();
            if target.subscriptions.is_empty() && target.taps.is_empty() {
                watched.remove(&name);
            }
        }
    }

    /// Ends all taps.
    pub(super) async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn start(&self, replica: Replica) -> Arc<Tap> {
        let tap = Arc::new(Tap::new(replica, self.stop.child_token()));
        self.tasks.spawn(supervise(Arc::clone(&tap), Arc::clone(&self.start), Arc::clone(&self.metrics)));
        tap
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    /// Ends the taps of replicas that are gone, and starts those of new ones that a rule wants.
    fn update(&mut self, targets: &Targets, replicas: Replicas) {
        let is_there = |tap: &Tap| replicas.there.contains(&tap.replica);
        self.taps.retain(|tapped| {
            let stays = is_there(&tapped.tap);
            if !stays {
                tapped.tap.over.cancel();
            }
            stays
        });
        for replica in &replicas.there {
            let wanting: Vec<_> = self.subscriptions.iter().filter(|one| one.wants(&replica.name)).collect();
            if wanting.is_empty() || self.taps.iter().any(|tapped| tapped.tap.replica == *replica) {
                continue;
            }
            let tap = targets.start(replica.clone());
            for subscription in wanting {
                tap.subscribe(subscription);
            }
            self.taps.push(Tapped { tap, looks_unwanted: 0 });
        }
        self.replicas = replicas;
    }

    fn end_unwanted(&mut self) {
        self.taps.retain_mut(|tapped| {
            tapped.looks_unwanted = if tapped.tap.is_unwanted() { tapped.looks_unwanted + 1 } else { 0 };
            let stays = tapped.looks_unwanted < LOOKS_UNWANTED;
            if !stays {
                tapped.tap.over.cancel();
            }
            stays
        });
    }
}

/// The replicas of the targets of these names, as far as there are such targets.
pub(super) fn look_at(provider: &dyn Provider, names: &[String]) -> Vec<(String, Replicas)> {
    let named = |name: &String| provider.targets().iter().find(|target: &&Target| target.name == *name);
    let looks = names.iter().filter_map(|name| Some((name.clone(), provider.replicas(named(name)?))));
    looks.collect()
}
