//! [`Reassembler`]: what clients send to a target, as bytes in order, from the frames that a tap sees. Passive, and one direction only.
//!
//! Owns the flows of a tap, how many there may be, and how much they may hold. Does not own the frames ([`crate::packet`]), what the tap
//! asks the target's sockets, nor what becomes of the events. Before: [`crate::packet::Packet::parse_captured`] and
//! [`Segment::parse`]; after: the tap, which forwards each [`Event`]. A segment's way:
//!
//! 1. [`Reassembler::segment`]: [`flows`] finds its flow by [`key`];
//! 2. [`handshake`] decides whether it opens one;
//! 3. [`stream`] passes it on in order, has it held ([`held`]), or finds a gap;
//! 4. [`bounds`] keeps what is held, by [`holders`], and the flows within [`Limits`];
//! 5. [`settlement`]: what the target's own sockets say of flows that may have gone unseen, and [`unseen`] of those that were not seen at
//!    all or only from their middle; [`expiry`]: what time decides.
//!
//! # What comes out
//!
//! The bytes that the target's application reads, in their order, each once, or an [`Event::Gap`] of exactly as many as are missing. What
//! a side that only listens to the client can't see limits this; in each case a client would have to work against itself:
//!
//! - The target drops segments that are taken here: with a wrong checksum ([`checksum_holds`]), an acknowledgment of what was never
//!   sent, an old timestamp (PAWS), beyond its window, without memory for them. The client sends them again, with the same bytes.
//! - Overlaps of what waits behind a hole are decided as Linux decides them, or are a gap ([`held`]).
//! - Urgent data stays where it is in the stream (`SO_OOBINLINE`); a program that asks for nothing gets the last byte of it by another way.
//! - Who can send with the client's address may end a flow here, or open one, by what a target would challenge (RFC 5961): a SYN and what
//!   continues it, or, after the ring lost something, a reset that is not exact. Live flows that the target has confirmed do not go for
//!   such ones.

mod bounds;
mod chain;
mod event;
mod expiry;
mod flows;
mod handshake;
mod held;
mod holders;
mod key;
mod limits;
mod segment;
mod settlement;
mod stream;
mod unseen;

use self::{
    chain::Chain,
    flows::{Class, Flows, State},
    handshake::{Embryo, Follow},
    held::Arrival,
    holders::Holders,
    key::Key,
    stream::{Arrived, Standing, Stream},
    unseen::Unseen,
};
pub use self::{
    event::{Event, FlowId, GapReason},
    limits::Limits,
    segment::{Flags, Segment, checksum_holds},
    settlement::{Asked, Received},
};
use crate::moment::Moment;

/// A flow's place among those of its age is right to this.
const AGE_MICROS: u64 = 1_000_000;

/// The flows of a tap.
///
/// Every moment is one of the frames' clock: [`Reassembler::segment`] needs to know when a frame was captured, not when it is looked at, or
/// a tap that was stopped would take what it missed for nothing.
#[derive(Debug)]
pub struct Reassembler {
    limits: Limits,
    flows: Flows,
    holders: Holders,
    unseen: Unseen,
    /// How often the ring has lost something.
    epoch: u32,
    /// The epoch when the target was asked last.
    asked_epoch: u32,
}

impl Reassembler {
    /// No flows. The `seed` must be unpredictable for those who send to the target.
    pub fn new(limits: Limits, seed: u64) -> Self {
        let (flows, unseen) = (Flows::new(limits, seed), Unseen::new(limits.flows, seed));
        Self { limits, flows, holders: Holders::new(), unseen, epoch: 1, asked_epoch: 1 }
    }

    /// Takes in a segment that was captured at `now`; every event that follows from it, of its flow and of others that had to go for it,
    /// goes into `sink`. The order between segments need not be that of capture, but is best near it.
    pub fn segment<'a>(&mut self, segment: &Segment<'a>, now: Moment, sink: &mut impl FnMut(FlowId, Event<'a>)) {
        let key = Key::new(segment.client, segment.server);
        let Some(index) = self.flows.find(key) else { return self.stranger(key, segment, now, sink) };
        match &mut self.flows.slot_mut(index).state {
            State::Open(_) => self.continue_open(index, segment, now, sink),
            State::Embryo(embryo) if segment.opens() => embryo.repeat(segment, self.epoch),
            State::Embryo(embryo) => match embryo.follow(segment, self.epoch) {
                Follow::Start { first, early, epoch } => {
                    self.open_from_start(index, (first, epoch), &early, now, sink);
                    self.continue_open(index, segment, now, sink);
                }
                Follow::Refusal => self.flows.remove(index),
                Follow::Stranger if joins(segment) => {
                    self.flows.remove(index);
                    self.stranger(key, segment, now, sink);
                }
                Follow::Stranger => {}
            },
            // One that opened what has ended may come again, late.
            State::Ended { first, .. } if segment.opens() && *first != Some(segment.seq.wrapping_add(1)) => {
                self.flows.remove(index);
                self.stranger(key, segment, now, sink);
            }
            State::Ended { .. } | State::Free => {}
        }
    }

    /// The ring's statistics show that it lost something before the segment that comes next.
    pub const fn lost(&mut self) {
        self.epoch += 1;
    }

