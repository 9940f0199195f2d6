//! [`Pipe`]: what happens to packets between two devices. Pure: no clock, no device, no thread.
//!
//! Before it in the flow: [`super::direction`] reads a packet. After it: the same writes what is due.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::conditions::Conditions;

/// How far the transmitter may have run dry without losing its turn. The emulating thread is sometimes late by this
/// much on a busy machine, while packets wait for it in the device's queue: no real link would have stood still then.
const LATE: Duration = Duration::from_micros(500);

/// Packets that are kept for their memory; more than that go back to the allocator.
const SPARE_BUFFERS: usize = 4_096;

/// What became of packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Came in.
    pub arrived: u64,
    /// Went out, duplicates included.
    pub departed: u64,
    /// Bytes that went out.
    pub departed_bytes: u64,
    /// Found the queue full.
    pub queue_drops: u64,
    /// Lost at random.
    pub lost: u64,
    /// Went out twice.
    pub duplicated: u64,
    /// Went out late.
    pub reordered: u64,
    /// Lost to a blackout.
    pub blacked_out: u64,
    /// Dropped for being UDP.
    pub blocked: u64,
}

/// One direction of a link.
#[derive(Debug)]
pub struct Pipe {
    conditions: Conditions,
    cut: bool,
    random: StdRng,
    /// When the transmitter has sent everything that it has accepted.
    free_at: Instant,
    // Bounded by `queue_bytes` and rate x delay; a link without a rate is bounded by what its sender can do in a delay.
    under_way: BinaryHeap<Reverse<Departure>>,
    sequence: u64,
    spare: Vec<Vec<u8>>,
    counters: Counters,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Departure {
    at: Instant,
    /// Keeps packets of the same time in order.
    sequence: u64,
    packet: Vec<u8>,
}

impl Pipe {
    /// A pipe that is empty at `now`.
    pub fn new(conditions: Conditions, seed: u64, now: Instant) -> Self {
        Self {
            conditions,
            cut: false,
            random: StdRng::seed_from_u64(seed),
            free_at: now,
            under_way: BinaryHeap::new(),
            sequence: 0,
            spare: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Holds for packets that arrive from now on.
    pub fn set(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    /// Loses everything under way and everything that arrives, until it is called with `false`.
    pub fn set_blackout(&mut self, cut: bool) {
        self.cut = cut;
        if cut {
            self.counters.blacked_out += self.under_way.len() as u64;
            self.under_way.clear();
        }
    }

    /// What became of packets so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// A packet enters. `now` never goes back.
    pub fn arrive(&mut self, packet: &[u8], now: Instant) {
        self.counters.arrived += 1;
        if self.cut {
            self.counters.blacked_out += 1;
            return;
        }
        if self.conditions.blocks_udp && is_udp(packet) {
            self.counters.blocked += 1;
            return;
        }
        let Some(sent_at) = self.transmit(packet.len(), now) else {
            self.counters.queue_drops += 1;
            return;
        };
        // It took the transmitter's time, as on a real path, and is lost on the way.
        if self.chance(self.conditions.loss) {
            self.counters.lost += 1;
            return;
        }
        let mut at = sent_at + self.conditions.delay;
        if self.chance(self.conditions.reorder) {
            self.counters.reordered += 1;
            at += self.conditions.reorder_by;
        }
        self.schedule(packet, at);
        if self.chance(self.conditions.duplicate) {
            self.counters.duplicated += 1;
            self.schedule(packet, at);
        }
    }

    /// When the packet's last bit has been sent; `None` when the queue has no room for it.
    fn transmit(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        let Some(rate) = self.conditions.rate else { return Some(now) };
        let start = self.free_at.max(now.checked_sub(LATE).unwrap_or(now));
        let waiting_bytes = start.saturating_duration_since(now).as_secs_f64() * rate as f64 / 8.0;
        if waiting_bytes + bytes as f64 > self.conditions.queue_bytes as f64 {
            return None;
        }
        self.free_at = start + Duration::from_secs_f64(bytes as f64 * 8.0 / rate as f64);
        Some(self.free_at.max(now))
    }

    fn chance(&mut self, share: f64) -> bool {
        share > 0.0 && self.random.random_bool(share.min(1.0))
    }

    fn schedule(&mut self, packet: &[u8], at: Instant) {
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(packet);
        self.sequence += 1;
        self.under_way.push(Reverse(Departure { at, sequence: self.sequence, packet: copy }));
    }

    /// Hands every packet whose time has come to `write`, in the order of their departure.
    pub fn depart(&mut self, now: Instant, mut write: impl FnMut(&[u8])) {
        while self.next_departure().is_some_and(|at| at <= now) {
            let Some(Reverse(departure)) = self.under_way.pop() else { return };
            self.counters.departed += 1;
            self.counters.departed_bytes += departure.packet.len() as u64;
            write(&departure.packet);
            if self.spare.len() < SPARE_BUFFERS {
                self.spare.push(departure.packet);
            }
        }
    }

    /// When [`Self::depart`] has something to do; `None` when nothing is under way.
    pub fn next_departure(&self) -> Option<Instant> {
        self.under_way.peek().map(|Reverse(departure)| departure.at)
    }
}

/// Whether an IP packet says that UDP follows its header: the protocol of IPv4, the next header of IPv6.
fn is_udp(packet: &[u8]) -> bool {
    const UDP: u8 = 17;
    let at = if packet.first().is_some_and(|first| first >> 4 == 4) { 9 } else { 6 };
    packet.get(at) == Some(&UDP)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    /// Feeds `packets` of 1,250 bytes, one each `gap`, and gives each departure: what, and when after the start.
    fn run(conditions: Conditions, packets: u32, gap: Duration) -> (Vec<(u32, Duration)>, Counters) {
        let start = Instant::now();
        let mut pipe = Pipe::new(conditions, 7, start);
        let mut seen = Vec::new();
        let mut now = start;
        let mut sent = 0;
        while sent < packets || pipe.next_departure().is_some() {
            let next_send = (sent < packets).then(|| start + gap * sent);
            now = [next_send, pipe.next_departure()].into_iter().flatten().min().unwrap_or(now).max(now);
            pipe.depart(now, |packet| seen.push((u32::from(packet[0]) | u32::from(packet[1]) << 8, now - start)));
            if next_send.is_some_and(|at| at <= now) {
                let mut packet = vec![0; 1_250];
                packet[..2].copy_from_slice(&(sent as u16).to_le_bytes());
                pipe.arrive(&packet, now);
                sent += 1;
            }
        }
        (seen, pipe.counters())
    }

    #[test]
    fn delay_is_the_same_for_every_packet() {
        let (seen, _) = run(Conditions { delay: 25 * MILLI, ..Conditions::default() }, 100, MILLI);
        assert!(seen.iter().all(|(number, at)| *at == 25 * MILLI + MILLI * *number), "{seen:?}");
    }

    #[test]
    fn rate_spaces_a_burst_and_the_queue_bounds_it() {
        // 10 Mbit/s: a packet of 1,250 bytes takes 1 ms. A burst of 100 finds room for 10.
        let conditions = Conditions { rate: Some(10_000_000), queue_bytes: 12_500, ..Conditions::default() };
        let (seen, counters) = run(conditions, 100, Duration::ZERO);
        assert_eq!(seen.len(), 10);
        assert_eq!(counters.queue_drops, 90);
        assert!(seen.windows(2).all(|pair| pair[1].1 - pair[0].1 == MILLI), "{seen:?}");
    }

    #[test]
    fn loss_duplication_and_reordering_have_their_shares() {
        let conditions = Conditions {
            loss: 0.1,
            duplicate: 0.05,
            reorder: 0.2,
            reorder_by: 3 * MILLI,
            delay: MILLI,
            ..Conditions::default()
        };
        let (seen, counters) = run(conditions, 20_000, MILLI);
        let near = |count: u64, expected: f64| (count as f64 / expected - 1.0).abs() < 0.1;
        assert!(near(counters.lost, 2_000.0), "{counters:?}");
        assert!(near(counters.duplicated, 900.0), "{counters:?}");
        assert!(near(counters.reordered, 3_600.0), "{counters:?}");
        assert_eq!(seen.len() as u64, 20_000 - counters.lost + counters.duplicated);
        assert!(seen.windows(2).any(|pair| pair[1].0 < pair[0].0));
    }

    #[test]
    fn the_same_seed_loses_the_same_packets() {
        let conditions = || Conditions { loss: 0.3, ..Conditions::default() };
        assert_eq!(run(conditions(), 500, MILLI), run(conditions(), 500, MILLI));
    }

    #[test]
    fn a_blackout_takes_what_is_under_way_and_what_comes() {
        let start = Instant::now();
        let mut pipe = Pipe::new(Conditions { delay: MILLI, ..Conditions::default() }, 1, start);
        pipe.arrive(b"under way", start);
        pipe.set_blackout(true);
        pipe.arrive(b"coming", start);
        assert_eq!((pipe.next_departure(), pipe.counters().blacked_out), (None, 2));
        pipe.set_blackout(false);
        pipe.arrive(b"after", start);
        assert_eq!(pipe.next_departure(), Some(start + MILLI));
    }
}
