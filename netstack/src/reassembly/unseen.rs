//! [`Unseen`]: how much the target had received of connections before they were seen, where that is not missing or has been counted. What it
//! received beyond that and beyond what was said of a flow, the ring lost: a SYN that it lost makes a connection look as if it had been there
//! before the tap. Used by [`super::settlement`].
//!
//! A connection whose end was lost as well, and whose socket is gone by the time of the question, leaves no trace to measure.

use std::{collections::HashMap, net::SocketAddr};

use super::{
    Reassembler,
    flows::State,
    key::{Key, Seed},
    settlement::{Asked, Received},
    stream::{Base, Stream},
};

/// Bytes by connection, of as many connections as may be open. When there is no room, nothing is said of those that are not here.
#[derive(Debug)]
pub(super) struct Unseen {
    counted: HashMap<Key, u64, Seed>,
    most: usize,
    is_short: bool,
}

impl Unseen {
    pub(super) fn new(most: usize, seed: u64) -> Self {
        Self { counted: HashMap::with_hasher(Seed::new(seed)), most, is_short: false }
    }

    /// So many more bytes of the connection are none that are missing.
    pub(super) fn add(&mut self, key: Key, bytes: u64) {
        if let Some(counted) = self.counted.get_mut(&key) {
            *counted = counted.saturating_add(bytes);
        } else if bytes > 0 && self.counted.len() < self.most {
            self.counted.insert(key, bytes);
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

    /// `None` when nobody knows.
    fn of(&self, key: Key) -> Option<u64> {
        self.counted.get(&key).copied().or((!self.is_short).then_some(0))
    }
}

impl Reassembler {
    /// A connection that was there when its port began to be copied, and had received this.
    pub fn was_there(&mut self, client: SocketAddr, server: SocketAddr, received: Received) {
        self.unseen.add(Key::new(client, server), received.payload_bytes());
    }

    /// All others than those of which `is_there(client, server)` holds have no socket any more.
    pub fn are_there(&mut self, is_there: impl Fn(SocketAddr, SocketAddr) -> bool) {
        self.unseen.retain(|key| is_there(key.client(), key.server()));
    }

    /// What the target has received and no event of the connection tells, so far as it was not given before. Never too much: of what is under
    /// way the rest comes out with a later answer.
    pub(super) fn newly_missed(&mut self, key: Key, received: Received, asked: Asked) -> u64 {
        let told = match self.flows.find(key).map(|index| self.flows.slot(index)) {
            // Whoever has ended is forgotten after a while, and the socket may stay.
            None if received.ended => None,
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
