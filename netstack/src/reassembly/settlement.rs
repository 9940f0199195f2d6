//! What the target's own sockets say ([`Received`]), asked for with [`Reassembler::ask`]: how long a gap was that sequence numbers can't
//! measure, whether a hole is one for the target, too, and which flows are over.
//!
//! 1. [`Reassembler::is_unsettled`], after every batch of frames: whether an answer would be of use.
//! 2. [`Reassembler::ask`], then read the sockets of the rules' ports (`sock_diag`, INET_DIAG_INFO), all in one dump.
//! 3. Hand in every frame that was captured before the dump ended. What the target has and has not come by then never will.
//! 4. [`Reassembler::unsettled`]: for each [`Reassembler::settle`] or, when there was no such socket, [`Reassembler::gone`].
//!
//! A dump costs microseconds a socket, so wait 10 ms or more after one before the next.

use std::net::SocketAddr;

use super::{
    Event, FlowId, Reassembler,
    flows::{Class, State},
    key::Key,
    stream::{Base, LostTrack, MAX_WINDOW, Standing, Stream},
};
use crate::moment::Moment;

/// Where the stream was joined is to be known.
pub(super) const BASE: u8 = 1;
/// Where the stream is.
pub(super) const DOUBT: u8 = 2;
/// Whether a hole is one for the target.
pub(super) const HOLE: u8 = 4;
/// Whether it still exists.
pub(super) const IDLE: u8 = 8;

/// How often to ask where a stream was joined that does not rest.
const MAX_ASKS: u8 = 30;

/// Half of what sequence numbers count.
const HALF: i128 = 1 << 31;

/// When the target's sockets were looked at: made by [`Reassembler::ask`], handed back with the answers.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub(super) at: Moment,
    pub(super) epoch: u32,
}

/// What a socket of the target says.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// `tcpi_bytes_received` as it is: from the stream's start on, in order. Linux counts the FIN as a byte.
    pub bytes: u64,
    /// Whether the FIN has been received: the state is CLOSE_WAIT, LAST_ACK or CLOSING. (TIME_WAIT has no count any more:
    /// [`Reassembler::gone`].)
    pub ended: bool,
}

impl Reassembler {
    /// About to look at the target's sockets at `now`.
    pub const fn ask(&mut self, now: Moment) -> Asked {
        self.asked_epoch = self.epoch;
        Asked { at: now, epoch: self.epoch }
    }

    /// The target's sockets are told of at `now`, unasked.
    pub const fn heard(&self, now: Moment) -> Asked {
        Asked { at: now, epoch: self.epoch }
    }

    /// Whether answers would be of use: the ring lost something since the last time, or a flow has a question. O(1).
    pub const fn is_unsettled(&self) -> bool {
        self.epoch != self.asked_epoch || self.flows.questioned > 0 || self.flows.is_crowded()
    }

    /// The flows whose questions an answer would settle: (client, server). O(n).
    pub fn unsettled(&self) -> impl Iterator<Item = (SocketAddr, SocketAddr)> {
        let crowded = self.flows.is_crowded();
        self.flows.indices().filter_map(move |index| {
            let stream = self.flows.stream(index)?;
            let slot = self.flows.slot(index);
            let unconfirmed = crowded && self.flows.class(index) == Class::Seen;
            let unsettled = slot.questions != 0 || stream.epoch != self.epoch || unconfirmed;
            unsettled.then(|| (slot.key.client(), slot.key.server()))
        })
    }

    /// The target has a socket for this flow, and this is what it says. Gives the bytes that the target received before the flow was seen,
    /// or of a flow that never was, and that are newly known to be missing.
    pub fn settle<'a>(
        &mut self,
        (client, server): (SocketAddr, SocketAddr),
        received: Received,
        asked: Asked,
        now: Moment,
        sink: &mut impl FnMut(FlowId, Event<'a>),
    ) -> u64 {
        let key = Key::new(client, server);
        self.open_by_answer(key, received, asked, now, sink);
        if let Some(index) = self.asked_about(key, asked) {
            self.settle_open(index, received, asked, now, sink);
        }
        self.newly_missed(key, received, asked)
    }

    fn settle_open<'a>(
        &mut self,
        index: u32,
        received: Received,
        asked: Asked,
        now: Moment,
        sink: &mut impl FnMut(FlowId, Event<'a>),
    ) {
        let (patience, has_lost) = (self.limits.hole_patience, self.epoch > 1);
        let slot = self.flows.slot_mut(index);
        let (id, seen) = (slot.id, slot.seen);
        let State::Open(stream) = &mut slot.state else { return };
        stream.learn_base(received, seen + patience <= asked.at, asked);
        let base_again = has_lost && stream.asks_again();
        let standing = stream.settle(received, seen <= asked.at, asked, &mut |event| sink(id, event));
        if let Some((since, _)) = &mut slot.waiting
            && stream.is_measured()
        {
            *since = now;
            self.holders.wait(index);
        }
        self.flows.place(index, Class::Confirmed, now);
        self.answered(index, BASE | DOUBT | HOLE | IDLE);
        if base_again {
            self.ask_about(index, BASE);
        }
        self.conclude(index, standing, now, sink);
    }

