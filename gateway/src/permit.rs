//! What a session may do as the configuration stands: asked before anything is dialed or sent, and waited for by what was begun.
//!
//! 1. [`Session::permit`] asks the routes ([`crate::reach`]) and the identity's permissions ([`crate::policy`]); a refusal is collected
//!    for the audit.
//! 2. [`Session::follow_policy`] takes over what a reload changed for this identity; if nothing did, nobody is woken.
//! 3. [`Session::revoked`] and [`Session::names_revoked`] then end what is no longer allowed, and nothing else.
//!
//! Used by [`crate::outbound`], [`crate::udp`], [`crate::echo`] and [`crate::dns`]; after: [`crate::audit`].

use std::{future::pending, sync::Arc};

use crate::{
    policy::{Destination, Permissions, Refused},
    session::Session,
};

impl Session {
    /// What this is in the form to dial, if the session may reach it.
    pub(crate) fn permit(&self, to: Destination) -> Option<Destination> {
        self.may_reach(to).map_err(|refused| self.note(refused)).ok()
    }

    /// Whether answers may still come from what was once permitted, and is here in the form to dial. Routes change by a restart only.
    pub(crate) fn still_permits(&self, to: Destination) -> bool {
        self.permissions.borrow().may_reach(&to).is_ok()
    }

    fn may_reach(&self, to: Destination) -> Result<Destination, Refused> {
        let to = to.at(self.state.reach.permit(to.ip()).ok_or(Refused::NoRoute(to))?);
        self.permissions.borrow().may_reach(&to).map(|()| to)
    }

    /// Whether the session may ask the cluster's nameserver.
    pub(crate) fn permit_names(&self) -> bool {
        let asked = self.permissions.borrow().may_ask_names();
        asked.map_err(|refused| self.note(refused)).is_ok()
    }

    /// Collects a refusal for the audit.
    pub(crate) fn note(&self, refused: Refused) {
        self.state.audit.refused(Some(self.number), &self.peer.name, refused);
    }

    /// Resolves when `to`, in the form to dial, may no longer be reached.
    pub(crate) async fn revoked(&self, to: Destination) {
        self.until(|permissions| permissions.may_reach(&to).is_err()).await;
    }

    /// Resolves when names may no longer be asked for.
    pub(crate) async fn names_revoked(&self) {
        self.until(|permissions| permissions.may_ask_names().is_err()).await;
    }

    async fn until(&self, is_over: impl Fn(&Permissions) -> bool) {
        let mut permissions = self.permissions.subscribe();
        if permissions.wait_for(|permissions| is_over(permissions)).await.is_err() {
            // The sending end is the session's own.
            pending::<()>().await;
        }
    }

    /// Takes over what the configuration says of this identity, whenever it was read again. Resolves when the identity may no longer
    /// have a session, with the reason.
    pub(crate) async fn follow_policy(&self) -> Refused {
        let mut policy = self.state.policy.subscribe();
        loop {
            let permissions = policy.borrow_and_update().for_identity(&self.peer.name);
            let may_connect = permissions.may_connect();
            self.permissions.send_if_modified(|current| {
                let is_other = **current != permissions;
                if is_other {
                    *current = Arc::new(permissions);
                }
                is_other
            });
            if let Err(refused) = may_connect {
                return refused;
            }
            if policy.changed().await.is_err() {
                // The gateway's state outlives its sessions.
                return pending().await;
            }
        }
    }
}
