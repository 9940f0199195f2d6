//! What [`HostRules`] are told by the link: that there is one, what its gateway has put in force, what it has copied, and that it is gone.
//! Before: [`crate::gateway_link`]; after: [`super`], whose waiting commands are told.

use link::rules::{MirrorReport, RuleOutcome, RuleSet};
use tokio::sync::watch;

use super::{Entry, Gateway, HostRules, LinkNumber};
use crate::control::status::unix_now;

impl HostRules {
    /// A link was made; `too_old` says why its gateway knows nothing of rules.
    pub fn link_up(&self, too_old: Option<String>) -> LinkNumber {
        let number = {
            let mut table = self.lock();
            table.epoch += 1;
            table.link = too_old.map_or(Gateway::Present, Gateway::TooOld);
            table.applied = 0;
            table.all_stand();
            LinkNumber(table.epoch)
        };
        self.tell();
        // A former link that only drains is to be told that it has no rules.
        self.changed.send_modify(|_| {});
        number
    }

    /// Whether this is the last link that was made.
    pub fn is_current(&self, link: LinkNumber) -> bool {
        self.lock().epoch == link.0
    }

    /// A link has ended.
    pub fn link_down(&self, link: LinkNumber) {
        let mut table = self.lock();
        if table.epoch != link.0 {
            return;
        }
        table.link = Gateway::Absent;
        table.all_stand();
        let now = unix_now();
        for entry in &mut table.rules {
            if entry.live.is_on() { entry.reports.lose_gateway(now) } else { entry.reports.end() }
        }
        drop(table);
        self.tell();
    }

    /// What the gateway is to be told: now, and whenever this changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// All rules that are on, as they are now.
    pub fn snapshot(&self) -> RuleSet {
        let table = self.lock();
        let on = table.rules.iter().filter(|entry| entry.live.is_on());
        RuleSet { generation: table.generation, rules: on.map(Entry::wire).collect() }
    }

    /// The gateway has put a set in force.
    pub fn applied(&self, link: LinkNumber, generation: u64, outcomes: &[RuleOutcome]) {
        let mut table = self.lock();
        if table.epoch != link.0 || table.generation != generation {
            return;
        }
        table.applied = generation;
        let now = unix_now();
        for outcome in outcomes {
            let entry = table.rules.iter_mut().find(|entry| entry.live.id == outcome.id && entry.live.is_on());
            if let Some(entry) = entry {
                entry.stand((&outcome.state).into(), now);
            }
        }
        // The last of what they copied was told before this.
        table.rules.iter_mut().filter(|entry| !entry.live.is_on()).for_each(|entry| entry.reports.end());
        drop(table);
        self.tell();
    }

    /// The gateway says what it has copied; of a rule that was switched off, the last.
    pub fn reported(&self, link: LinkNumber, report: MirrorReport) {
        let mut table = self.lock();
        if table.epoch != link.0 {
            return;
        }
        let now = unix_now();
        for rule in report.rules {
            let Some(entry) = table.rules.iter_mut().find(|entry| entry.live.id == rule.id) else { continue };
            if let Some(state) = rule.state.as_ref().filter(|_| entry.live.is_on()) {
                entry.stand(state.into(), now);
            }
            entry.reports.take(rule.replicas);
        }
        drop(table);
        self.tell();
    }
}
