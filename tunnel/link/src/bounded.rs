//! A congestion controller that keeps the queue short: BBR's or Cubic's window, but never much more than the path delivers in a
//! round trip.
//!
//! What is sent beyond that waits in a queue on the way, or in the receiver's socket buffer, and a small request waits behind it. The
//! bound is on what is under way and not on what may be written: a stream with little to say is then never held back by a bulk one.
//! Used by [`crate::transport`].

use std::{
    any::Any,
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

/// In round trips. What is above one is the queue, 5 ms of it at 50 ms, and what finds a path that has become faster.
const GAIN: f64 = 1.1;
/// What a LAN needs, where round trips are the scheduler's: eight of the largest batches. Beside a bulk flow 95 of 100 small requests
/// take 3.5 ms at most, with 768 KiB 4.3 and with 1 MiB 5; the bulk flow is as fast.
const FLOOR_BYTES: u64 = 512 << 10;
/// A rate is a mean over a round trip, but no shorter a time: acknowledgements come in bursts.
const SHORTEST_MEAN: Duration = Duration::from_millis(25);
/// The greatest rate of so many means counts.
const MEANS: usize = 10;

/// Bounds the windows of the controllers that another factory makes.
#[derive(Debug)]
pub(crate) struct BoundedConfig<F>(pub(crate) Arc<F>);

impl<F: ControllerFactory + Send + Sync + 'static> ControllerFactory for BoundedConfig<F> {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let inner = Arc::clone(&self.0).build(now, current_mtu);
        Box::new(Bounded { inner, delivered: Delivered::new(now), most: u64::MAX })
    }
}

struct Bounded {
    inner: Box<dyn Controller>,
    delivered: Delivered,
    most: u64,
}

/// What the path delivered lately.
#[derive(Debug, Clone)]
struct Delivered {
    since: Instant,
    bytes: u64,
    /// Bytes a second.
    rates: VecDeque<f64>,
}

impl Delivered {
    const fn new(now: Instant) -> Self {
        Self { since: now, bytes: 0, rates: VecDeque::new() }
    }

    /// Counts an acknowledgement; whether the rate has changed by it.
    fn count(&mut self, now: Instant, bytes: u64, mean: Duration) -> bool {
        self.bytes += bytes;
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < mean {
            return false;
        }
        if self.rates.len() == MEANS {
            self.rates.pop_front();
        }
        #[expect(clippy::cast_precision_loss, reason = "bytes of a round trip, far below 2^52")]
        self.rates.push_back(self.bytes as f64 / elapsed.as_secs_f64());
        self.since = now;
        self.bytes = 0;
        true
    }

    fn window(&self, round_trip: Duration) -> u64 {
        let rate = self.rates.iter().copied().fold(0.0, f64::max);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative, and saturating")]
        let delivered = (GAIN * rate * round_trip.as_secs_f64()) as u64;
        delivered.saturating_add(FLOOR_BYTES)
    }
}

impl Controller for Bounded {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
        if self.delivered.count(now, bytes, rtt.get().max(SHORTEST_MEAN)) {
            self.most = self.delivered.window(rtt.min());
        }
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_packet_num_acked: Option<u64>) {
        self.inner.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        self.inner.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.inner.window().min(self.most)
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { inner: self.inner.clone_box(), delivered: self.delivered.clone(), most: self.most })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_a_round_trip_of_the_greatest_rate_with_a_gain_and_a_floor() {
        let start = Instant::now();
        let mut delivered = Delivered::new(start);
        let rtt = Duration::from_millis(50);
        assert_eq!(delivered.window(rtt), FLOOR_BYTES);
        assert!(!delivered.count(start + rtt / 2, 2_500_000, rtt));
        assert!(delivered.count(start + rtt, 2_500_000, rtt));
        assert!(delivered.count(start + rtt * 2, 1_000, rtt));
        assert!((delivered.window(rtt) - FLOOR_BYTES).abs_diff((GAIN * 5e6) as u64) <= 1);
        for round in 3..=2 + u32::try_from(MEANS).unwrap() {
            delivered.count(start + rtt * round, 0, rtt);
        }
        assert_eq!(delivered.window(rtt), FLOOR_BYTES, "an old rate is forgotten");
    }
}