    /// Only the SYN was seen, and the target has more: the ring lost what shows it.
    pub(super) fn open_by_answer<'a>(
        &mut self,
        key: Key,
        received: Received,
        asked: Asked,
        now: Moment,
        sink: &mut impl FnMut(FlowId, Event<'a>),
    ) {
        let Some(index) = self.flows.find(key).filter(|_| received.payload_bytes() > 0) else { return };
        let slot = self.flows.slot(index);
        let State::Embryo(embryo) = &slot.state else { return };
        if slot.seen <= asked.at && self.epoch > 1 {
            let start = embryo.start();
            self.open_from_start(index, start, &[], now, sink);
            let slot = self.flows.slot_mut(index);
            (slot.opened, slot.seen) = (slot.opened.min(asked.at), slot.seen.min(asked.at));
        }
    }

    /// The target has no socket for this flow.
    pub fn gone<'a>(
        &mut self,
        (client, server): (SocketAddr, SocketAddr),
        asked: Asked,
        now: Moment,
        sink: &mut impl FnMut(FlowId, Event<'a>),
    ) {
        let key = Key::new(client, server);
        let Some(index) = self.asked_about(key, asked) else { return };
        let epoch = self.epoch;
        let slot = self.flows.slot_mut(index);
        let id = slot.id;
        let since = slot.waiting.map_or(now, |(since, _)| since);
        // What came since was sent to a socket, were it that of another connection.
        let State::Open(stream) = &mut slot.state else { return };
        if slot.seen > asked.at {
            return;
        }
        let standing = stream.end(stream.may_have_missed(since, epoch), &mut |event| sink(id, event));
        self.conclude(index, standing, now, sink);
    }

    /// The flow, unless it opened after the question.
    fn asked_about(&mut self, key: Key, asked: Asked) -> Option<u32> {
        let index = self.flows.find(key)?;
        self.flows.stream(index).is_some_and(|_| self.flows.slot(index).opened <= asked.at).then_some(index)
    }

    pub(super) fn ask_about(&mut self, index: u32, question: u8) {
        self.flows.set_questions(index, self.flows.slot(index).questions | question);
    }

    pub(super) fn answered(&mut self, index: u32, questions: u8) {
        let before = self.flows.slot(index).questions;
        if before & questions != 0 {
            self.flows.set_questions(index, before & !questions);
        }
    }
}

impl Received {
    pub(super) const fn payload_bytes(self) -> u64 {
        self.bytes.saturating_sub(self.ended as u64)
    }
}

impl Stream {
    /// Whether what the target counts says exactly where the stream is.
    const fn is_measured(&self) -> bool {
        matches!(self.base, Base::Start | Base::Joined { rested: true, .. })
    }

    /// Whether to ask once more where the stream was joined, since it did not rest: of several answers the last one or another is exact.
    const fn asks_again(&mut self) -> bool {
        let again = matches!(self.base, Base::Joined { rested: false, .. }) && self.asks < MAX_ASKS;
        self.asks += again as u8;
        again
    }

    /// Where a stream was joined: the target has no more than was seen, and just that when the stream is at rest. (Unless a hole of the
    /// target's rests with it; when that is filled, more is learnt.)
    fn learn_base(&mut self, received: Received, at_rest: bool, asked: Asked) {
        let seen = received.payload_bytes().wrapping_sub(self.next);
        let sound = self.epoch == asked.epoch && !self.waits();
        let at_rest = at_rest && sound && self.progress <= asked.at;
        self.base = match self.base {
            Base::Start => Base::Start,
            Base::Joined { least, rested } => {
                let more = sound && (1..HALF).contains(&seen.wrapping_sub(least).into());
                Base::Joined { least: if more { seen } else { least }, rested: rested || at_rest }
            }
            Base::Unknown => Base::Joined { least: seen, rested: at_rest },
        };
    }

    /// `silent`: nothing came since the question.
    fn settle<'a>(
        &mut self,
        received: Received,
        silent: bool,
        asked: Asked,
        out: &mut impl FnMut(Event<'a>),
    ) -> Standing {
        let exact = self.is_measured();
        let base = match self.base {
            Base::Start => 0,
            Base::Joined { least, .. } => least,
            Base::Unknown => return Standing::Open,
        };
        // How far the target is ahead. What was passed on since the question makes it less.
        let mut ahead = i128::from(received.payload_bytes().wrapping_sub(base).cast_signed()) - i128::from(self.next);
        // The target knows nothing of what was far away: another connection under the same name, as one that has far less is.
        let stranger = self.lost_track == Some(LostTrack::Far) && silent && exact && ahead <= 0;
        if ahead < -HALF || stranger {
            return Standing::Gone;
        }
        if !exact || self.progress > asked.at {
            let wraps = u64::try_from((ahead + HALF) >> 32).unwrap_or(0);
            if wraps > 0 {
                self.lengthen_gap(wraps << 32, out);
                ahead -= i128::from(wraps) << 32;
            }
        }
        self.unsure = false;
        if !exact {
            self.lost_track = None;
            return Standing::Open;
        }
        let to = self.next + u64::try_from(ahead).unwrap_or(0);
        if to > self.next + MAX_WINDOW {
            // It was put where the sequence numbers said, which have been round since.
            self.held = None;
        }
        let standing = self.advance_to(to, out);
        if standing != Standing::Open {
            return standing;
        }
        if silent || self.lost_track.is_none() {
            self.epoch = self.epoch.max(asked.epoch);
        }
        if silent || ahead > 0 {
            self.lost_track = None;
        }
        if received.ended && self.next == to && ahead >= 0 { Standing::Finished } else { Standing::Open }
    }

    /// The target has no such socket.
    fn end<'a>(&mut self, missed: bool, out: &mut impl FnMut(Event<'a>)) -> Standing {
        if missed && self.give_up_all(out) == Standing::Finished {
            return Standing::Finished;
        }
        Standing::Gone
    }
}
