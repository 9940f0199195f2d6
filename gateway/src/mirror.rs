//! The gateway's half of the mirror: sessions' rules become what taps copy, and what taps copy becomes streams of the sessions' links.
//!
//! ```text
//! rules    control ─ rules ─┬─ check ─ nearest                      what becomes of each
//!                           ├─ targets ─ cluster                    which replicas there are
//!                           │     └─ tap ─ supervise ─ tap_process   one tap a replica, for all sessions
//!                           └─ report                               what the session is told
//! copies   the tap ─ reader ─ fanout ─ feed (queue, budget, pace) ─ writer ─ the link
//! ```
//! 1. `reader` takes what the tap wrote, whatever the sessions do: nothing behind it may wait.
//! 2. `fanout` knows the tap's flows and, for each, the sessions that want it.
//! 3. `feed` puts a frame into the flow's `queue`, or counts it as lost: for want of room (`budget`) or for the rule's rate (`pace`).
//! 4. `writer` is the flow's task: it opens a stream and writes as fast as the link takes it.
//!
//! Nothing is passed over silently: `counts` has it by rule, replica and reason.
//! Before: [`crate::tap`]; after: `tunnel::mirror`.

use std::{collections::BTreeMap, sync::Arc};

use link::{control::ToSession, rules::RuleSet};
use tokio::{sync::mpsc, task::spawn_blocking};

pub(crate) use self::check::broken;
pub use self::tap_process::{RunningTap, StartTap, TapProgram};
use self::targets::Targets;
use crate::{
    cluster::{Provider, Replicas},
    metrics::Metrics,
    session::Session,
};

mod budget;
mod check;
mod counts;
mod fanout;
mod feed;
mod nearest;
mod pace;
mod permission;
mod queue;
mod reader;
mod report;
mod rules;
mod subscription;
mod supervise;
mod tap;
mod tap_process;
mod targets;
mod wanted;
mod writer;

/// What control and a session's rules say to each other. Sets wait here while one is put in force, and then control reads no more;
/// messages wait for the stream to take them.
const WAITING: usize = 4;

/// What all sessions share.
#[derive(Debug)]
pub(crate) struct Mirror {
    provider: Arc<dyn Provider>,
    targets: Arc<Targets>,
}

/// Control's end of a session's rules.
pub(crate) struct Lines {
    pub(crate) sets: mpsc::Sender<RuleSet>,
    pub(crate) says: mpsc::Receiver<ToSession>,
}

impl Mirror {
    pub(crate) fn new(provider: Arc<dyn Provider>, start: Arc<dyn StartTap>, metrics: Arc<Metrics>) -> Self {
        Self { provider, targets: Arc::new(Targets::new(start, metrics)) }
    }

    /// Follows the mirrored targets until [`Self::end`].
    pub(crate) async fn watch(self: Arc<Self>) {
        Arc::clone(&self.targets).watch(Arc::clone(&self.provider)).await;
    }

    /// Ends all taps.
    pub(crate) async fn end(&self) {
        self.targets.end().await;
    }

    /// Serves a session's rules until it is over.
    pub(crate) fn serve(self: &Arc<Self>, session: &Arc<Session>) -> Lines {
        let (sets, to_rules) = mpsc::channel(WAITING);
        let (to_control, says) = mpsc::channel(WAITING);
        session.tasks.spawn(rules::serve(Arc::clone(self), Arc::clone(session), to_rules, to_control));
        Lines { sets, says }
    }

    /// The replicas of those of these targets that exist.
    async fn look(&self, mut names: Vec<String>) -> BTreeMap<String, Replicas> {
        names.sort_unstable();
        names.dedup();
        let provider = Arc::clone(&self.provider);
        let looks = spawn_blocking(move || targets::look_at(provider.as_ref(), &names)).await;
        looks.unwrap_or_default().into_iter().collect()
    }
}
