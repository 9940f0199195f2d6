//! [`Descriptors`]: how many sockets all sessions together may have, so that a process that has no descriptor left for one more flow
//! still takes sessions, answers queries and shows its metrics.
//!
//! The kernel's limit is shared out at the start: most of it to flows, the rest to everything else. Before: [`crate::run`], which raises the
//! limit as far as it may; after: [`crate::outbound`], [`crate::udp`], [`crate::dns`].

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit};

use crate::{
    config::Limits,
    limits::{Slot, Slots},
};

/// Of the descriptors one in so many is kept from flows: for carriers, the listeners, the observer, and queries.
const KEPT_SHARE: usize = 8;
/// But at least so many, unless that is more than half: a gateway that does nothing has a dozen open.
const KEPT_LEAST: usize = 64;
/// A warning that nothing is left is not repeated sooner.
const WARN_PERIOD: Duration = Duration::from_secs(60);

/// The sockets of all sessions.
#[derive(Debug)]
pub(crate) struct Descriptors {
    limit: usize,
    flows: Slots,
    queries: Slots,
    warned: Mutex<Option<Instant>>,
}

/// One session may open more than the process can hold. Its text says what to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooFew {
    limit: usize,
    flows: usize,
    wanted: usize,
}

impl Descriptors {
    /// Shares out what the kernel grants this process.
    pub(crate) fn of_process() -> Self {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1_024, |(soft, _)| soft);
        Self::new(usize::try_from(limit).unwrap_or(usize::MAX))
    }

    pub(crate) fn new(limit: usize) -> Self {
        let kept = (limit / KEPT_SHARE).max(KEPT_LEAST).min(limit / 2);
        // Half of what is kept may be queries to the nameserver.
        let (flows, queries) = (Slots::new(limit - kept), Slots::new((kept / 2).max(1)));
        Self { limit, flows, queries, warned: Mutex::default() }
    }

    /// A place for one flow's socket; whoever gets none counts it.
    pub(crate) fn claim(&self) -> Option<Slot> {
        let slot = self.flows.claim();
        if slot.is_none() {
            self.warn(Instant::now());
        }
        slot
    }

    /// A place for one query's socket.
    pub(crate) fn claim_query(&self) -> Option<Slot> {
        self.queries.claim()
    }

    /// The kernel itself had none left: something else of this process, or of the machine, has them.
    pub(crate) fn ran_out(&self) {
        self.warn(Instant::now());
    }

    /// Whether one session alone may want more than there is.
    ///
    /// # Errors
    /// [`TooFew`], for a warning at the start.
    pub(crate) fn hold(&self, limits: &Limits) -> Result<(), TooFew> {
        let (wanted, flows) = (limits.streams.saturating_add(limits.udp_flows), self.flows.most());
        if wanted <= flows { Ok(()) } else { Err(TooFew { limit: self.limit, flows, wanted }) }
    }

    fn warn(&self, now: Instant) -> bool {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = warned.is_none_or(|last| now.saturating_duration_since(last) >= WARN_PERIOD);
        if is_due {
            *warned = Some(now);
            let (limit, flows) = (self.limit, self.flows.used());
            tracing::warn!(
                limit,
                flows,
                "no descriptor is left for new flows, which fail until others end: raise the limit of open files (LimitNOFILE= of systemd, ulimit -n)"
            );
        }
        is_due
    }
}

impl fmt::Display for TooFew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, flows, wanted } = self;
        write!(
            f,
            "one session may have {wanted} flows (limits.streams and limits.udp_flows), but with {limit} open files this process can hold \
             {flows}, of all sessions together: raise the limit of open files (LimitNOFILE= of systemd, ulimit -n), or lower those limits"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_leave_a_share_to_everything_else() {
        for (limit, of_flows, of_queries) in [(8_192, 7_168, 512), (128, 64, 32), (1, 1, 1)] {
            let descriptors = Descriptors::new(limit);
            let flows: Vec<_> = std::iter::from_fn(|| descriptors.claim()).collect();
            let queries: Vec<_> = std::iter::from_fn(|| descriptors.claim_query()).collect();
            assert_eq!((flows.len(), queries.len()), (of_flows, of_queries), "{limit}");
            drop(flows);
            assert!(descriptors.claim().is_some());
        }
    }

    #[test]
    fn running_out_is_said_once_a_minute() {
        let (descriptors, start) = (Descriptors::new(8), Instant::now());
        let said: Vec<_> =
            [0, 1, 59, 60, 61].map(|second| descriptors.warn(start + Duration::from_secs(second))).into();
        assert_eq!(said, [true, false, false, true, false]);
    }

    #[test]
    fn limits_that_cannot_be_held_are_told_with_the_remedy() {
        let limits = Limits::default();
        assert_eq!(Descriptors::new(20_000).hold(&limits), Ok(()));
        let told = Descriptors::new(1_024).hold(&limits).unwrap_err().to_string();
        assert!(told.contains(" 896") && told.contains("LimitNOFILE") && told.contains("limits.streams"), "{told}");
    }
}
