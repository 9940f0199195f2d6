//! UDP flows, host to cluster and back: one connected socket a flow, made by its first datagram.
//!
//! 1. [`send`] finds or makes the flow's socket and sends; what cannot be sent is dropped and counted, or answered as unreachable.
//! 2. One task a flow, [`receive`], brings back what the peer sends and what ICMP says.
//! 3. A flow ends when it was idle, when a new one needs its place and it was idle the longest, or when its peer may no longer be reached.
//!
//! Before and after, towards the session: [`crate::datagrams`]. The session's side: `tunnel::outbound::udp`.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use link::datagram::{Datagram, Unreachable};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    connected_udp::ConnectedUdp,
    datagrams, errno,
    limits::Slot,
    metrics::{Dropped, Held},
    policy::Destination,
    scratch,
    session::Session,
};

/// A flow of a few datagrams, such as one question and one answer, ends after this long without any.
const SHORT_IDLE: Duration = Duration::from_secs(30);
/// One of more than that is a conversation and may pause. Both as connection tracking has them (`nf_conntrack_udp_timeout`, `_stream`).
const LONG_IDLE: Duration = Duration::from_secs(180);
/// Datagrams, both ways, that make a conversation.
const CONVERSATION: u32 = 4;
/// Datagrams taken from a socket before others have their turn.
const AT_ONCE: usize = 32;

/// The UDP flows of a session.
#[derive(Debug)]
pub(crate) struct UdpFlows {
    flows: Mutex<HashMap<u32, Arc<UdpFlow>>>,
    most: usize,
}

#[derive(Debug)]
struct UdpFlow {
    to: SocketAddr,
    socket: ConnectedUdp,
    datagrams: AtomicU32,
    last_used: Mutex<Instant>,
    /// Ends the receiving task: the flow gave its place to another.
    ended: CancellationToken,
    _descriptor: Slot,
}

