//! [`Pace`]: a rule's `max_rate`, as a bucket of payload bytes that all its flows draw from. Pure: time is an argument.

use std::time::{Duration, Instant};

use link::mirrored::MAX_FRAME_BYTES;

/// The bucket holds what the rate gives in this time, but always one frame, for a frame is copied whole or not at all.
const BURST: Duration = Duration::from_millis(250);

/// Bytes that may be copied.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: u64,
    burst: u64,
    left: u64,
    filled: Instant,
    /// It was empty, and is not drawn from before it is half full: a few long runs instead of single frames.
    is_dry: bool,
}

impl Pace {
    pub(super) fn new(bytes_per_second: u64, now: Instant) -> Self {
        let of_a_burst = bytes_in(BURST, bytes_per_second);
        let burst = if bytes_per_second == 0 { 0 } else { of_a_burst.max(MAX_FRAME_BYTES as u64) };
        Self { bytes_per_second, burst, left: burst, filled: now, is_dry: false }
    }

    /// Whether a frame with this payload may be copied; draws it if so.
    pub(super) fn allows(&mut self, bytes: u64, now: Instant) -> bool {
        let earned = bytes_in(now.saturating_duration_since(self.filled), self.bytes_per_second);
        // What is less than a byte goes on to be earned.
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(self.burst);
            self.filled = now;
        }
        if bytes > self.left {
            self.is_dry = true;
        } else if self.left >= self.burst / 2 {
            self.is_dry = false;
        }
        let is_allowed = !self.is_dry;
        if is_allowed {
            self.left -= bytes;
        }
        is_allowed
    }
}

fn bytes_in(time: Duration, bytes_per_second: u64) -> u64 {
    u64::try_from(time.as_nanos() * u128::from(bytes_per_second) / 1_000_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn never_more_than_the_rate_and_a_burst(
            rate in 1u64..200_000_000,
            frames in prop::collection::vec((0u64..=MAX_FRAME_BYTES as u64, 0u64..50_000), 1..300),
        ) {
            let start = Instant::now();
            let mut pace = Pace::new(rate, start);
            let (mut now, mut copied) = (start, 0);
            for (bytes, micros) in frames {
                now += Duration::from_micros(micros);
                if pace.allows(bytes, now) {
                    copied += bytes;
                }
            }
            let most = bytes_in(now - start, rate) + (rate / 4).max(MAX_FRAME_BYTES as u64);
            prop_assert!(copied <= most + 1, "{copied} of {most}");
        }
    }

    #[test]
    fn a_steady_stream_above_the_rate_gets_the_rate_in_runs() {
        let start = Instant::now();
        let mut pace = Pace::new(4_000_000, start);
        let (mut copied, mut runs, mut was_allowed) = (0, 0, false);
        // 100 frames of 1,000 bytes a millisecond for 10 s.
        for tick in 0..10_000 {
            for _ in 0..100 {
                let is_allowed = pace.allows(1_000, start + Duration::from_millis(tick));
                copied += if is_allowed { 1_000 } else { 0 };
                runs += u32::from(is_allowed && !was_allowed);
                was_allowed = is_allowed;
            }
        }
        assert!((39_000_000..=41_100_000).contains(&copied), "{copied}");
        assert!(runs <= 100, "{runs}");
    }

    #[test]
    fn a_rate_of_nothing_copies_nothing() {
        let now = Instant::now();
        let mut pace = Pace::new(0, now);
        assert!(!pace.allows(1, now) && !pace.allows(1, now + Duration::from_secs(3_600)));
    }
}
