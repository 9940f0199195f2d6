//! What the configuration allows of mirroring, as [`super::rules`] asks it, and what the audit is told. Who may do what is
//! [`crate::policy`]'s.

use std::sync::Arc;

use link::rules::Rule;
use tokio::sync::watch;

use super::{check::Permission, subscription::Subscription};
use crate::{
    audit::{self, Event},
    policy::Permissions,
    session::Session,
};

/// Tells when a session's permissions change.
pub(super) struct Changes(watch::Receiver<Arc<Permissions>>);

impl Changes {
    pub(super) fn of(session: &Session) -> Self {
        Self(session.permissions.subscribe())
    }

    /// Resolves with every change.
    pub(super) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // The sending end is the session's own.
            std::future::pending::<()>().await;
        }
    }
}

impl Permission for Session {
    fn may_mirror(&self, rule: &Rule) -> Result<(), String> {
        let asked = self.permissions.borrow().may_mirror(&rule.target, rule.port, rule.protocol);
        asked.map_err(|refused| {
            let reason = refused.to_string();
            self.note(refused);
            reason
        })
    }

    fn may_name(&self, target: &str) -> bool {
        self.permissions.borrow().may_name(target)
    }
}

/// Tells the audit that a rule begins or ends to copy.
pub(super) fn audit(session: &Session, subscription: &Subscription, is_on: bool) {
    let replicas: Vec<String> = subscription.parts().keys().cloned().collect();
    let rule = audit::Rule {
        session: session.number,
        identity: session.peer.name.as_str(),
        target: &subscription.rule.target,
        port: subscription.rule.port,
        protocol: subscription.rule.protocol,
        replicas: &replicas,
    };
    session.state.audit.write(&if is_on { Event::RuleOn { rule } } else { Event::RuleOff { rule } });
}