impl UdpFlows {
    pub(crate) fn new(most: usize) -> Self {
        Self { flows: Mutex::default(), most }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<u32, Arc<UdpFlow>>> {
        // Nothing in the critical sections can panic half-way through a change.
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a flow in; the one that was idle the longest makes room if there is none.
    fn insert(&self, number: u32, flow: &Arc<UdpFlow>) {
        let mut table = self.table();
        if table.len() >= self.most {
            let longest_idle = table.iter().min_by_key(|(_, flow)| flow.last_used()).map(|(number, _)| *number);
            if let Some(evicted) = longest_idle.and_then(|number| table.remove(&number)) {
                evicted.ended.cancel();
            }
        }
        if let Some(replaced) = table.insert(number, Arc::clone(flow)) {
            replaced.ended.cancel();
        }
    }

    /// Takes `flow` out, unless another one has its number by now.
    fn remove(&self, number: u32, flow: &Arc<UdpFlow>) {
        let mut table = self.table();
        if table.get(&number).is_some_and(|current| Arc::ptr_eq(current, flow)) {
            table.remove(&number);
        }
        if table.capacity() > 4 * table.len().max(64) {
            table.shrink_to_fit();
        }
    }
}

impl UdpFlow {
    fn last_used(&self) -> Instant {
        *self.last_used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touch(&self) {
        self.datagrams.fetch_add(1, Ordering::Relaxed);
        *self.last_used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn idle_at(&self) -> Instant {
        let is_conversation = self.datagrams.load(Ordering::Relaxed) >= CONVERSATION;
        self.last_used() + if is_conversation { LONG_IDLE } else { SHORT_IDLE }
    }
}

/// Sends one datagram of flow `number` to the cluster.
pub(crate) fn send(session: &Arc<Session>, number: u32, to: SocketAddr, payload: &[u8]) {
    let metrics = &session.state.metrics;
    let Some(Destination::Udp(to)) = session.permit(Destination::Udp(to)) else {
        metrics.dropped.count(Dropped::Prohibited);
        return tell_unreachable(session, number, Unreachable::Prohibited);
    };
    let known = session.udp.table().get(&number).filter(|flow| flow.to == to).cloned();
    let flow = match known.map_or_else(|| open(session, number, to), Ok) {
        Ok(flow) => flow,
        Err(Unopened::NoDescriptor) => return metrics.dropped.count(Dropped::NoDescriptor),
        Err(Unopened::Refused(error)) => return refused(session, number, &error),
    };
    flow.touch();
    match flow.socket.send(payload) {
        Ok(()) => drop(metrics.datagrams_to_cluster.inc()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => metrics.dropped.count(Dropped::Blocked),
        Err(error) => refused(session, number, &error),
    }
}

/// A flow without a socket.
enum Unopened {
    /// There is no descriptor for it.
    NoDescriptor,
    /// The kernel has something against the address.
    Refused(io::Error),
}

fn open(session: &Arc<Session>, number: u32, to: SocketAddr) -> Result<Arc<UdpFlow>, Unopened> {
    let descriptors = &session.state.descriptors;
    // A session at its limit gives up an old flow for the new one, whose descriptor is free only a moment later.
    let descriptor = descriptors.claim().ok_or(Unopened::NoDescriptor)?;
    let socket = ConnectedUdp::connect(to).map_err(|error| {
        if errno::is_out_of_descriptors(&error) {
            descriptors.ran_out();
            return Unopened::NoDescriptor;
        }
        Unopened::Refused(error)
    })?;
    let flow = Arc::new(UdpFlow {
        to,
        socket,
        datagrams: AtomicU32::new(0),
        last_used: Mutex::new(Instant::now()),
        ended: session.over.child_token(),
        _descriptor: descriptor,
    });
    session.udp.insert(number, &flow);
    session.tasks.spawn(receive(Arc::clone(session), number, Arc::clone(&flow)));
    Ok(flow)
}

/// The kernel or ICMP said why a datagram does not arrive.
fn refused(session: &Session, number: u32, error: &io::Error) {
    session.state.metrics.dropped.count(Dropped::Refused);
    if let Some(why) = errno::unreachable(error) {
        tell_unreachable(session, number, why);
    }
}

fn tell_unreachable(session: &Session, number: u32, why: Unreachable) {
    let mut message = Vec::with_capacity(8);
    Datagram::UdpUnreachable { flow: number, why }.encode(&mut message);
    datagrams::send_small(session, message);
}

/// Brings back what the peer sends, until the flow is idle, evicted, or its session over.
async fn receive(session: Arc<Session>, number: u32, flow: Arc<UdpFlow>) {
    let metrics = &session.state.metrics;
    let _held = Held::new(&metrics.udp_flows, &metrics.ended_flows);
    let idle = sleep_until(flow.idle_at());
    let revoked = session.revoked(Destination::Udp(flow.to));
    tokio::pin!(idle, revoked);
    loop {
        tokio::select! {
            arrival = flow.socket.arrival() => match arrival {
                Ok(()) => bring_back(&session, number, &flow).await,
                Err(_) => break,
            },
            // The timer is only set again when it fires, not by each datagram.
            () = &mut idle => {
                let idle_at = flow.idle_at();
                if idle_at <= Instant::now() {
                    break;
                }
                idle.as_mut().reset(idle_at);
            }
            () = flow.ended.cancelled() => break,
            () = &mut revoked => {
                tell_unreachable(&session, number, Unreachable::Prohibited);
                break;
            }
        }
    }
    session.udp.remove(number, &flow);
}

async fn bring_back(session: &Arc<Session>, number: u32, flow: &UdpFlow) {
    for _ in 0..AT_ONCE {
        // The permission may have gone while the link was busy; who waits for its end is not asked in here.
        if !session.still_permits(Destination::Udp(flow.to)) {
            return;
        }
        let received: io::Result<_> = scratch::with(|scratch| {
            let len = flow.socket.receive(scratch)?;
            let mut message = Vec::with_capacity(len + 8);
            Datagram::UdpIn { flow: number, payload: &scratch[..len] }.encode(&mut message);
            Ok(message)
        });
        match received {
            Ok(message) => {
                flow.touch();
                session.state.metrics.datagrams_to_session.inc();
                // Waits while the link is busy: the socket's own buffer is the flow's queue, and drops when it is full.
                datagrams::send(session, message).await;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => refused(session, number, &error),
        }
    }
    tokio::task::yield_now().await;
}
