//! The rules of one session, from its word to what is copied, and back to what it is told.
//!
//! ```text
//! 1. a set comes from control      serve
//! 2. each rule is judged           take_over, then check::judge
//! 3. what is off, ends             turn_off: nothing of it is on the link when 5 is said
//! 4. what is new, begins           turn_on
//! 5. the set is acknowledged       once the taps have it, or after ACKNOWLEDGE_AFTER
//! 6. what changes is reported      report, once a second
//! ```
//! Before: [`crate::control`]; after: [`super::targets`].

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use link::{
    control::ToSession,
    rules::{Rule, RuleOutcome, RuleReport, RuleSet, RuleState},
};
use tokio::{
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior, interval, sleep_until},
};

use super::{
    Mirror, check,
    permission::{self, Changes},
    report,
    subscription::{Shared, Subscription},
    targets::Found,
};
use crate::session::Session;

/// A set is acknowledged by then, with the replicas whose taps are not ready as `starting`.
const ACKNOWLEDGE_AFTER: Duration = Duration::from_secs(2);
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Messages that wait for the control stream, before no further set is taken.
const MOST_UNSAID: usize = 4;

/// The rules of a session.
struct Rules {
    session: Arc<Session>,
    mirror: Arc<Mirror>,
    shared: Arc<Shared>,
    set: RuleSet,
    on: BTreeMap<u32, Arc<Subscription>>,
    /// Those that are not, and why.
    off: BTreeMap<u32, RuleState>,
    /// What the session was told of each.
    told: BTreeMap<u32, RuleState>,
    reported: Vec<RuleReport>,
    /// A set that is not acknowledged yet: its generation, and when it will be at the latest.
    pending: Option<(u64, Instant)>,
    /// Fewer than [`MOST_UNSAID`] when a set is taken; what is said of one set and one change of permissions comes on top.
    unsaid: VecDeque<ToSession>,
}

/// Follows the sets that come, and says what becomes of them, until the session is over.
pub(super) async fn serve(
    mirror: Arc<Mirror>,
    session: Arc<Session>,
    sets: mpsc::Receiver<RuleSet>,
    says: mpsc::Sender<ToSession>,
) {
    let over = session.over.clone();
    let mut rules = Rules::new(mirror, session);
    tokio::select! {
        () = rules.follow(sets, says) => {}
        () = over.cancelled() => {}
    }
    rules.end().await;
}

impl Rules {
    fn new(mirror: Arc<Mirror>, session: Arc<Session>) -> Self {
        let shared = Arc::new(Shared::new(&session));
        Self {
            session,
            mirror,
            shared,
            set: RuleSet::default(),
            on: BTreeMap::new(),
            off: BTreeMap::new(),
            told: BTreeMap::new(),
            reported: Vec::new(),
            pending: None,
            unsaid: VecDeque::new(),
        }
    }

    async fn follow(&mut self, mut sets: mpsc::Receiver<RuleSet>, says: mpsc::Sender<ToSession>) {
        let mut reports = reports();
        let mut permissions = Changes::of(&self.session);
        let shared = Arc::clone(&self.shared);
        loop {
            tokio::select! {
                biased;
                () = permissions.next() => self.judge_again().await,
                Some(set) = sets.recv(), if self.unsaid.len() < MOST_UNSAID => self.take_over(Some(set)).await,
                Ok(place) = says.reserve(), if !self.unsaid.is_empty() => {
                    if let Some(message) = self.unsaid.pop_front() {
                        place.send(message);
                    }
                }
                () = shared.changed.notified(), if self.pending.is_some() => self.acknowledge_if_settled(),
                () = deadline(self.pending), if self.pending.is_some() => self.acknowledge(),
                _ = reports.tick(), if self.has_rules() => self.report(),
            }
        }
    }

    fn has_rules(&self) -> bool {
        !self.set.rules.is_empty() && self.unsaid.is_empty()
    }

    /// What is allowed changed. What is not any more ends first: looking at the targets may take long.
    async fn judge_again(&mut self) {
        let ending: Vec<u32> =
            self.on.iter().filter(|(_, one)| !self.may_mirror(&one.rule)).map(|(id, _)| *id).collect();
        self.turn_off(&ending).await;
        self.take_over(None).await;
    }

    /// As [`check::judge`] will ask, but without a word to the audit.
    fn may_mirror(&self, rule: &Rule) -> bool {
        self.session.permissions.borrow().may_mirror(&rule.target, rule.port, rule.protocol).is_ok()
    }

