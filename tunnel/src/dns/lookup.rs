//! [`Lookup`]: one name at the cluster's nameserver, through the cache, and once for all who ask the same at the same time.
//!
//! Before: `Resolver::answer`; after: `upstream`, then `encode`.
//!
//! 1. The cache answers, or
//! 2. somebody is asking the same: wait for that outcome (an asker that gives up hands on to one that waits), or
//! 3. ask, check identifier and question, keep the reply.
//! 4. A denial of the name is checked against the other address family before it is believed: musl takes "no such name" for one
//!    type as the end of the name, and some nameservers say it of AAAA where they mean "no such record".

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use rustc_hash::FxHashMap;
use tokio::{sync::watch, time::Instant};
use tracing::debug;

use super::{
    cache::{Cache, Dated, Key},
    counters::Counters,
    query::cluster_query,
    reply::Reply,
    upstream::{AskError, ClusterUpstream},
    wire::kind,
};

/// Nobody could say what the name is: to be answered by SERVFAIL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failed;

type Outcome = Result<Dated, Failed>;

/// The cluster's side of a resolver.
#[derive(Debug)]
pub(super) struct Lookup<C> {
    upstream: C,
    counters: Arc<Counters>,
    cache: Mutex<Cache>,
    /// Who asks what. Bounded by the resolver's limit of queries for the cluster, since each entry is held by one of them.
    asking: Mutex<FxHashMap<Key, watch::Receiver<Option<Outcome>>>>,
    /// Counts the clusters, so that a reply of the last one is not kept for the next.
    epoch: AtomicU64,
}

impl<C: ClusterUpstream> Lookup<C> {
    pub(super) fn new(upstream: C, counters: Arc<Counters>) -> Self {
        Self { upstream, counters, cache: Mutex::default(), asking: Mutex::default(), epoch: AtomicU64::new(0) }
    }

    pub(super) const fn upstream(&self) -> &C {
        &self.upstream
    }

    /// Forgets all replies, also those that are on their way.
    pub(super) fn forget(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        locked(&self.cache).clear();
    }

    pub(super) fn kept(&self) -> usize {
        locked(&self.cache).len()
    }

    /// The reply for the key; a denial only when the other address family is denied too.
    pub(super) async fn find(&self, key: Key) -> Outcome {
        let found = self.find_as_told(&key).await?;
        if !found.reply.denies_the_name() {
            return Ok(found);
        }
        let other = Key { kind: if key.kind == kind::A { kind::AAAA } else { kind::A }, ..key };
        match self.find_as_told(&other).await {
            Ok(exists) if !exists.reply.denies_the_name() => {
                Ok(Dated { reply: Arc::new(Reply::clone(&found.reply).without_data()), ..found })
            }
            Ok(_) | Err(Failed) => Ok(found),
        }
    }

    async fn find_as_told(&self, key: &Key) -> Outcome {
        loop {
            if let Some(found) = locked(&self.cache).find(key, Instant::now()) {
                self.counters.cached.add();
                return Ok(found);
            }
            match self.turn(key) {
                Turn::Ask(leader) => {
                    let outcome = self.ask(key).await;
                    leader.finish(outcome.clone());
                    return outcome;
                }
                Turn::Wait(mut outcome) => {
                    let told = outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
                    if let Some(outcome) = told {
                        self.counters.merged.add();
                        return outcome;
                    }
                }
            }
        }
    }

    fn turn(&self, key: &Key) -> Turn<'_> {
        let mut asking = locked(&self.asking);
        if let Some(outcome) = asking.get(key) {
            return Turn::Wait(outcome.clone());
        }
        let (sender, receiver) = watch::channel(None);
        asking.insert(key.clone(), receiver);
        Turn::Ask(Leader { asking: &self.asking, key: key.clone(), sender })
    }

    async fn ask(&self, key: &Key) -> Outcome {
        let epoch = self.epoch.load(Ordering::Acquire);
        let (id, question) = (rand::random(), key.question());
        self.counters.asked_cluster.add();
        let query = cluster_query(id, &question, key.dnssec_ok, key.checking_disabled);
        let answer = self.upstream.ask(query).await;
        let reply = answer.and_then(|answer| Reply::read(&answer, id, &question).map_err(|_| AskError::Malformed));
        let reply = reply.map_err(|error| {
            debug!(%error, name = %question.name, "the cluster's nameserver gave no answer");
            Failed
        })?;
        let dated = Dated { reply: Arc::new(reply), arrived: Instant::now() };
        if let Some(lifetime) = dated.reply.lifetime() {
            let mut cache = locked(&self.cache);
            // Under the cache's lock, as `forget` clears it: no reply slips in between.
            if self.epoch.load(Ordering::Acquire) == epoch {
                cache.keep(key.clone(), dated.clone(), lifetime);
            }
        }
        Ok(dated)
    }
}

enum Turn<'a> {
    Ask(Leader<'a>),
    Wait(watch::Receiver<Option<Outcome>>),
}

/// Asks for all who want the same. Dropped unfinished, it lets one of those who wait take over.
struct Leader<'a> {
    asking: &'a Mutex<FxHashMap<Key, watch::Receiver<Option<Outcome>>>>,
    key: Key,
    sender: watch::Sender<Option<Outcome>>,
}

impl Leader<'_> {
    fn finish(self, outcome: Outcome) {
        self.sender.send_replace(Some(outcome));
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        locked(self.asking).remove(&self.key);
    }
}

/// No code panics while it holds one of these locks, and their content is whole after each statement.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
