//! [`Budget`]: how much the flows of one session may hold between stream and socket before they must go in small steps.
//!
//! What is read from a stream has left QUIC's windows, and what is read from a socket the kernel's, so without it a session with many
//! flows whose far ends do not read would take memory that nothing else bounds.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes held by all flows of a session, and the number above which each takes [`super::SPARING_BYTES`] at a time. Never waits.
#[derive(Debug)]
pub struct Budget {
    held: AtomicUsize,
    most: usize,
}

impl Budget {
    /// Room for `most` bytes.
    pub const fn new(most: usize) -> Self {
        Self { held: AtomicUsize::new(0), most }
    }

    /// Bytes held now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn is_spent(&self) -> bool {
        self.held() >= self.most
    }
}

/// One flow's part of it; given back when dropped.
#[derive(Debug)]
pub(super) struct Held<'a> {
    budget: &'a Budget,
    bytes: usize,
}

impl<'a> Held<'a> {
    pub(super) const fn nothing(budget: &'a Budget) -> Self {
        Self { budget, bytes: 0 }
    }

    /// Whether all flows together hold as much as they may.
    pub(super) fn must_spare(&self) -> bool {
        self.budget.is_spent()
    }

    /// The flow holds this much.
    pub(super) fn set(&mut self, bytes: usize) {
        if bytes != self.bytes {
            // Added first, so that the sum is never below what is held.
            self.budget.held.fetch_add(bytes, Ordering::Relaxed);
            self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
            self.bytes = bytes;
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.set(0);
    }
}
