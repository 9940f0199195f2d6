//! [`Queue`]: bytes that a listener has not taken yet, copied out of the packets they came in, so that what is counted is what is held.

use std::collections::VecDeque;

/// A block grows up to this.
const BLOCK_BYTES: usize = 64 << 10;

/// Bytes in blocks.
#[derive(Debug, Default)]
pub(super) struct Queue {
    blocks: VecDeque<Vec<u8>>,
    /// Bytes of the first block that have been taken.
    taken: usize,
    len: usize,
    capacity: usize,
}

impl Queue {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The memory it takes.
    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn append(&mut self, mut bytes: &[u8]) {
        self.len += bytes.len();
        while !bytes.is_empty() {
            let block = match self.blocks.back_mut() {
                Some(block) if block.len() < BLOCK_BYTES => block,
                Some(_) | None => self.blocks.push_back_mut(Vec::new()),
            };
            let (now, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - block.len()));
            let before = block.capacity();
            block.extend_from_slice(now);
            self.capacity += block.capacity() - before;
            bytes = rest;
        }
    }

    /// The bytes, in order.
    pub(super) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let skip = |at| if at == 0 { self.taken } else { 0 };
        self.blocks.iter().enumerate().map(move |(at, block)| &block[skip(at)..])
    }

    /// Takes so many bytes from the front, at most all.
    pub(super) fn take(&mut self, mut bytes: usize) {
        self.len -= bytes;
        self.taken += std::mem::take(&mut bytes);
        while let Some(block) = self.blocks.front()
            && self.taken >= block.len()
        {
            self.taken -= block.len();
            self.capacity -= block.capacity();
            self.blocks.pop_front();
        }
    }

    /// Drops so many bytes from the back, at most all.
    pub(super) fn drop_back(&mut self, mut bytes: usize) {
        self.len -= bytes;
        while bytes > 0
            && let Some(block) = self.blocks.back_mut()
        {
            let now = bytes.min(block.len());
            block.truncate(block.len() - now);
            bytes -= now;
            if block.is_empty() {
                self.capacity -= block.capacity();
                self.blocks.pop_back();
            }
        }
        if self.len == 0 {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_plain_queue_would(steps in proptest::collection::vec((0u8..3, 0usize..90_000), 0..20)) {
            let (mut queue, mut plain) = (Queue::default(), VecDeque::new());
            for (step, amount) in steps {
                match step {
                    0 => {
                        let bytes: Vec<u8> = (0..amount).map(|at| (at % 251) as u8).collect();
                        queue.append(&bytes);
                        plain.extend(bytes);
                    }
                    1 => {
                        let amount = amount.min(plain.len());
                        queue.take(amount);
                        plain.drain(..amount);
                    }
                    _ => {
                        let amount = amount.min(plain.len());
                        queue.drop_back(amount);
                        plain.truncate(plain.len() - amount);
                    }
                }
                prop_assert_eq!(queue.len(), plain.len());
                prop_assert_eq!(queue.capacity(), queue.blocks.iter().map(Vec::capacity).sum::<usize>());
            }
            let held: Vec<u8> = queue.slices().flatten().copied().collect();
            prop_assert_eq!(held, Vec::from(plain));
        }
    }
}
