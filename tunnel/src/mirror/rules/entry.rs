//! One rule as the table of [`super::HostRules`] holds it, and what is said of it.

use std::sync::Arc;

use link::rules::Rule;

use crate::{
    control::{
        mirror_message::{Existing, NewRule, RuleReply, Selector, Standing},
        mirror_status::RuleStatus,
    },
    mirror::{live_rule::LiveRule, reports::Reports},
};

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) live: Arc<LiveRule>,
    pub(super) standing: Standing,
    pub(super) reports: Reports,
}

impl Entry {
    pub(super) fn new(live: Arc<LiveRule>, standing: Standing) -> Self {
        Self { live, standing, reports: Reports::default() }
    }

    pub(super) fn stand(&mut self, standing: Standing, now: u64) {
        if matches!(standing, Standing::On | Standing::NoReplica) {
            self.reports.find_gateway(now);
        }
        self.standing = standing;
    }

    /// Whether there is nothing to wait for: all its replicas are copied, or it is known why not.
    pub(super) fn is_at_work(&self) -> bool {
        self.standing != Standing::On || self.reports.are_settled()
    }

    pub(super) fn reply(&self) -> RuleReply {
        RuleReply {
            id: Some(self.live.id),
            rule: self.live.spec.clone(),
            standing: self.standing.clone(),
            nobody_listens: self.reports.nobody_listens(),
        }
    }

    pub(super) fn remove(self) -> RuleReply {
        self.live.switch(false);
        self.live.printers.clear();
        RuleReply { standing: Standing::Removed, ..self.reply() }
    }

    /// As the gateway is told.
    pub(super) fn wire(&self) -> Rule {
        let spec = &self.live.spec;
        Rule {
            id: self.live.id,
            target: spec.target.clone(),
            port: spec.port,
            protocol: spec.protocol,
            replica: spec.replica.clone(),
            sample: spec.sample,
            max_rate: spec.max_rate,
            skip_existing: spec.existing == Existing::Skip,
        }
    }

    pub(super) fn status(&self) -> RuleStatus {
        RuleStatus {
            id: self.live.id,
            rule: self.live.spec.clone(),
            on: self.live.is_on(),
            standing: self.standing.clone(),
            replicas: self.reports.replicas(),
            delivery: self.live.delivery(),
            listener_state: self.live.listener_state(),
            notices: self.live.notices(),
            holes: self.reports.holes(),
        }
    }
}

/// Whether two rules are for the same port of the same target.
pub(in crate::mirror) fn is_same(one: &NewRule, other: &NewRule) -> bool {
    (&one.target, one.port, one.protocol) == (&other.target, other.port, other.protocol)
}

/// Whether a command means this rule.
pub(super) fn selects(which: &Selector, rule: &NewRule) -> bool {
    match which {
        Selector::All => true,
        Selector::Port { port } => rule.port == *port,
        Selector::Target { target, port } => {
            let is_it = rule.target == *target
                || rule.target.strip_suffix(target.as_str()).is_some_and(|rest| rest.ends_with('/'));
            is_it && port.is_none_or(|port| rule.port == port)
        }
    }
}
