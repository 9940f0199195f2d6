//! [`Counts`]: what one rule copied of one replica, and what it did not. Written by [`super::fanout`], [`super::feed`] and
//! [`super::writer`], read by [`super::report`].

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use link::rules::{Loss, LossReason, MirrorCounts};

/// Reasons that have a number of their own, and one place for all others.
const REASONS: [LossReason; 8] = [
    LossReason::Ring,
    LossReason::Reassembly,
    LossReason::Lag,
    LossReason::Sample,
    LossReason::Rate,
    LossReason::Existing,
    LossReason::Absent,
    LossReason::Unknown,
];

/// The place of a reason in [`REASONS`].
pub(super) const fn index(reason: LossReason) -> usize {
    match reason {
        LossReason::Unknown => REASONS.len() - 1,
        LossReason::Ring
        | LossReason::Reassembly
        | LossReason::Lag
        | LossReason::Sample
        | LossReason::Rate
        | LossReason::Existing
        | LossReason::Absent => reason as usize,
    }
}

/// The counters. Each is right by itself; together they are of about one moment.
#[derive(Debug, Default)]
pub(super) struct Counts {
    open: AtomicU64,
    total: AtomicU64,
    from_middle: AtomicU64,
    bytes: AtomicU64,
    datagrams: AtomicU64,
    lost: [Lost; REASONS.len()],
}

#[derive(Debug, Default)]
struct Lost {
    flows: AtomicU64,
    bytes: AtomicU64,
    datagrams: AtomicU64,
}

impl Counts {
    /// A flow begins to be copied.
    pub(super) fn open(&self, from_start: bool) {
        self.open.fetch_add(1, Relaxed);
        self.total.fetch_add(1, Relaxed);
        self.from_middle.fetch_add(u64::from(!from_start), Relaxed);
    }

    /// A flow's copy ended.
    pub(super) fn close(&self) {
        self.open.fetch_sub(1, Relaxed);
    }

    /// Payload was handed to the link.
    pub(super) fn hand_on(&self, bytes: u64, datagrams: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
        self.datagrams.fetch_add(datagrams, Relaxed);
    }

    /// Something was not copied.
    pub(super) fn lose(&self, reason: LossReason, loss: Loss) {
        let lost = &self.lost[index(reason)];
        lost.flows.fetch_add(loss.flows, Relaxed);
        lost.bytes.fetch_add(loss.bytes, Relaxed);
        lost.datagrams.fetch_add(loss.datagrams, Relaxed);
    }

    /// As they are told to the session.
    pub(super) fn read(&self) -> MirrorCounts {
        let lost = REASONS.into_iter().zip(&self.lost).map(|(reason, lost)| (reason, lost.read()));
        MirrorCounts {
            open: self.open.load(Relaxed),
            total: self.total.load(Relaxed),
            from_middle: self.from_middle.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            datagrams: self.datagrams.load(Relaxed),
            lost: lost.filter(|(_, loss)| *loss != Loss::default()).collect(),
        }
    }
}

impl Lost {
    fn read(&self) -> Loss {
        let Self { flows, bytes, datagrams } = self;
        Loss { flows: flows.load(Relaxed), bytes: bytes.load(Relaxed), datagrams: datagrams.load(Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_counted_at_its_own_place() {
        let counts = Counts::default();
        for (at, reason) in (1..).zip(REASONS) {
            counts.lose(reason, Loss { flows: at, bytes: 10 * at, datagrams: 100 * at });
        }
        let lost = counts.read().lost;
        assert_eq!(lost.len(), REASONS.len());
        for (at, reason) in (1..).zip(REASONS) {
            assert_eq!(lost[&reason], Loss { flows: at, bytes: 10 * at, datagrams: 100 * at });
        }
    }
}
