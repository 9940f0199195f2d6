//! Bytes that anyone can make and check: a transfer that lost, doubled or moved any is found out.
//!
//! One block of noise of a prime length, repeated without end. A shift shows at once, and a loss that is a multiple of
//! the block, which alone would not, changes the total.

use std::{io, sync::LazyLock};

use bytes::Bytes;

/// Length of the block in bytes: the largest prime below 1 MiB, so no power of two falls on its borders.
const BLOCK_BYTES: usize = 1_048_573;

static BLOCK: LazyLock<Bytes> = LazyLock::new(|| {
    let mut block = vec![0; BLOCK_BYTES];
    let mut state = 0xad17_u64;
    for chunk in block.chunks_mut(8) {
        let noise = splitmix(&mut state).to_le_bytes();
        chunk.copy_from_slice(&noise[..chunk.len()]);
    }
    block.into()
});

/// The bytes from `offset` on, at most `max` of them and never none (but for a `max` of 0), without a copy.
pub fn slice(offset: u64, max: usize) -> Bytes {
    let start = usize::try_from(offset % BLOCK_BYTES as u64).expect("less than the block's length");
    BLOCK.slice(start..BLOCK_BYTES.min(start.saturating_add(max)))
}

/// Checks a stream against the pattern as it comes in.
#[derive(Debug, Clone, Copy, Default)]
pub struct Checker {
    offset: u64,
    first_difference: Option<u64>,
}

impl Checker {
    /// Takes the next bytes of the stream.
    pub fn feed(&mut self, mut received: &[u8]) {
        while !received.is_empty() {
            let expected = slice(self.offset, received.len());
            let (now, later) = received.split_at(expected.len());
            if self.first_difference.is_none() && now != expected {
                let at = now.iter().zip(&expected).position(|(received, expected)| received != expected);
                self.first_difference = Some(self.offset + at.unwrap_or_default() as u64);
            }
            self.offset += now.len() as u64;
            received = later;
        }
    }

    /// How many bytes came in.
    pub fn bytes(&self) -> u64 {
        self.offset
    }

    /// Offset of the first byte that was not the pattern's; none when all were.
    pub fn first_difference(&self) -> Option<u64> {
        self.first_difference
    }

    /// The verdict in a word for each end: the number of bytes, and `intact` or where it differs.
    pub fn report(&self) -> String {
        match self.first_difference {
            None => format!("{} intact", self.offset),
            Some(at) => format!("{} differs at {at}", self.offset),
        }
    }
}

impl io::Write for Checker {
    fn write(&mut self, received: &[u8]) -> io::Result<usize> {
        self.feed(received);
        Ok(received.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): noise enough to make every shift visible.
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut noise = *state;
    noise = (noise ^ (noise >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    noise = (noise ^ (noise >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    noise ^ (noise >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(bytes: usize) -> Vec<u8> {
        let mut made = Vec::new();
        while made.len() < bytes {
            let next = slice(made.len() as u64, bytes - made.len());
            made.extend_from_slice(&next);
        }
        made
    }

    #[test]
    fn the_pattern_in_any_pieces_is_intact() {
        let sent = pattern(3 * BLOCK_BYTES + 17);
        for piece in [1_000, 4_096, BLOCK_BYTES, sent.len()] {
            let mut checker = Checker::default();
            sent.chunks(piece).for_each(|received| checker.feed(received));
            assert_eq!(checker.report(), format!("{} intact", sent.len()));
        }
    }

    #[test]
    fn a_lost_byte_is_found_where_it_was() {
        let mut sent = pattern(2 * BLOCK_BYTES);
        sent.remove(1_500_000);
        let mut checker = Checker::default();
        checker.feed(&sent);
        let at = checker.first_difference().expect("a difference");
        // The byte after the lost one may happen to equal it.
        assert!((1_500_000..1_500_010).contains(&at), "{at}");
    }
}
