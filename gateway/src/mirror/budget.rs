//! [`Budget`]: what the mirrored flows of one session may have waiting, all together. Pure.
//!
//! A flow may hold at most as much as is still free: one alone gets half of the budget, nine get a tenth each, and there is always room
//! for one more. So a flow that nobody takes never takes the room of the others.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes that wait, and how many may.
#[derive(Debug)]
pub(super) struct Budget {
    held: AtomicUsize,
    most: usize,
}

impl Budget {
    /// Room for so many bytes.
    pub(super) const fn new(most: usize) -> Self {
        Self { held: AtomicUsize::new(0), most }
    }

    /// What a flow may hold at this moment.
    pub(super) fn free(&self) -> usize {
        self.most.saturating_sub(self.held())
    }

    /// Bytes that wait, of all flows.
    pub(super) fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    pub(super) fn take(&self, bytes: usize) {
        self.held.fetch_add(bytes, Relaxed);
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_flow_gets_half_and_many_share() {
        for flows in [1, 3, 9] {
            let budget = Budget::new(1_000);
            let mut held = vec![0; flows];
            for turn in 0..10_000 {
                let flow = &mut held[turn % flows];
                if *flow < budget.free() {
                    *flow += 1;
                    budget.take(1);
                }
            }
            let fair = 1_000 / (flows + 1);
            assert!(held.iter().all(|held| held.abs_diff(fair) <= 1), "{flows}: {held:?}");
            assert!(budget.free() >= fair - flows);
            budget.give_back(held[0]);
            assert!(budget.free() > fair);
        }
    }
}
