//! [`Moment`]: time as this crate sees it, an argument. The caller owns the clock.

use std::{ops::Add, time::Duration};

/// Microseconds since an origin of the caller's, the same for every call on one flow or table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    /// The caller's origin.
    pub const ORIGIN: Self = Self(0);

    /// The moment this long after the origin.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the origin.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero when it is not after.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    pub(crate) fn to_smoltcp(self) -> smoltcp::time::Instant {
        smoltcp::time::Instant::from_micros(i64::try_from(self.0).unwrap_or(i64::MAX))
    }

    /// A past moment of smoltcp's, such as its "at once" that is the origin, stays in the past.
    pub(crate) fn from_smoltcp(instant: smoltcp::time::Instant) -> Self {
        Self(u64::try_from(instant.total_micros()).unwrap_or(0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    /// Saturates far in the future, half a million years from the origin.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let second = Moment::ORIGIN + Duration::from_secs(1);
        assert_eq!(second.as_micros(), 1_000_000);
        assert_eq!(Moment::ORIGIN.since(second), Duration::ZERO);
        assert_eq!(second.since(Moment::ORIGIN), Duration::from_secs(1));
        assert_eq!(second + Duration::MAX, Moment::from_micros(u64::MAX));
    }
}
