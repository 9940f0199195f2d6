//! [`Event`]: what a [`super::Reassembler`] says about a flow, and [`FlowId`], which flow.

use std::{borrow::Cow, net::SocketAddr};

/// A connection between a client and the target, as long as it lives. No two that live have the same; a number comes again after 2^32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(u32);

impl FlowId {
    pub(super) const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn as_u32(self) -> u32 {
        self.0
    }
}

/// What became known of a flow: [`Event::Opened`] first, then [`Event::Bytes`] and [`Event::Gap`] in the stream's order, and
/// [`Event::Finished`], [`Event::Reset`] or [`Event::Gone`] once, as the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// It is open.
    Opened {
        /// Who sends.
        client: SocketAddr,
        /// The target.
        server: SocketAddr,
        /// Whether its stream is seen from the first byte: the SYN was seen, and a segment that shows the handshake to be completed.
        from_start: bool,
    },
    /// The next bytes of its stream.
    Bytes {
        /// At least one. Borrowed from the segment that came, or owned when they waited for another.
        bytes: Cow<'a, [u8]>,
        /// Whether a segment began with the first of them.
        starts_segment: bool,
        /// Whether the last of them is a segment's last, and that had PSH.
        pushed: bool,
    },
    /// The next bytes of its stream are missing.
    Gap {
        /// How many, at least one.
        bytes: u64,
        /// Why.
        reason: GapReason,
    },
    /// The client sent its FIN, and everything before it has been said.
    Finished,
    /// The client reset it.
    Reset,
    /// It had to go, or went unseen: nothing is known of its end.
    Gone,
}

/// Why bytes are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// The capture ring lost them.
    Ring,
    /// They did not come before what came behind them was too much to hold.
    Held,
    /// They came twice with other content, and which of the two the target took can't be known from outside.
    Conflict,
}
