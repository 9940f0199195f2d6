//! The rules of a session: made by commands, sent whole to the gateway of the moment, and what the gateway says of them.
//!
//! Two threads share them: the one that answers commands changes them, the one that holds the link sends and hears of them. Each change
//! has a generation; a command waits until the gateway has said that it is in force. Rules live as long as the session: a link that
//! ends leaves them waiting, and the next one is told all of them.
//!
//! What flows count is in the [`LiveRule`]s, what the gateway counts in [`super::reports`].
//! Before: [`super::commands`]; after: [`crate::gateway_link`], which calls [`HostRules::link_up`] and its neighbours.

mod entry;
mod gateway;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use link::rules::MAX_RULES;
use tokio::sync::watch;

pub(super) use self::entry::is_same;
use self::entry::{Entry, selects};
use super::live_rule::LiveRule;
use crate::control::{
    mirror_message::{NewRule, RuleReply, Selector, Standing},
    mirror_status::RuleStatus,
};

/// What waits for the gateway.
const UNANSWERED: &str = "the gateway has not answered yet";
const NO_LINK: &str = "there is no link to the gateway: it is told as soon as there is one";

/// All rules of a session.
#[derive(Debug)]
pub struct HostRules {
    table: Mutex<Table>,
    /// The generation of the last change.
    changed: watch::Sender<u64>,
    /// Raised whenever the gateway has said something, or the link has changed.
    heard: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Table {
    generation: u64,
    /// The generation that is in force at the gateway of the moment.
    applied: u64,
    next_id: u32,
    /// Raised with every link, so that what a former one still says is not believed.
    epoch: u64,
    link: Gateway,
    rules: Vec<Entry>,
}

/// The gateway of the moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Gateway {
    #[default]
    Absent,
    Present,
    /// It knows nothing of mirroring; why, for a person.
    TooOld(String),
}

/// A link, as far as rules are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkNumber(u64);

impl Default for HostRules {
    fn default() -> Self {
        Self { table: Mutex::default(), changed: watch::Sender::new(0), heard: watch::Sender::new(0) }
    }
}

impl HostRules {
    /// Adds rules that were found to be in order; their numbers, and the generation to wait for. `None` when there would be too many.
    pub(super) fn add(&self, rules: Vec<NewRule>) -> Option<(Vec<u32>, u64)> {
        self.change(|table| {
            if table.rules.len() + rules.len() > MAX_RULES {
                return None;
            }
            let standing = table.link.standing();
            let ids = rules.into_iter().map(|rule| {
                table.next_id += 1;
                let live = Arc::new(LiveRule::new(table.next_id, rule));
                table.rules.push(Entry::new(live, standing.clone()));
                table.next_id
            });
            Some(ids.collect())
        })
    }

    /// Switches rules; their numbers, and the generation to wait for. What is off passes nothing on from here on.
    pub(super) fn switch(&self, on: bool, which: &Selector) -> (Vec<u32>, u64) {
        let switched = self.change(|table| {
            let standing = if on { table.link.standing() } else { Standing::Off };
            let mut ids = Vec::new();
            for entry in table.rules.iter_mut().filter(|entry| selects(which, &entry.live.spec)) {
                ids.push(entry.live.id);
                if entry.live.is_on() != on {
                    entry.live.switch(on);
                    entry.standing = standing.clone();
                    entry.reports.switch(on);
                }
            }
            Some(ids)
        });
        switched.unwrap_or_default()
    }

    /// Takes rules away; what they were, and the generation to wait for.
    pub(super) fn remove(&self, which: impl Fn(&LiveRule) -> bool) -> (Vec<RuleReply>, u64) {
        let removed = self.change(|table| {
            let gone: Vec<_> = table.rules.extract_if(.., |entry| which(&entry.live)).collect();
            Some(gone.into_iter().map(|entry| entry.remove()).collect())
        });
        removed.unwrap_or_default()
    }

    /// As [`Self::remove`], by what a command names.
    pub(super) fn remove_selected(&self, which: &Selector) -> (Vec<RuleReply>, u64) {
        self.remove(|rule| selects(which, &rule.spec))
    }

    /// How these rules stand.
    pub(super) fn replies(&self, ids: &[u32]) -> Vec<RuleReply> {
        let table = self.lock();
        ids.iter().filter_map(|id| table.rules.iter().find(|entry| entry.live.id == *id)).map(Entry::reply).collect()
    }

    /// Resolves when the gateway has put a generation in force, or cannot be asked to.
    pub(super) async fn settled(&self, generation: u64) {
        let mut heard = self.heard.subscribe();
        // The sender lives as long as the session.
        let _ = heard.wait_for(|_| self.lock().is_settled(generation)).await;
    }

    /// Resolves when each of these rules that is on is copied at every replica, or cannot be.
    pub(super) async fn at_work(&self, ids: &[u32]) {
        let mut heard = self.heard.subscribe();
        let are_at_work =
            |table: &Table| table.rules.iter().filter(|entry| ids.contains(&entry.live.id)).all(Entry::is_at_work);
        let _ = heard.wait_for(|_| are_at_work(&self.lock())).await;
    }

    /// Whether there is a rule like this one already.
    pub(super) fn has(&self, rule: &NewRule) -> bool {
        self.lock().rules.iter().any(|entry| is_same(&entry.live.spec, rule))
    }

    /// The rule of a flow.
    pub(super) fn live(&self, id: u32) -> Option<Arc<LiveRule>> {
        self.lock().rules.iter().find(|entry| entry.live.id == id).map(|entry| Arc::clone(&entry.live))
    }

    /// The rules' part of the session's status.
    pub fn statuses(&self) -> Vec<RuleStatus> {
        self.lock().rules.iter().map(Entry::status).collect()
    }

    /// Changes the table; a generation begins unless `change` finds nothing to change.
    fn change<T>(&self, change: impl FnOnce(&mut Table) -> Option<T>) -> Option<(T, u64)> {
        let mut table = self.lock();
        let changed = change(&mut table)?;
        table.generation += 1;
        let generation = table.generation;
        drop(table);
        self.changed.send_replace(generation);
        Some((changed, generation))
    }

    fn tell(&self) {
        self.heard.send_modify(|heard| *heard += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn is_settled(&self, generation: u64) -> bool {
        self.link != Gateway::Present || self.applied >= generation
    }

    /// The gateway has changed: nothing that it said before holds.
    fn all_stand(&mut self) {
        let standing = self.link.standing();
        for entry in self.rules.iter_mut().filter(|entry| entry.live.is_on()) {
            entry.standing = standing.clone();
        }
    }
}

impl Gateway {
    /// How a rule stands that it has not been told of.
    fn standing(&self) -> Standing {
        match self {
            Self::Absent => Standing::Waiting { reason: NO_LINK.to_owned() },
            Self::Present => Standing::Waiting { reason: UNANSWERED.to_owned() },
            Self::TooOld(reason) => Standing::Failed { reason: reason.clone() },
        }
    }
}

#[cfg(test)]
mod tests;
