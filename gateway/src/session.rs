//! One session: who it is, what it may use, and the tasks that serve it, from its arrival to its end.
//!
//! ```text
//! serve ─ greet ─┬─ control::serve       says when the session leaves
//!                ├─ mirror               its rules, and a task for each flow that is mirrored
//!                ├─ streams::accept      a task for each stream, counted in `flows`
//!                ├─ datagrams::receive, receive_large
//!                └─ a task for each UDP flow and each large message
//! ```
//! It ends when the peer leaves or is lost, breaks the protocol, when no `[[allow]]` is for its identity any more, when its certificate
//! ends or is revoked (QUIC never looks again), or when the gateway drains and its flows are done. Before: [`crate::server`]; after:
//! [`crate::control`], [`crate::streams`], [`crate::datagrams`].

mod greet;

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use certs::PeerIdentity;
use link::{carrier::Carrier, error_code::CloseCode, listen::Arrived, splice::Budget};
use quinn::{Connection, VarInt};
use tokio::{sync::watch, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::greet::Greeted;
use crate::{
    audit::{Event, Who},
    control::{self, Control, REVOKED, Refusal},
    datagrams,
    limits::{Rate, Slot, Slots},
    metrics::{Arrival, Held},
    mirror::Lines,
    policy::Permissions,
    server::State,
    streams,
    udp::UdpFlows,
};

/// The identity is looked at this often: whether it was revoked, which costs a look at one file, and whether it has expired, so that a clock
/// that is set or a machine that slept matters little.
const IDENTITY_PERIOD: Duration = Duration::from_secs(2);
/// What ended before a drain is delivered after this and some round trips: twice QUIC's delay of acknowledgements.
const SETTLE: Duration = Duration::from_millis(50);
/// A DNS query and its answer are at most 128 KiB; half of a session's memory holds so many of them.
const DNS_QUERY_BYTES: usize = 128 << 10;
/// Echoes under way at once: a flood ping has a hundred.
const ECHOES: usize = 1_024;
/// Echoes in a second: above what pings at the least interval for a user (2 ms) make, and far below what would take the numbers
/// of the other sessions' echoes.
const ECHOES_PER_SECOND: u32 = 1_000;
/// Answers that are too large for a datagram under way at once, 4 MiB of them; more are dropped, as a full queue drops.
const LARGE_ANSWERS: usize = 64;

/// A session that was welcomed.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) state: Arc<State>,
    pub(crate) connection: Connection,
    /// Its number at this gateway, for both logs.
    pub(crate) number: u64,
    /// Whose session it is.
    pub(crate) peer: PeerIdentity,
    /// What its identity may do; whoever is to end with a permission subscribes. See [`crate::permit`].
    pub(crate) permissions: watch::Sender<Arc<Permissions>>,
    pub(crate) streams: Slots,
    pub(crate) pending_dials: Slots,
    pub(crate) dns: Slots,
    pub(crate) echoes: Slots,
    pub(crate) large_answers: Slots,
    pub(crate) udp: UdpFlows,
    /// What its TCP flows hold between stream and socket.
    pub(crate) held: Budget,
    /// Every task of the session except its flows.
    pub(crate) tasks: TaskTracker,
    /// The streams' tasks: a drain waits for these.
    pub(crate) flows: TaskTracker,
    /// Ends what does not end with the connection by itself.
    pub(crate) over: CancellationToken,
    pub(crate) dial_rate: Rate,
    pub(crate) echo_rate: Rate,
}

/// Serves one peer from its arrival to its end. `slot` is its place among the sessions, if there was one.
pub(crate) async fn serve(state: Arc<State>, arrived: Arrived, slot: Option<Slot>) {
    let Arrived { connection, carrier } = arrived;
    let greeted = match slot {
        Some(_) => greet::greet(&state, &connection).await,
        None => Err(Refusal::Busy),
    };
    let Greeted { number, peer, permissions, control, place: _place } = match greeted {
        Ok(greeted) => greeted,
        Err(refusal) => return greet::refuse(&state, &connection, carrier, &refusal),
    };
    let metrics = &state.metrics;
    metrics.arrivals.count(Arrival::Welcomed);
    let _held = Held::new(&metrics.sessions, &metrics.ended_sessions);
    tracing::info!(session = number, identity = %peer.name, %carrier, "session opened");
    tracing::debug!(session = number, peer = %connection.remote_address(), "peer");
    let session = Arc::new(Session::new(Arc::clone(&state), connection, number, peer, permissions));
    session.run(control, carrier).await;
}

