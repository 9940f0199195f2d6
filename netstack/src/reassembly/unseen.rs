//! [`Unseen`]: how much the target had received of connections before they were seen, where that is not missing or has been counted. What it
//! received beyond that and beyond what was said of a flow, the ring lost: a SYN that it lost makes a connection look as if it had been there
//! before the tap. Used by [`super::settlement`].
//!
//! A connection whose end was lost as well, and whose socket is gone by the time of the question, is measured by what the kernel tells of
//! sockets that end ([`Reassembler::buried`]), from the first loss on.

use std::{collections::HashMap, net::SocketAddr};

use super::{
    Event, FlowId, Reassembler,
    flows::State,
    key::{Key, Seed},
    settlement::{Asked, Received},
    stream::{Base, Standing, Stream},
};
use crate::moment::Moment;

/// Bytes by connection, of as many connections as may be open. When there is no room, nothing is said of those that are not here.
#[derive(Debug)]
pub(super) struct Unseen {
    counted: HashMap<Key, Counted, Seed>,
    most: usize,
    is_short: bool,
}

#[derive(Debug, Default)]
struct Counted {
    bytes: u64,
    /// There was no socket at the last look; what it received in the end may be under way to us.
    is_absent: bool,
}

impl Unseen {
    pub(super) fn new(most: usize, seed: u64) -> Self {
        Self { counted: HashMap::with_hasher(Seed::new(seed)), most, is_short: false }
    }

    /// So many more bytes of the connection are none that are missing.
    pub(super) fn add(&mut self, key: Key, bytes: u64) {
        if let Some(counted) = self.counted.get_mut(&key) {
            counted.bytes = counted.bytes.saturating_add(bytes);
        } else if bytes > 0 && self.counted.len() < self.most {
            self.counted.insert(key, Counted { bytes, is_absent: false });
        } else {
            self.is_short |= bytes > 0;
        }
    }

    pub(super) fn forget(&mut self, key: Key) {
        if !self.counted.is_empty() {
            self.counted.remove(&key);
        }
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Key) -> bool) {
        self.counted.retain(|key, _| keep(key));
        self.counted.shrink_to_fit();
        self.is_short &= !self.counted.is_empty();
    }

    /// Forgets those that were absent twice.
    fn look(&mut self, is_there: impl Fn(&Key) -> bool) {
        self.counted.retain(|key, counted| {
            let was_absent = std::mem::replace(&mut counted.is_absent, !is_there(key));
            !(was_absent && counted.is_absent)
        });
        self.is_short &= !self.counted.is_empty();
    }

    /// `None` when nobody knows.
    fn of(&self, key: Key) -> Option<u64> {
        self.counted.get(&key).map(|counted| counted.bytes).or((!self.is_short).then_some(0))
    }
}

impl Reassembler {
    /// A connection that was there when its port began to be copied, and had received this.
    pub fn was_there(&mut self, client: SocketAddr, server: SocketAddr, received: Received) {
        self.unseen.add(Key::new(client, server), received.payload_bytes());
    }

    /// All others than those of which `is_there(client, server)` holds have no socket any more.
    pub fn are_there(&mut self, is_there: impl Fn(SocketAddr, SocketAddr) -> bool) {
        self.unseen.look(|key| is_there(key.client(), key.server()));
    }

    /// The target's socket for this connection is gone since a moment before `asked`, and had received this in all, its FIN included if there was
    /// one. As [`Reassembler::settle`] otherwise.
    pub fn buried<'a>(
        &mut self,
        (client, server): (SocketAddr, SocketAddr),
        bytes: u64,
        asked: Asked,
        now: Moment,
        sink: &mut impl FnMut(FlowId, Event<'a>),
    ) -> u64 {
        let key = Key::new(client, server);
        let received = Received { bytes, ended: true };
        self.open_by_answer(key, received, asked, now, sink);
        let epoch = self.epoch;
        if let Some(index) = self.flows.find(key)
            && let slot = self.flows.slot_mut(index)
            && slot.opened <= asked.at
            && let (id, State::Open(stream)) = (slot.id, &mut slot.state)
        {
            let mut standing = Standing::Open;
            if stream.base == Base::Start {
                standing = stream.advance_to(received.payload_bytes(), &mut |event| sink(id, event));
            } else if stream.epoch != epoch {
                standing = stream.give_up_all(&mut |event| sink(id, event));
            }
            let standing = if standing == Standing::Open { Standing::Gone } else { standing };
            self.conclude(index, standing, now, sink);
        }
        let missed = self.missed_of(key, received, asked);
        self.unseen.forget(key);
        missed
    }

    /// What the target has received and no event of the connection tells, so far as it was not given before. Never too much: of what is under
    /// way the rest comes out with a later answer.
    pub(super) fn newly_missed(&mut self, key: Key, received: Received, asked: Asked) -> u64 {
        if received.ended && self.flows.find(key).is_none() {
            // Whoever has ended is forgotten after a while, and the socket may stay: what was told of it is not known any more.
            let unknown = received.payload_bytes().saturating_sub(self.unseen.of(key).unwrap_or(0));
            self.unseen.add(key, unknown);
            return 0;
        }
        self.missed_of(key, received, asked)
    }

    fn missed_of(&mut self, key: Key, received: Received, asked: Asked) -> u64 {
        let told = match self.flows.find(key).map(|index| self.flows.slot(index)) {
            None => Some(0),
            Some(slot) if slot.opened > asked.at => None,
            Some(slot) => match &slot.state {
                State::Open(stream) => stream.told(asked),
                State::Ended { told, .. } => Some(*told),
                State::Embryo(_) | State::Free => None,
            },
        };
        let Some((told, counted)) = told.zip(self.unseen.of(key)) else { return 0 };
        let missed = received.payload_bytes().saturating_sub(told).saturating_sub(counted);
        self.unseen.add(key, missed);
        missed
    }
}

impl Stream {
    /// How much was said of a stream that was joined, if that is all that was seen before the question.
    fn told(&self, asked: Asked) -> Option<u64> {
        let sound = self.base != Base::Start && self.epoch == asked.epoch && !self.waits();
        sound.then_some(self.next)
    }
}
