//! [`Clock`]: one time line for frames and for the tap. Frames have the time of day, which may be set; what is due must not depend on that.
//! Used by [`super::capture`].

use std::time::{Instant, SystemTime};

use netstack::moment::Moment;

/// Moments since the tap's start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    origin: Instant,
    /// The time of day at the origin, as it is set at present: nanoseconds since 1970-01-01 UTC.
    origin_nanos: u64,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { origin: Instant::now(), origin_nanos: unix_nanos() }
    }

    /// This moment. Follows the time of day where that was set.
    pub(super) fn now(&mut self) -> Moment {
        let since = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.origin_nanos = unix_nanos().saturating_sub(since);
        Moment::from_micros(since / 1_000)
    }

    /// When a frame came that has this time of day.
    pub(super) const fn of_frame(&self, nanos: u64) -> Moment {
        Moment::from_micros(nanos.saturating_sub(self.origin_nanos) / 1_000)
    }
}

/// Nanoseconds since 1970-01-01 UTC, as frames have them.
pub(super) fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