impl Session {
    fn new(
        state: Arc<State>,
        connection: Connection,
        number: u64,
        peer: PeerIdentity,
        permissions: Permissions,
    ) -> Self {
        let limits = &state.limits;
        let memory = usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX);
        // The other half is what QUIC may hold unread.
        connection.set_receive_window(VarInt::from_u32(limits.memory_bytes / 2));
        Self {
            streams: Slots::new(limits.streams),
            pending_dials: Slots::new(limits.pending_dials),
            dns: Slots::new((memory / 2 / DNS_QUERY_BYTES).max(1)),
            echoes: Slots::new(ECHOES),
            large_answers: Slots::new(LARGE_ANSWERS),
            udp: UdpFlows::new(limits.udp_flows),
            held: Budget::new(memory / 4),
            tasks: TaskTracker::new(),
            flows: TaskTracker::new(),
            over: state.stop.child_token(),
            dial_rate: Rate::new(limits.dials_per_second, Instant::now()),
            echo_rate: Rate::new(ECHOES_PER_SECOND, Instant::now()),
            permissions: watch::Sender::new(Arc::new(permissions)),
            state,
            connection,
            number,
            peer,
        }
    }

    async fn run(self: Arc<Self>, control: Control, carrier: Carrier) {
        let opened = Instant::now();
        let (serial, carrier) = (self.peer.serial.clone(), carrier.to_string());
        let who = Who {
            session: self.number,
            identity: self.peer.name.as_str(),
            serial: &serial,
            peer: self.connection.remote_address(),
            carrier: &carrier,
        };
        self.state.audit.write(&Event::SessionOpened { who });
        self.tasks.spawn(streams::accept(Arc::clone(&self)));
        self.tasks.spawn(datagrams::receive(Arc::clone(&self)));
        self.tasks.spawn(datagrams::receive_large(Arc::clone(&self)));
        let mirror = self.state.mirror.serve(&self);
        let (code, reason) = self.until_over(control, mirror).await;
        // Of no effect if the peer closed first.
        self.connection.close(code.wire(), reason.as_bytes());
        self.over.cancel();
        for tracker in [&self.tasks, &self.flows] {
            tracker.close();
            tracker.wait().await;
        }
        let seconds = opened.elapsed().as_secs();
        let stats = self.connection.stats();
        let (sent, received) = (stats.udp_tx.bytes, stats.udp_rx.bytes);
        tracing::info!(session = self.number, identity = %self.peer.name, %carrier, seconds, sent, received, %reason, "session closed");
        self.state.audit.end_session(self.number);
        let (sent_bytes, received_bytes, reason) = (sent, received, &reason);
        self.state.audit.write(&Event::SessionClosed { who, seconds, sent_bytes, received_bytes, reason });
    }

    async fn until_over(&self, control: Control, mirror: Lines) -> (CloseCode, Cow<'static, str>) {
        let (code, reason) = tokio::select! {
            left = control::serve(control, mirror, self.state.draining.clone()) => left,
            error = self.connection.closed() => {
                tracing::debug!(session = self.number, %error, "link closed");
                (CloseCode::Done, "the link ended")
            }
            refused = self.follow_policy() => return (CloseCode::Forbidden, refused.to_string().into()),
            end = self.identity_end() => end,
            () = self.drained() => (CloseCode::Draining, "the gateway ends"),
            () = self.state.stop.cancelled() => (CloseCode::Draining, "the gateway ends"),
        };
        (code, reason.into())
    }

    /// Resolves once the gateway drains and no flow of this session is left.
    async fn drained(&self) {
        self.state.draining.cancelled().await;
        // The last bytes of flows that ended just before.
        sleep(SETTLE + 6 * self.connection.rtt()).await;
        self.flows.close();
        self.flows.wait().await;
    }

    /// Resolves when the identity is believed no more.
    async fn identity_end(&self) -> (CloseCode, &'static str) {
        loop {
            if self.state.is_revoked(&self.peer) {
                return (CloseCode::Forbidden, REVOKED);
            }
            let Ok(left) = self.peer.not_after.duration_since(SystemTime::now()) else {
                return (CloseCode::Expired, "the identity has expired: ask for a new one");
            };
            // A moment beyond, or a remainder of nothing would be slept again and again.
            sleep(left.min(IDENTITY_PERIOD) + Duration::from_millis(1)).await;
        }
    }
}
