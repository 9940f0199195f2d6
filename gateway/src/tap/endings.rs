//! [`Burials`]: connections that end while the ring loses: what their sockets had received in all, as the kernel tells it when it takes a
//! socket away. Heard from a loss on, until there has been none for a while. Before: [`super::capture`]; after: [`netstack::reassembly`].

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use link::rules::RuleProtocol;
use netstack::{moment::Moment, reassembly::Asked};

use super::{
    batch::Batch,
    clock,
    flows::Flows,
    settling::Reached,
    sockets::{Connection, Endings},
};

/// How long after a loss endings are heard: flows that it has taken part of may be open for long, most are not.
const LISTENS: Duration = Duration::from_secs(120);
/// With a longer pause between two looks a name may be another connection's by now.
const TOO_LATE: Duration = Duration::from_secs(2);
/// Endings that wait for frames of before them; with more, the newest are not counted.
const MAX_WAITING: usize = 16_384;

/// Those that were heard.
#[derive(Debug, Default)]
pub(super) struct Burials {
    endings: Option<Endings>,
    waiting: VecDeque<Burial>,
    losses: u64,
    until: Moment,
    looked: Moment,
}

#[derive(Debug)]
struct Burial {
    connection: Connection,
    bytes: u64,
    asked: Asked,
    /// Nanoseconds since 1970-01-01 UTC, as frames have it.
    nanos: u64,
}

impl Burials {
    /// Notes what has ended.
    pub(super) fn hear(&mut self, flows: &Flows, now: Moment) {
        if flows.losses() != self.losses {
            (self.losses, self.until) = (flows.losses(), now + LISTENS);
            if self.endings.is_none() && flows.has_tcp() {
                self.endings = Endings::open()
                    .inspect_err(|error| tracing::debug!(%error, "the kernel does not tell of sockets that end"))
                    .ok();
                self.looked = now;
            }
        }
        let Some(endings) = &mut self.endings else { return };
        let is_late = now.since(self.looked) > TOO_LATE;
        self.looked = now;
        let (mut heard, began) = (Vec::new(), Instant::now());
        endings.hear(|(client, server), bytes| {
            let is_copied = || flows.ports.takes(RuleProtocol::Tcp, client, server) == Some(true);
            if !is_late && self.waiting.len() + heard.len() < MAX_WAITING && is_copied() {
                heard.push(((client, server), bytes));
            }
        });
        // Only now: some may have ended since the call began.
        let (nanos, asked) = (clock::unix_nanos(), flows.tcp.heard(now + began.elapsed()));
        self.waiting.extend(heard.into_iter().map(|(connection, bytes)| Burial { connection, bytes, asked, nanos }));
        if now >= self.until || !flows.has_tcp() {
            self.endings = None;
        }
    }

    /// Hands in those of which every frame has been handled.
    pub(super) fn settle(&mut self, flows: &mut Flows, reached: Reached, batch: &mut Batch<'_>) {
        while let Some(burial) = self.waiting.pop_front_if(|one| reached.none_left || reached.nanos > one.nanos) {
            let Flows { ports, tcp, .. } = &mut *flows;
            let sink = &mut |id, event| Flows::tcp_event(ports, batch, id, event, reached.moment);
            let missed = tcp.buried(burial.connection, burial.bytes, burial.asked, reached.moment, sink);
            flows.lost_unseen(burial.connection.1, missed);
        }
    }

    /// When there is something to do although no frame came.
    pub(super) fn poll_at(&self, now: Moment) -> Option<Moment> {
        if self.waiting.is_empty() {
            self.endings.as_ref().map(|_| now + Duration::from_millis(20))
        } else {
            Some(Moment::ORIGIN)
        }
    }
}
