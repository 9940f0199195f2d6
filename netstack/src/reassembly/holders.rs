//! [`Holders`]: the flows that hold bytes behind a hole, by how much, and those that wait, by how long. Used by [`super::Reassembler`].

use super::Chain;

/// A list per power of two.
const SIZES: usize = usize::BITS as usize;

#[derive(Debug)]
pub(super) struct Holders {
    sizes: Chain<SIZES>,
    waiting: Chain<1>,
    held: Vec<usize>,
    bytes: usize,
}

impl Holders {
    pub(super) const fn new() -> Self {
        Self { sizes: Chain::new(), waiting: Chain::new(), held: Vec::new(), bytes: 0 }
    }

    /// What all hold.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The flow holds `bytes`.
    pub(super) fn set_held(&mut self, index: u32, bytes: usize) {
        let at = index as usize;
        if self.held.len() <= at {
            self.held.resize(at + 1, 0);
        }
        let before = std::mem::replace(&mut self.held[at], bytes);
        self.bytes = self.bytes - before + bytes;
        match (before.checked_ilog2(), bytes.checked_ilog2()) {
            (before, after) if before == after => {}
            (_, Some(size)) => self.sizes.push(index, size as usize),
            (_, None) => self.sizes.remove(index),
        }
    }

    /// One of those that hold the most, the first that came to hold so much.
    pub(super) fn largest(&self) -> Option<u32> {
        (0..SIZES).rev().find_map(|size| self.sizes.first(size))
    }

    /// The flow waits, from this moment on.
    pub(super) fn wait(&mut self, index: u32) {
        self.waiting.push(index, 0);
    }

    pub(super) fn wait_no_more(&mut self, index: u32) {
        self.waiting.remove(index);
    }

    /// Who waits the longest.
    pub(super) const fn first(&self) -> Option<u32> {
        self.waiting.first(0)
    }
}
