//! One direction of a bad link: loss, duplicates, and delays that reorder, all from a seed.

use std::{collections::BTreeMap, time::Duration};

use netstack::moment::Moment;

/// How bad, in per mille of the packets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conditions {
    pub(crate) lost: u32,
    pub(crate) doubled: u32,
    /// Delayed by up to 50 ms instead of 1 ms.
    pub(crate) late: u32,
}

impl Conditions {
    pub(crate) const PERFECT: Self = Self { lost: 0, doubled: 0, late: 0 };
}

pub(crate) struct Link {
    conditions: Conditions,
    random: u64,
    count: u64,
    queue: BTreeMap<(Moment, u64), Vec<u8>>,
}

impl Link {
    pub(crate) fn new(conditions: Conditions, seed: u64) -> Self {
        Self { conditions, random: seed.wrapping_mul(2) | 1, count: 0, queue: BTreeMap::new() }
    }

    pub(crate) fn send(&mut self, packet: Vec<u8>, now: Moment) {
        if self.happens(self.conditions.lost) {
            return;
        }
        if self.happens(self.conditions.doubled) {
            self.enqueue(packet.clone(), now);
        }
        self.enqueue(packet, now);
    }

    pub(crate) fn receive(&mut self, now: Moment) -> Option<Vec<u8>> {
        self.queue.first_entry().filter(|entry| entry.key().0 <= now).map(|entry| entry.remove())
    }

    pub(crate) fn due(&self) -> Option<Moment> {
        self.queue.keys().next().map(|&(moment, _)| moment)
    }

    fn enqueue(&mut self, packet: Vec<u8>, now: Moment) {
        let micros = if self.happens(self.conditions.late) { 1 + self.next() % 50_000 } else { 1000 };
        self.count += 1;
        self.queue.insert((now + Duration::from_micros(micros), self.count), packet);
    }

    fn happens(&mut self, per_mille: u32) -> bool {
        self.next() % 1000 < u64::from(per_mille)
    }

    /// xorshift64
    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
