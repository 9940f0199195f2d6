//! [`Settling`]: after a loss, asks the kernel what the target received, and tells the reassembly, which alone cannot know: sequence numbers
//! count modulo 4 GiB, and a connection that ended in the hole looks like one that is silent.
//!
//! 1. Ask, for the connections in doubt; each answer is of that moment.
//! 2. Wait until every frame of before that moment has been handled.
//! 3. Hand the answers in.
//!
//! Before: [`super::capture`]; after: [`netstack::reassembly`].

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use link::rules::RuleProtocol;
use netstack::{moment::Moment, reassembly::Asked};

use super::{
    batch::Batch,
    census::Census,
    clock,
    flows::Flows,
    protocol::ListeningPort,
    sockets::{Connection, Known, Sockets},
};

/// Connections that are asked for one by one, a millisecond's work. For more there is a [`Census`].
const MAX_SINGLE: usize = 256;
/// Between two questions, and when the last was about something and led to nothing.
const PAUSE: Duration = Duration::from_millis(50);
const LONG_PAUSE: Duration = Duration::from_secs(5);
/// Between two looks for connections that the ring lost from their beginning on.
const CENSUS_PAUSE: Duration = Duration::from_secs(1);

/// What is being asked.
#[derive(Debug, Default)]
pub(super) struct Settling {
    sockets: Option<Sockets>,
    question: Option<Question>,
    census: Option<(Asked, Census)>,
    not_before: Moment,
    /// Losses of the ring when the last census began, and when the next may.
    census_losses: u64,
    census_at: Moment,
    /// Ports of TCP that are copied.
    known_ports: BTreeSet<u16>,
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
    answers: Vec<(Connection, Known)>,
    is_census: bool,
}

