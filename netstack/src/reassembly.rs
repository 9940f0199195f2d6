//! [`Reassembler`]: what clients send to a target, as bytes in order, from the frames that a tap sees. Passive, and one direction only.
//!
//! Before: [`crate::packet::Packet::parse_captured`], [`Segment::parse`]; after: the tap, which forwards each [`Event`].

mod event;
mod segment;

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use rustc_hash::FxBuildHasher;

pub use self::{
    event::{Event, FlowId, GapReason},
    segment::{Flags, Segment},
};
use crate::moment::Moment;

/// How much a [`Reassembler`] may hold, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Flows, of every kind.
    pub flows: usize,
    /// Bytes that one flow may hold behind a hole.
    pub held_bytes_per_flow: usize,
    /// Bytes that all may hold behind holes.
    pub held_bytes: usize,
    /// How long a hole may wait that the ring may have made. One that it can't have made waits for as long as there is room.
    pub hole_patience: Duration,
    /// Flows that were silent for so long become unsettled.
    pub idle: Duration,
}

impl Limits {
    /// For one target.
    pub const DEFAULT: Self = Self {
        flows: 32_768,
        held_bytes_per_flow: 4 << 20,
        held_bytes: 8 << 20,
        hole_patience: Duration::from_secs(1),
        idle: Duration::from_secs(300),
    };
}

/// When the target's sockets were looked at: made by [`Reassembler::ask`], handed back with the answers.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    #[expect(dead_code, reason = "the skeleton asks nothing")]
    at: Moment,
    #[expect(dead_code, reason = "the skeleton asks nothing")]
    epoch: u32,
}

/// What a socket of the target says (`INET_DIAG_INFO`).
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// `tcpi_bytes_received`: counted from the stream's start. Linux counts the FIN as one byte, too.
    pub bytes: u64,
    /// Whether the FIN has been received: the socket's state is CLOSE_WAIT, LAST_ACK, CLOSING or TIME_WAIT.
    pub ended: bool,
}

/// The flows of a tap.
#[derive(Debug)]
pub struct Reassembler {
    flows: HashMap<(SocketAddr, SocketAddr), (FlowId, u32), FxBuildHasher>,
    next: u32,
    epoch: u32,
}

impl Reassembler {
    /// No flows. The `seed` must be unpredictable for who sends to the target.
    pub fn new(_limits: Limits, _seed: u64) -> Self {
        Self { flows: HashMap::default(), next: 0, epoch: 0 }
    }

    /// Takes a segment in; every event that follows from it, of its flow and of others that had to go for it, goes into `sink`.
    pub fn segment<'a>(&mut self, segment: &Segment<'a>, _now: Moment, sink: &mut impl FnMut(FlowId, Event<'a>)) {
        let key = (segment.client, segment.server);
        if segment.flags.contains(Flags::SYN) {
            self.next = self.next.wrapping_add(1);
            let id = FlowId::new(self.next);
            self.flows.insert(key, (id, segment.seq.wrapping_add(1)));
            sink(id, Event::Opened { client: segment.client, server: segment.server, from_start: true });
            return;
        }
        let Some((id, next)) = self.flows.get_mut(&key).filter(|(_, next)| *next == segment.seq) else { return };
        let len = u32::try_from(segment.payload.len()).expect("a packet is less than 4 GiB");
        *next = next.wrapping_add(len);
        if len > 0 {
            let pushed = segment.flags.contains(Flags::PSH);
            sink(*id, Event::Bytes { bytes: segment.payload.into(), starts_segment: true, pushed });
        }
        if segment.flags.contains(Flags::FIN) {
            sink(*id, Event::Finished);
            self.flows.remove(&key);
        }
    }

    /// The ring lost frames between the segment before and the one that comes next.
    pub const fn lost(&mut self) {
        self.epoch += 1;
    }

    /// Call this, then look at the target's sockets, then hand in every frame that was captured by then, and then answer with
    /// [`Reassembler::settle`] or [`Reassembler::gone`] for each of [`Reassembler::unsettled`].
    pub const fn ask(&self, now: Moment) -> Asked {
        Asked { at: now, epoch: self.epoch }
    }

    /// Whether [`Reassembler::unsettled`] may have any. O(1).
    pub const fn is_unsettled(&self) -> bool {
        false
    }

    /// The flows of which the target's sockets know more than was seen: (client, server). O(n).
    pub fn unsettled(&self) -> impl Iterator<Item = (SocketAddr, SocketAddr)> {
        std::iter::empty()
    }

    /// The target has a socket for this flow, and this is what it says.
    pub fn settle(
        &mut self,
        (_client, _server): (SocketAddr, SocketAddr),
        _received: Received,
        _asked: Asked,
        _now: Moment,
        _sink: &mut impl FnMut(FlowId, Event<'static>),
    ) {
    }

    /// The target has no socket for this flow.
    pub fn gone(
        &mut self,
        (_client, _server): (SocketAddr, SocketAddr),
        _asked: Asked,
        _now: Moment,
        _sink: &mut impl FnMut(FlowId, Event<'static>),
    ) {
    }

    /// Forgets, with [`Event::Gone`], the flows that are not to be kept any more: `keep(client, server)`. O(n).
    pub fn retain(
        &mut self,
        mut keep: impl FnMut(SocketAddr, SocketAddr) -> bool,
        sink: &mut impl FnMut(FlowId, Event<'static>),
    ) {
        self.flows.retain(|&(client, server), &mut (id, _)| {
            let kept = keep(client, server);
            if !kept {
                sink(id, Event::Gone);
            }
            kept
        });
    }

    /// Does what is due by `now`.
    pub fn timeout(&mut self, _now: Moment, _sink: &mut impl FnMut(FlowId, Event<'static>)) {}

    /// When [`Reassembler::timeout`] is due.
    pub const fn poll_at(&self) -> Option<Moment> {
        None
    }
}
