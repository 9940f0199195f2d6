//! [`Counts`]: what the target's program, or the listener, has read so far. Before: [`super::server`]; after: [`mod@super::copy`],
//! [`mod@super::flows`].

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::server::COUNTS;

/// For an answer of a program that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a program has read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Counts {
    /// Connections, those that ask for counts left out.
    pub(super) connections: u64,
    /// Those that are open.
    pub(super) open: u64,
    /// Requests that were whole.
    pub(super) requests: u64,
    /// All bytes of connections, those first ones included.
    pub(super) bytes: u64,
    /// Datagrams.
    pub(super) datagrams: u64,
    /// When each message of the timed connections was read, in nanoseconds of the machine's monotonic clock.
    pub(super) times: Vec<u64>,
    /// Connections with a number that came to their end.
    pub(super) numbered: BTreeMap<u32, Numbered>,
}

/// All that was read of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Numbered {
    pub(super) bytes: u64,
    pub(super) hash: u64,
}

impl Counts {
    /// Asks the program at `address`, from the calling thread's namespace.
    pub(super) fn ask(address: SocketAddr) -> Result<Self> {
        let mut stream = TcpStream::connect(address).with_context(|| format!("nobody counts at {address}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&[COUNTS])?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// Tells streams apart, at a tenth of the cost of reading them; nobody here means to deceive it.
#[derive(Debug, Default)]
pub(super) struct Hash {
    state: u64,
    /// Fewer than 8 bytes that wait for more.
    rest: Vec<u8>,
}

impl Hash {
    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        if !self.rest.is_empty() {
            let missing = (8 - self.rest.len()).min(bytes.len());
            self.rest.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            let Some(word) = self.rest.first_chunk() else { return };
            self.word(u64::from_le_bytes(*word));
            self.rest.clear();
        }
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        self.rest.extend_from_slice(rest);
    }

    pub(super) fn finish(mut self) -> u64 {
        let mut last = [0xff; 8];
        last[..self.rest.len()].copy_from_slice(&self.rest);
        self.word(u64::from_le_bytes(last));
        self.state
    }

    const fn word(&mut self, word: u64) {
        // An odd factor with bits all over: the golden ratio's.
        self.state = (self.state.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_depends_on_the_bytes_and_not_on_how_they_were_cut() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1_003).collect();
        let of = |cut: usize, bytes: &[u8]| {
            let mut hash = Hash::default();
            bytes.chunks(cut).for_each(|chunk| hash.take(chunk));
            hash.finish()
        };
        let whole = of(2_000, &bytes);
        assert!((1..30).all(|cut| of(cut, &bytes) == whole));
        assert_ne!(of(7, &bytes[1..]), whole);
        assert_ne!(of(7, &bytes[..1_002]), whole);
    }
}