impl Settling {
    /// Notes what the target had received on the ports that are copied from now on.
    pub(super) fn begin(&mut self, flows: &mut Flows) {
        let ports = tcp_ports(flows);
        let new: BTreeSet<u16> = ports.difference(&self.known_ports).copied().collect();
        self.known_ports = ports;
        if new.is_empty() {
            return;
        }
        match Census::begin(new).and_then(Census::finish) {
            Ok(all) => {
                for ((client, server), known) in all {
                    if let Known::Socket(received) = known {
                        flows.tcp.was_there(client, server, received);
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "the kernel does not say what the target's sockets received"),
        }
    }

    /// Asks, if there is something to ask about.
    pub(super) fn ask(&mut self, flows: &mut Flows, interfaces: &[u32], now: Moment) {
        if self.census.is_some() {
            return self.go_on(flows, now);
        }
        let lost = flows.losses() != self.census_losses && now >= self.census_at;
        if self.question.is_some() || now < self.not_before || !(lost || flows.tcp.is_unsettled()) {
            return;
        }
        self.not_before = now + LONG_PAUSE;
        let heard = self.heard(flows);
        let asked = flows.tcp.ask(now);
        let doubtful: Vec<Connection> =
            flows.tcp.unsettled().filter(|(_, server)| heard.contains(&server.port())).collect();
        if lost || doubtful.len() > MAX_SINGLE {
            (self.census_losses, self.census_at) = (flows.losses(), now + CENSUS_PAUSE);
            self.census = Census::begin(heard).ok().map(|census| (asked, census));
            return;
        }
        if doubtful.is_empty() && flows.tcp.unsettled().next().is_none() {
            self.not_before = now + PAUSE;
            return;
        }
        let Some(sockets) = self.sockets() else { return };
        let answer = |&(client, server): &Connection| sockets.received(client, server, interfaces);
        let answered: Vec<Known> = doubtful.iter().map(answer).collect();
        self.note(asked, doubtful.into_iter().zip(answered).collect(), false);
    }

    /// Reads a part of what the kernel says of all sockets.
    fn go_on(&mut self, flows: &Flows, now: Moment) {
        let Some((asked, mut census)) = self.census.take() else { return };
        match census.go_on() {
            Ok(false) => self.census = Some((asked, census)),
            Ok(true) => {
                let (ports, mut all) = census.into_parts();
                // The kernel names every socket that there is.
                for doubtful in flows.tcp.unsettled().filter(|(_, server)| ports.contains(&server.port())) {
                    all.entry(doubtful).or_insert(Known::NoSocket);
                }
                self.not_before = now + PAUSE;
                self.note(asked, all.into_iter().collect(), true);
            }
            Err(error) => tracing::debug!(%error, "the kernel does not say what the target's sockets received"),
        }
    }

    fn note(&mut self, asked: Asked, mut answers: Vec<(Connection, Known)>, is_census: bool) {
        answers.retain(|(_, known)| !matches!(known, Known::Nothing));
        tracing::trace!(?answers, "the target's sockets were looked at");
        if is_census || !answers.is_empty() {
            self.question = Some(Question { asked, nanos: clock::unix_nanos(), answers, is_census });
        }
    }

    /// Hands the answers in, if every frame of before the question was handled.
    pub(super) fn settle(&mut self, flows: &mut Flows, reached: Reached, now: Moment, batch: &mut Batch<'_>) {
        let handled = |question: &mut Question| reached.none_left || reached.nanos > question.nanos;
        let Some(Question { asked, answers, is_census, .. }) = self.question.take_if(handled) else { return };
        if is_census {
            let there: HashSet<Connection> = answers.iter().map(|(connection, _)| *connection).collect();
            flows.tcp.are_there(|client, server| there.contains(&(client, server)));
        }
        for (connection, known) in answers {
            let (client, server) = connection;
            let Flows { ports, tcp, .. } = flows;
            let sink = &mut |id, event| Flows::tcp_event(ports, batch, id, event, reached.moment);
            match known {
                Known::Socket(received) if ports.takes(RuleProtocol::Tcp, client, server) == Some(true) => {
                    let missed = tcp.settle(connection, received, asked, reached.moment, sink);
                    flows.lost_unseen(server, missed);
                }
                Known::NoSocket => tcp.gone(connection, asked, reached.moment, sink),
                Known::Socket(_) | Known::Nothing => {}
            }
        }
        self.not_before = now + PAUSE;
    }

    /// When there is something to do although no frame came.
    pub(super) fn poll_at(&self, flows: &Flows) -> Option<Moment> {
        if self.question.is_some() || self.census.is_some() {
            return Some(Moment::ORIGIN);
        }
        let census = (flows.losses() != self.census_losses).then_some(self.census_at.max(self.not_before));
        [census, flows.tcp.is_unsettled().then_some(self.not_before)].into_iter().flatten().min()
    }

    /// The ports among `wanted` where nobody listens; none where that cannot be known.
    pub(super) fn unheard(&mut self, wanted: &[ListeningPort]) -> BTreeSet<ListeningPort> {
        let Some(listening) = self.sockets().and_then(|sockets| sockets.listening(wanted).ok()) else {
            return BTreeSet::new();
        };
        wanted.iter().copied().filter(|port| !listening.contains(port)).collect()
    }

    /// Ports of TCP that have a listener. Where nobody listens, packets are led to another port before they reach a socket: its sockets say
    /// nothing.
    fn heard(&mut self, flows: &Flows) -> BTreeSet<u16> {
        let unheard = self.unheard(&flows.ports.iter().collect::<Vec<_>>());
        let is_heard = |port: &u16| !unheard.contains(&ListeningPort { port: *port, protocol: RuleProtocol::Tcp });
        tcp_ports(flows).into_iter().filter(is_heard).collect()
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

fn tcp_ports(flows: &Flows) -> BTreeSet<u16> {
    flows.ports.iter().filter(|port| port.protocol == RuleProtocol::Tcp).map(|port| port.port).collect()
}
