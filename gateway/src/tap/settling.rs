//! [`Settling`]: after a loss, asks the kernel what the target received, and tells the reassembly, which alone cannot know: sequence numbers
//! count modulo 4 GiB, and a connection that ended in the hole looks like one that is silent.
//!
//! 1. Ask, for the connections in doubt; each answer is of that moment.
//! 2. Wait until every frame of before that moment has been handled.
//! 3. Hand the answers in.
//!
//! Before: [`super::capture`]; after: [`netstack::reassembly`].

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use netstack::{moment::Moment, reassembly::Asked};

use super::{
    batch::Batch,
    clock,
    flows::Flows,
    protocol::ListeningPort,
    sockets::{Known, Sockets},
};

/// Connections that are asked for one by one, a millisecond's work. For more, all sockets of their ports are read: milliseconds, in which the
/// ring holds what comes.
const MAX_SINGLE: usize = 256;
/// Between two questions, and when the last was about something and led to nothing.
const PAUSE: Duration = Duration::from_millis(50);
const LONG_PAUSE: Duration = Duration::from_secs(5);

/// What is being asked.
#[derive(Debug, Default)]
pub(super) struct Settling {
    sockets: Option<Sockets>,
    question: Option<Question>,
    not_before: Moment,
}

/// How far the tap has got with the frames.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reached {
    /// When the last that was handled came: nanoseconds since 1970-01-01 UTC.
    pub(super) nanos: u64,
    /// Every frame of before this moment has been handled.
    pub(super) moment: Moment,
    /// There were no more at the last look.
    pub(super) none_left: bool,
}

impl Default for Reached {
    fn default() -> Self {
        Self { nanos: 0, moment: Moment::ORIGIN, none_left: true }
    }
}

#[derive(Debug)]
struct Question {
    asked: Asked,
    /// Nanoseconds since 1970-01-01 UTC, as frames have it.
    nanos: u64,
    answers: Vec<((SocketAddr, SocketAddr), Known)>,
}

impl Settling {
    fn may_ask(&self, flows: &Flows, now: Moment) -> bool {
        self.question.is_none() && now >= self.not_before && flows.tcp.is_unsettled()
    }

    /// Asks, if there is something to ask about.
    pub(super) fn ask(&mut self, flows: &mut Flows, interfaces: &[u32], now: Moment) {
        if !self.may_ask(flows, now) {
            return;
        }
        self.not_before = now + LONG_PAUSE;
        let unheard = self.unheard(&flows.ports.iter().collect::<Vec<_>>());
        let Some(sockets) = self.sockets() else { return };
        let asked = flows.tcp.ask(now);
        // Where nobody listens, packets are led to another port before they reach a socket: its sockets say nothing.
        let heard = |server: SocketAddr| !unheard.iter().any(|port| port.port == server.port());
        let doubtful: Vec<_> = flows.tcp.unsettled().filter(|(_, server)| heard(*server)).collect();
        if doubtful.is_empty() && flows.tcp.unsettled().next().is_none() {
            self.not_before = now + PAUSE;
            return;
        }
        let answers = answers(sockets, doubtful, interfaces);
        tracing::trace!(?answers, "the target's sockets were looked at");
        if !answers.is_empty() {
            self.question = Some(Question { asked, nanos: clock::unix_nanos(), answers });
        }
    }

    /// Hands the answers in, if every frame of before the question was handled.
    pub(super) fn settle(&mut self, flows: &mut Flows, reached: Reached, now: Moment, batch: &mut Batch<'_>) {
        let handled = |question: &mut Question| reached.none_left || reached.nanos > question.nanos;
        let Some(Question { asked, answers, .. }) = self.question.take_if(handled) else { return };
        let Flows { ports, tcp, .. } = flows;
        for (connection, known) in answers {
            let sink = &mut |id, event| Flows::tcp_event(ports, batch, id, event, reached.moment);
            match known {
                Known::Socket(received) => tcp.settle(connection, received, asked, reached.moment, sink),
                Known::NoSocket => tcp.gone(connection, asked, reached.moment, sink),
                Known::Nothing => {}
            }
        }
        self.not_before = now + PAUSE;
    }

    /// When there is something to do although no frame came.
    pub(super) fn poll_at(&self, flows: &Flows) -> Option<Moment> {
        if self.question.is_some() { Some(Moment::ORIGIN) } else { flows.tcp.is_unsettled().then_some(self.not_before) }
    }

    /// The ports among `wanted` where nobody listens; none where that cannot be known.
    pub(super) fn unheard(&mut self, wanted: &[ListeningPort]) -> BTreeSet<ListeningPort> {
        let Some(listening) = self.sockets().and_then(|sockets| sockets.listening(wanted).ok()) else {
            return BTreeSet::new();
        };
        wanted.iter().copied().filter(|port| !listening.contains(port)).collect()
    }

    fn sockets(&mut self) -> Option<&mut Sockets> {
        if self.sockets.is_none() {
            match Sockets::open() {
                Ok(sockets) => self.sockets = Some(sockets),
                Err(error) => tracing::debug!(%error, "the kernel does not say what the target's sockets received"),
            }
        }
        self.sockets.as_mut()
    }
}

/// What is known of each of them, but for those of which nothing is.
fn answers(
    sockets: &mut Sockets,
    connections: Vec<(SocketAddr, SocketAddr)>,
    interfaces: &[u32],
) -> Vec<((SocketAddr, SocketAddr), Known)> {
    let all = if connections.len() > MAX_SINGLE {
        let ports: BTreeSet<u16> = connections.iter().map(|(_, server)| server.port()).collect();
        let Ok(all) = sockets.received_on(&ports) else { return Vec::new() };
        Some(all)
    } else {
        None
    };
    let known = |&(client, server): &(SocketAddr, SocketAddr)| match &all {
        Some(all) => all.get(&(client, server)).copied().unwrap_or(Known::NoSocket),
        None => sockets.received(client, server, interfaces),
    };
    let answered: Vec<Known> = connections.iter().map(known).collect();
    connections.into_iter().zip(answered).filter(|(_, known)| !matches!(known, Known::Nothing)).collect()
}
