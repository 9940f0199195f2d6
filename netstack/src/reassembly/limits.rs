//! [`Limits`]: how much a [`super::Reassembler`] may hold, how many flows, and for how long.

use std::time::Duration;

/// Bounds of memory and of patience.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open connections. Beside them as many as a quarter each of half-open ones and of ended ones are remembered. About 300 bytes each.
    pub flows: usize,
    /// Bytes, counted with what it costs to keep them, that one flow may hold behind a hole. When exceeded, its first hole becomes a gap.
    pub held_bytes_per_flow: usize,
    /// The same of all flows. When exceeded, a hole of the flow that holds the most (to a power of two) becomes a gap.
    pub held_bytes: usize,
    /// After so long a hole that the ring may have made becomes a gap, and one that it can't have made is asked about.
    pub hole_patience: Duration,
    /// A flow that lost track of its stream is gone after so long without an answer of the target.
    pub doubt_patience: Duration,
    /// Flows that were silent for so long are asked about; after as long again without an answer they are gone.
    pub idle: Duration,
}

impl Limits {
    /// For one target: 10 MiB of flows at the most, and 8 MiB of bytes. A receiver on Linux lets 4 MiB or so be under way
    /// (`tcp_rmem`); a client's second retransmission comes within 1 s. A tap that has next to no processor asks late.
    pub const DEFAULT: Self = Self {
        flows: 20_000,
        held_bytes_per_flow: 4 << 20,
        held_bytes: 8 << 20,
        hole_patience: Duration::from_secs(1),
        doubt_patience: Duration::from_secs(10),
        idle: Duration::from_secs(300),
    };

    /// Half-open connections, and ended ones.
    pub(super) const fn aside(&self) -> usize {
        self.flows.div_ceil(4)
    }

    /// So many open ones that those should be asked about which may be spoofed.
    pub(super) const fn crowd(&self) -> usize {
        self.flows - self.flows / 4
    }
}
