//! Who arrives, and whether it gets a session. Before: [`super::serve`]; after: [`crate::control`], which hears the hello.

use std::time::SystemTime;

use certs::{IdentityName, PeerIdentity, peer_identity};
use link::{carrier::Carrier, control::Welcome, version::VERSION};
use quinn::Connection;
use rustls::pki_types::CertificateDer;

use crate::{
    control::{self, Control, Refusal},
    limits::KeySlot,
    metrics::Arrival,
    policy::Permissions,
    server::State,
};

/// Tells a peer why it gets no session.
pub(super) fn refuse(state: &State, connection: &Connection, carrier: Carrier, refusal: &Refusal) {
    state.metrics.arrivals.count(arrival(refusal));
    let peer = connection.remote_address();
    if let Refusal::Policy(identity, refused) = refusal {
        state.audit.refused(None, identity, refused.clone());
    }
    match refusal {
        // Every race between carriers has a loser.
        Refusal::Left => tracing::debug!(%peer, %carrier, "left without a hello"),
        Refusal::Busy
        | Refusal::IdentityBusy { .. }
        | Refusal::Forbidden
        | Refusal::Policy(..)
        | Refusal::Expired
        | Refusal::Revoked
        | Refusal::Version(_)
        | Refusal::Protocol(_) => {
            tracing::info!(%carrier, %refusal, "session refused");
        }
    }
    connection.close(refusal.code().wire(), refusal.to_string().as_bytes());
}

const fn arrival(refusal: &Refusal) -> Arrival {
    match refusal {
        Refusal::Left => Arrival::Left,
        Refusal::Busy => Arrival::Busy,
        Refusal::IdentityBusy { .. } => Arrival::IdentityBusy,
        Refusal::Forbidden | Refusal::Policy(..) | Refusal::Expired | Refusal::Revoked => Arrival::Forbidden,
        Refusal::Version(_) => Arrival::Version,
        Refusal::Protocol(_) => Arrival::Protocol,
    }
}

/// A peer that may have a session and speaks our language.
pub(super) struct Greeted {
    pub(super) number: u64,
    pub(super) peer: PeerIdentity,
    pub(super) permissions: Permissions,
    pub(super) control: Control,
    /// Its place among the sessions of its identity.
    pub(super) place: KeySlot<IdentityName>,
}

/// Makes sure who the peer is and that it may come in, and hears its hello.
pub(super) async fn greet(state: &State, connection: &Connection) -> Result<Greeted, Refusal> {
    let chain = connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let certificate = chain.as_ref().and_then(|chain| chain.first()).ok_or(Refusal::Forbidden)?;
    let peer = peer_identity(certificate).map_err(|_| Refusal::Forbidden)?;
    if peer.not_after <= SystemTime::now() {
        return Err(Refusal::Expired);
    }
    if state.is_revoked(&peer) {
        return Err(Refusal::Revoked);
    }
    let permissions = state.policy.borrow().for_identity(&peer.name);
    permissions.may_connect().map_err(|refused| Refusal::Policy(peer.name.clone(), refused))?;
    let mut admitted = None;
    // Behind the hello, which the loser of a race between carriers never says: it takes no place.
    let control = control::greet(connection, || {
        let most = state.limits.sessions_per_identity;
        let busy = || Refusal::IdentityBusy { name: peer.name.clone(), most };
        let place = state.identities.claim(&peer.name).ok_or_else(busy)?;
        let number = state.number_session();
        admitted = Some((number, place));
        Ok(welcome(state, &permissions, number))
    });
    let control = control.await?;
    let (number, place) = admitted.expect("who was welcomed was admitted");
    Ok(Greeted { number, peer, permissions, control, place })
}

fn welcome(state: &State, permissions: &Permissions, session: u64) -> Welcome {
    let network = state.provider.network();
    let may_ask_names = permissions.may_ask_names().is_ok();
    Welcome {
        version: VERSION,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        session,
        identity: permissions.identity().to_string(),
        routes: permissions.routes(&network.routes),
        domain: if may_ask_names { network.domain.clone() } else { String::new() },
        namespaces: if may_ask_names { network.namespaces.clone() } else { Vec::new() },
        never: state.never.clone(),
    }
}
