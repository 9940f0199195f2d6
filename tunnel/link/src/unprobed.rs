//! BBR without its search for the least round trip: every 10 s of full load it lets less under way than the path holds, for 200 ms.
//!
//! quinn's BBR takes the least round trip from the connection's own estimate, which is of the connection's whole life, so the search
//! finds nothing. On a LAN, where round trips are the scheduler's and not the path's, those 200 ms let through a fifth of a Gbit/s; a
//! program does not notice, but a mirrored target sends on, and what then waits at the gateway passes every bound.
//!
//! The search cannot be switched off. So what begins it is watched for, and until it is over the window stays what it was before, and BBR is
//! told that nothing is under way, which is what it waits for. Before: [`crate::transport`]; after: [`crate::bounded`].

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

/// Between two searches, from beginning to beginning.
const EVERY: Duration = Duration::from_secs(10);
/// From when little is under way to the round trip that ends it.
const TIME: Duration = Duration::from_millis(200);

/// Keeps the controllers that another factory makes from searching.
#[derive(Debug)]
pub(crate) struct UnprobedConfig<F>(pub(crate) Arc<F>);

impl<F: ControllerFactory + Send + Sync + 'static> ControllerFactory for UnprobedConfig<F> {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let inner = Arc::clone(&self.0).build(now, current_mtu);
        Box::new(Unprobed { inner, began: None, round_trip: Duration::ZERO, kept: None })
    }
}

struct Unprobed {
    inner: Box<dyn Controller>,
    /// When the last search began.
    began: Option<Instant>,
    round_trip: Duration,
    kept: Option<Kept>,
}

/// The window of before a search, and when that is over.
#[derive(Debug, Clone, Copy)]
struct Kept {
    window: u64,
    until: Instant,
}

impl Controller for Unprobed {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.round_trip = rtt.get();
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_packet_num_acked: Option<u64>) {
        let is_due = self.began.is_none_or(|began| now.saturating_duration_since(began) > EVERY);
        if is_due && !app_limited {
            self.began = Some(now);
            // It ends with the first round trip that begins after its time, one may just have begun.
            self.kept = Some(Kept { window: self.inner.window(), until: now + TIME + 2 * self.round_trip });
        }
        self.kept = self.kept.filter(|kept| now < kept.until);
        let in_flight = if self.kept.is_some() { 0 } else { in_flight };
        self.inner.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        self.kept = None;
        self.inner.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.kept.map_or(0, |kept| kept.window).max(self.inner.window())
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        let Self { began, round_trip, kept, .. } = *self;
        Box::new(Self { inner: self.inner.clone_box(), began, round_trip, kept })
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

    const WINDOW: u64 = 100_000;
    const START: Duration = Duration::from_secs(3);

    /// Searches as BBR does: until 200 ms after little was under way.
    #[derive(Clone, Default)]
    struct Searching {
        began: Option<Instant>,
        until: Option<Instant>,
        is_searching: bool,
    }

    impl Controller for Searching {
        fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, _: Option<u64>) {
            if !app_limited && self.began.is_none_or(|began| now - began > EVERY) {
                *self = Self { began: Some(now), until: None, is_searching: true };
            }
            if in_flight < WINDOW / 10 {
                self.until.get_or_insert(now + TIME);
            }
            self.is_searching &= self.until.is_none_or(|until| now < until);
        }

        fn window(&self) -> u64 {
            if self.is_searching { WINDOW / 10 } else { WINDOW }
        }

        fn on_congestion_event(&mut self, _: Instant, _: Instant, _: bool, _: u64) {}
        fn on_mtu_update(&mut self, _: u16) {}

        fn clone_box(&self) -> Box<dyn Controller> {
            Box::new(self.clone())
        }

        fn initial_window(&self) -> u64 {
            WINDOW
        }

        fn into_any(self: Box<Self>) -> Box<dyn Any> {
            self
        }
    }

    /// The windows of 25 s on a full path; the first 3 s of it are the program's.
    fn windows(mut controller: impl Controller) -> Vec<u64> {
        let start = Instant::now();
        let looks = (0..2_500).map(|turn| {
            let passed = Duration::from_millis(10) * turn;
            controller.on_end_acks(start + passed, WINDOW, passed < START, None);
            controller.window()
        });
        looks.collect()
    }

    fn unprobed() -> Unprobed {
        Unprobed { inner: Box::new(Searching::default()), began: None, round_trip: Duration::ZERO, kept: None }
    }

    #[test]
    fn the_window_of_a_full_path_stays_what_it_is() {
        assert!(windows(Searching::default()).contains(&(WINDOW / 10)));
        assert!(windows(unprobed()).iter().all(|window| *window == WINDOW));
    }

    #[test]
    fn what_is_lost_ends_it() {
        let mut controller = unprobed();
        let now = Instant::now();
        controller.on_end_acks(now, WINDOW, false, None);
        assert_eq!(controller.window(), WINDOW);
        controller.on_congestion_event(now, now, false, 1_452);
        assert_eq!(controller.window(), WINDOW / 10);
    }
}
