//! The link to the gateway as the session sees it: there, or being made again.
//!
//! 1. [`GatewayLink::connect`] makes the first link, so that a wrong address or identity is told at once.
//! 2. [`GatewayLink::keep`] waits for its end, or until the gateway says that it drains, and makes the next, with a backoff, until the
//!    session ends.
//! 3. [`control_stream`] hears the gateway and tells it the rules of the mirror while a link lives.
//! 4. [`LinkWatch`] is what the data plane holds: the link of the moment, or a short wait for one.
//!
//! Flows belong to a link: when it ends they are reset, and new ones go on the next. A link that drains lives on beside the next one until
//! the gateway ends it. Before: [`crate::session`]; after: [`attempt`],
//! which makes one link, and [`link::dial`].

mod attempt;
mod control_stream;
mod explain;
mod flapping;
mod watch;

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::pending,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use certs::Identity;
use link::{
    carrier::CarrierChoice,
    dial::Link,
    error_code::CloseCode,
    printable::printable,
    version::{self, VERSION},
};
use tokio::{
    sync::watch as shared,
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::watch::{LinkWatch, Welcomed};
use self::{attempt::Attempt, flapping::Flapping};
use crate::{
    control::status::{SessionStatus, State},
    session_options::{GatewayAddress, SessionError},
};

/// The first pause before another try; it doubles up to the next constant.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// A gateway that comes back is found within a second.
const BACKOFF_MOST: Duration = Duration::from_millis(800);
/// After this long without a link, somebody sleeps or travels: tries cost battery.
const OUTAGE_LONG: Duration = Duration::from_secs(120);
/// The pause in a long outage, or after a refusal that only a person can mend.
const BACKOFF_LONG: Duration = Duration::from_secs(5);

/// Links that drain beside the one of the moment. More at once are no restart but a gateway that misbehaves: the oldest is closed.
const DRAINING_LINKS: usize = 4;

/// Characters of a gateway's words that a person is shown.
const WORDS_CHARS: usize = 256;

/// What the gateway is told when the session ends.
const LEAVING: &str = "the session ends";

/// Makes links to one gateway, one at a time.
pub struct GatewayLink {
    attempt: Attempt,
    status: Arc<SessionStatus>,
    current: shared::Sender<Option<Welcomed>>,
}

impl GatewayLink {
    /// A link to be: nothing is sent yet.
    ///
    /// # Errors
    /// [`SessionError::Identity`] when the identity does not make a TLS configuration.
    pub fn new(
        gateway: GatewayAddress,
        identity: &Identity,
        mark: Option<u32>,
        choice: CarrierChoice,
        tasks: TaskTracker,
        status: Arc<SessionStatus>,
    ) -> Result<Self, certs::TlsError> {
        let tls = Arc::new(certs::client_config(identity, &[version::ALPN])?);
        let ends = identity.not_after().duration_since(UNIX_EPOCH).ok();
        status.update(|summary| summary.link.identity_ends_unix = ends.map(|ends| ends.as_secs()));
        let attempt = Attempt { gateway, tls, mark, choice, tasks, status: Arc::clone(&status) };
        Ok(Self { attempt, status, current: shared::Sender::new(None) })
    }

    /// What flows watch.
    pub fn watch(&self) -> LinkWatch {
        LinkWatch(self.current.subscribe())
    }

    /// One attempt.
    ///
    /// # Errors
    /// [`SessionError`]: what a person can mend.
    pub async fn connect(&self) -> Result<Welcomed, SessionError> {
        let welcomed = self.attempt.connect().await?;
        self.publish(&welcomed);
        Ok(welcomed)
    }

    /// Keeps a link up until `stop`: waits for the end of this one, or until it drains, and makes another.
    pub async fn keep(self, mut welcomed: Welcomed, stop: CancellationToken) {
        let mut draining = VecDeque::new();
        let mut flapping = Flapping::default();
        loop {
            let up_since = Instant::now();
            tokio::select! {
                _ = welcomed.link.connection.closed() => {}
                () = welcomed.draining.cancelled() => {
                    self.status.enter(State::Reconnecting, Some("the gateway ends: looking for the next".to_owned()));
                }
                () = stop.cancelled() => break,
            }
            let pause = flapping.pause_after(up_since.elapsed());
            let next = tokio::select! {
                next = self.succeed(&welcomed.link, pause) => next,
                () = stop.cancelled() => break,
            };
            self.status.update(|summary| summary.link.reconnects += 1);
            let old = std::mem::replace(&mut welcomed, next);
            let surplus = keep_draining(&mut draining, old.link);
            if let Some(surplus) = surplus {
                surplus.connection.close(CloseCode::Done.wire(), b"too many links drain");
            }
        }
        for old in draining {
            old.connection.close(CloseCode::Done.wire(), LEAVING.as_bytes());
        }
        welcomed.link.close(CloseCode::Done, LEAVING).await;
    }

    /// Makes the link after `old`, which serves what it still can until it ends.
    async fn succeed(&self, old: &Link, pause: Duration) -> Welcomed {
        let gone = async {
            let reason = old.connection.closed().await;
            tracing::info!(%reason, "the link ended");
            self.current.send_replace(None);
            self.status.enter(State::Reconnecting, Some(printable(&reason.to_string(), WORDS_CHARS)));
            pending::<Infallible>().await
        };
        let next = async {
            sleep(pause).await;
            self.reconnect().await
        };
        // In this order: a link that is gone must not be taken for the next one's.
        tokio::select! {
            biased;
            never = gone => match never {},
            next = next => next,
        }
    }

    async fn reconnect(&self) -> Welcomed {
        let began = Instant::now();
        let mut pause = BACKOFF_FIRST;
        loop {
            let error = match self.connect().await {
                Ok(welcomed) => return welcomed,
                Err(error) => error,
            };
            tracing::debug!(%error, "no link yet");
            let hopeless = !matches!(error, SessionError::Unreachable { .. });
            self.status.enter(State::Reconnecting, Some(error.to_string()));
            let long = hopeless || began.elapsed() > OUTAGE_LONG;
            sleep(if long { BACKOFF_LONG } else { pause }).await;
            pause = (pause * 2).min(BACKOFF_MOST);
        }
    }

    fn publish(&self, welcomed: &Welcomed) {
        let Welcomed { link, welcome, gateway, .. } = welcomed;
        self.status.update(|summary| {
            summary.link.gateway = self.attempt.gateway.to_string();
            summary.link.address = Some(*gateway);
            summary.link.carrier = Some(link.carrier.to_string());
            summary.link.rtt_micros = u64::try_from(link.connection.rtt().as_micros()).ok();
            summary.link.identity.clone_from(&welcome.identity);
            summary.link.session = Some(welcome.session);
            summary.link.gateway_version = Some(welcome.program.clone());
            summary.link.protocol = version::negotiate(VERSION, welcome.version).ok().map(|both| both.to_string());
        });
        tracing::info!(session = welcome.session, carrier = %link.carrier, "link up");
        self.current.send_replace(Some(welcomed.clone()));
        self.status.enter(State::Connected, None);
    }
}

/// Takes in a link that drains, and forgets those that have ended; gives the oldest back when there are too many.
fn keep_draining(draining: &mut VecDeque<Link>, link: Link) -> Option<Link> {
    draining.retain(|link| link.connection.close_reason().is_none());
    if link.connection.close_reason().is_none() {
        draining.push_back(link);
    }
    if draining.len() > DRAINING_LINKS { draining.pop_front() } else { None }
}