    /// Open flows.
    pub const fn flows(&self) -> usize {
        self.flows.open()
    }

    /// What is held behind holes, counted as [`Limits`] does.
    pub const fn held_bytes(&self) -> usize {
        self.holders.bytes()
    }

    /// Forgets, with [`Event::Gone`], the flows that are not to be kept any more: `keep(client, server)`. O(n).
    pub fn retain<'a>(
        &mut self,
        mut keep: impl FnMut(std::net::SocketAddr, std::net::SocketAddr) -> bool,
        sink: &mut impl FnMut(FlowId, Event<'a>),
    ) {
        for index in self.flows.indices() {
            let slot = self.flows.slot(index);
            if !matches!(slot.state, State::Free) && !keep(slot.key.client(), slot.key.server()) {
                self.evict(index, sink);
                if self.flows.indices().is_empty() {
                    break;
                }
            }
        }
        self.unseen.retain(|key| keep(key.client(), key.server()));
    }

    /// A segment of no flow that is known.
    fn stranger<'a>(&mut self, key: Key, segment: &Segment<'a>, now: Moment, sink: &mut impl FnMut(FlowId, Event<'a>)) {
        if segment.opens() {
            self.make_room(Class::Embryo, sink);
            self.flows.add(key, State::Embryo(Embryo::new(segment, self.epoch)), Class::Embryo, now);
        } else if joins(segment) {
            self.make_room(Class::Seen, sink);
            let stream = Stream::from_middle(segment.seq, self.epoch, now, now + self.limits.hole_patience);
            let index = self.flows.add(key, State::Open(stream), Class::Seen, now);
            self.ask_about(index, settlement::BASE);
            let id = self.flows.number(index);
            sink(id, Event::Opened { client: segment.client, server: segment.server, from_start: false });
            self.continue_open(index, segment, now, sink);
        }
    }

    /// Opens a flow whose stream begins at sequence number `first`, as was known when `epoch` began.
    fn open_from_start<'a>(
        &mut self,
        index: u32,
        (first, epoch): (u32, u32),
        early: &[u8],
        now: Moment,
        sink: &mut impl FnMut(FlowId, Event<'a>),
    ) {
        self.make_room(Class::Seen, sink);
        let mut stream = Stream::from_start(first, epoch, now);
        let id = self.flows.number(index);
        let key = self.flows.slot(index).key;
        self.unseen.forget(key);
        sink(id, Event::Opened { client: key.client(), server: key.server(), from_start: true });
        if !early.is_empty() {
            let held = stream.held.get_or_insert_default();
            held.insert(Arrival { start: 0, payload: early, fin: false, pushed: false, epoch });
            stream.drain(&mut |event| sink(id, event));
        }
        let slot = self.flows.slot_mut(index);
        (slot.state, slot.opened) = (State::Open(stream), now);
        self.flows.place(index, Class::Seen, now);
    }

    fn continue_open<'a>(
        &mut self,
        index: u32,
        segment: &Segment<'a>,
        now: Moment,
        sink: &mut impl FnMut(FlowId, Event<'a>),
    ) {
        let epoch = self.epoch;
        let slot = self.flows.slot_mut(index);
        let State::Open(stream) = &mut slot.state else { return };
        if segment.flags.contains(Flags::SYN) && !segment.flags.contains(Flags::RST) {
            // RFC 5961 4.2: it changes nothing by itself. The client's reset follows, or what continues this SYN.
            stream.rival = handshake::rival(segment, stream.first(), stream.ahead(segment.seq));
            return;
        }
        if let Some(first) =
            stream.rival.filter(|&rival| handshake::continues(segment, rival, stream.ahead(segment.seq)))
        {
            sink(slot.id, Event::Gone);
            self.close(index);
            self.flows.place(index, Class::Embryo, now);
            self.open_from_start(index, (first, epoch), &[], now, sink);
            return self.continue_open(index, segment, now, sink);
        }
        let arrived = Arrived { now, epoch, silence: now.since(slot.seen) };
        let id = slot.id;
        slot.seen = slot.seen.max(now);
        let standing = stream.accept(segment, arrived, &mut |event| sink(id, event));
        let at_rest = !stream.waits() && !stream.unsure && slot.waiting.is_none();
        if now.since(slot.placed).as_micros() >= AGE_MICROS.into() {
            self.refresh(index, now);
        }
        if standing != Standing::Open || !at_rest {
            self.conclude(index, standing, now, sink);
        }
    }

    /// It is alive: the youngest of its class.
    fn refresh(&mut self, index: u32, now: Moment) {
        self.flows.place(index, self.flows.class(index), now);
        self.answered(index, settlement::IDLE);
    }
}

/// Whether a segment of an unknown flow shows that there is one: payload does. A single byte that was not pushed may be that of a
/// keep-alive, which no application gets.
fn joins(segment: &Segment<'_>) -> bool {
    let controls = Flags::SYN.0 | Flags::RST.0 | Flags::ACK.0;
    let keep_alive = segment.payload.len() == 1 && !segment.flags.contains(Flags::PSH);
    segment.flags.0 & controls == Flags::ACK.0 && !segment.payload.is_empty() && !keep_alive
}
