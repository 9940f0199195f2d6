//! [`Flapping`]: a pause between links that end soon after they were made, such as those to a gateway that welcomes and then fails. Pure.
//!
//! The backoff of [`super::GatewayLink`] is between tries that fail, and begins anew with each link. Before and after: there.

use std::time::Duration;

/// A link that lived for this long ended for a reason of its own: the next is made at once.
const STEADY: Duration = Duration::from_secs(5);
/// The pause behind the first link that did not; it doubles.
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause.
const MOST: Duration = Duration::from_secs(5);

/// How long to wait before the next link.
#[derive(Debug, Default)]
pub(super) struct Flapping {
    pause: Duration,
}

impl Flapping {
    /// The pause behind a link that lived for `lived`.
    pub(super) fn pause_after(&mut self, lived: Duration) -> Duration {
        self.pause = if lived >= STEADY { Duration::ZERO } else { (self.pause * 2).clamp(FIRST, MOST) };
        self.pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_end_at_once_are_made_ever_more_slowly_and_steady_ones_at_once() {
        let mut flapping = Flapping::default();
        let pauses: Vec<_> = (0..8).map(|_| flapping.pause_after(Duration::ZERO).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(flapping.pause_after(STEADY), Duration::ZERO);
        assert_eq!(flapping.pause_after(Duration::ZERO), FIRST);
    }
}
