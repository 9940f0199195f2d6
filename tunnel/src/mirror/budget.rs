//! How much the mirrored flows of a session may hold: what a listener has not taken yet, requests on trial, heads that are not whole.
//!
//! A flow may hold as much as is still free of it: one alone gets half, and many share it without any of them taking the rest's part.
//! All flows run on one thread. Used by [`super::copy`] and [`super::connection`].

use std::{cell::Cell, rc::Rc};

/// Bytes for all flows of a session. When a flow may hold no more, it loses its copy from there on, which is counted.
pub(super) const BUDGET_BYTES: usize = 32 << 20;

/// What all flows hold together.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    held: Rc<Cell<usize>>,
    most: usize,
}

impl Budget {
    pub(super) fn new(most: usize) -> Self {
        Self { held: Rc::default(), most }
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held.get()
    }

    /// A flow's part of it.
    pub(super) fn share(&self) -> Share {
        Share { budget: self.clone(), bytes: 0 }
    }
}

/// One flow's part; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Budget,
    bytes: usize,
}

impl Share {
    /// The flow holds this much.
    pub(super) fn set(&mut self, bytes: usize) {
        self.budget.held.set(self.budget.held.get() + bytes - self.bytes);
        self.bytes = bytes;
    }

    /// Whether the flow may hold this much.
    pub(super) fn admits(&self, bytes: usize) -> bool {
        bytes <= self.bytes || bytes <= self.room()
    }

    /// As much as the flow may hold: no more than is free.
    pub(super) fn room(&self) -> usize {
        self.budget.most.saturating_sub(self.budget.held.get())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_flow_gets_half_and_others_still_something() {
        let budget = Budget::new(1_000);
        let mut one = budget.share();
        while one.admits(one.bytes + 10) {
            one.set(one.bytes + 10);
        }
        assert_eq!(one.bytes, 500);
        let mut other = budget.share();
        while other.admits(other.bytes + 10) {
            other.set(other.bytes + 10);
        }
        assert_eq!(other.bytes, 250);
        drop((one, other));
        assert_eq!(budget.held.get(), 0);
    }
}