    /// Puts a set in force, or the last one again.
    async fn take_over(&mut self, set: Option<RuleSet>) {
        // One that is still waited for is told of as it is.
        self.acknowledge();
        let is_new = set.is_some();
        if let Some(set) = set {
            self.set = set;
        }
        // Of what may not be mirrored nothing is looked at: how long that takes would tell what there is.
        let allowed = self.set.rules.iter().filter(|rule| self.may_mirror(rule));
        let found = self.mirror.look(allowed.map(|rule| rule.target.clone()).collect()).await;
        let judged = check::judge(&self.set, self.session.as_ref(), self.mirror.provider.targets(), &found);
        let before = self.on.len();
        let (mut on, mut off) = (Vec::new(), BTreeMap::new());
        for (rule, (id, judged)) in sorted(&self.set).into_iter().zip(judged) {
            match judged {
                Ok(()) => on.push(rule),
                Err(state) => drop(off.insert(id, state)),
            }
        }
        self.off = off;
        let kept = |subscription: &Arc<Subscription>| on.contains(&subscription.rule);
        let ending: Vec<u32> = self.on.iter().filter(|(_, one)| !kept(one)).map(|(id, _)| *id).collect();
        self.turn_off(&ending).await;
        on.retain(|rule| !self.on.contains_key(&rule.id));
        let begun = on.len();
        for rule in on {
            let subscription = Arc::new(Subscription::new(rule, Arc::clone(&self.shared)));
            if let Some(replicas) = found.get(&subscription.rule.target) {
                self.mirror.targets.subscribe(&subscription, replicas);
            }
            permission::audit(&self.session, &subscription, true);
            self.on.insert(subscription.rule.id, subscription);
        }
        let (ended, refused) = (ending.len(), self.off.len());
        if is_new || before != self.on.len() {
            let (session, generation, on) = (self.session.number, self.set.generation, self.on.len());
            tracing::info!(session, generation, on, begun, ended, refused, "mirror rules");
        }
        if is_new {
            self.pending = Some((self.set.generation, Instant::now() + ACKNOWLEDGE_AFTER));
            self.acknowledge_if_settled();
        }
    }

    /// Ends the copies of these rules. Nothing of them is written to the link any more when this returns, and what was copied since the
    /// last report is told before the set is acknowledged.
    async fn turn_off(&mut self, ids: &[u32]) {
        let ending: Vec<_> = ids.iter().filter_map(|id| self.on.remove(id)).collect();
        for subscription in &ending {
            self.mirror.targets.unsubscribe(subscription);
        }
        for subscription in &ending {
            subscription.end().await;
            permission::audit(&self.session, subscription, false);
        }
        let replicas = |subscription: &Arc<Subscription>| report::replicas(subscription, Found::default());
        let last = ending.iter().map(|one| RuleReport { id: one.rule.id, state: None, replicas: replicas(one) });
        // A session that reads none of this misses counts, and nothing waits for it without bound.
        if !ending.is_empty() && self.unsaid.len() < MOST_UNSAID {
            self.unsaid.extend(report::messages(last.collect()));
        }
    }

    fn acknowledge_if_settled(&mut self) {
        if self.on.values().all(|subscription| subscription.is_settled()) {
            self.acknowledge();
        }
    }

    fn acknowledge(&mut self) {
        let Some((generation, _)) = self.pending.take() else { return };
        self.told = self.states();
        let outcomes = self.told.iter().map(|(id, state)| RuleOutcome { id: *id, state: state.clone() }).collect();
        self.unsaid.push_back(report::applied(generation, outcomes));
        // Whoever waits for the acknowledgement also wants to know whether anything listens at the target.
        self.report();
    }

    fn states(&self) -> BTreeMap<u32, RuleState> {
        let on = self
            .on
            .iter()
            .map(|(id, subscription)| (*id, report::state(subscription, self.mirror.targets.found(subscription))));
        on.chain(self.off.iter().map(|(id, state)| (*id, state.clone()))).collect()
    }

    /// Says what changed since the last report.
    fn report(&mut self) {
        let states = self.states();
        let rules: Vec<_> = states
            .iter()
            .filter(|(id, state)| self.on.contains_key(id) || self.told.get(id) != Some(state))
            .map(|(id, state)| RuleReport {
                id: *id,
                state: (self.told.get(id) != Some(state)).then(|| state.clone()),
                replicas: self.on.get(id).map_or_else(Vec::new, |subscription| {
                    report::replicas(subscription, self.mirror.targets.found(subscription))
                }),
            })
            .collect();
        if rules != self.reported {
            self.unsaid.extend(report::messages(rules.clone()));
            self.reported = rules;
        }
        if self.pending.is_none() {
            self.told = states;
        }
    }

    async fn end(mut self) {
        let all: Vec<u32> = self.on.keys().copied().collect();
        self.turn_off(&all).await;
    }
}

/// The set's rules in the order of their numbers.
fn sorted(set: &RuleSet) -> Vec<Rule> {
    let mut rules = set.rules.clone();
    rules.sort_by_key(|rule| rule.id);
    rules
}

fn reports() -> Interval {
    let mut reports = interval(REPORT_EVERY);
    reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
    reports
}

async fn deadline(pending: Option<(u64, Instant)>) {
    match pending {
        Some((_, deadline)) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
