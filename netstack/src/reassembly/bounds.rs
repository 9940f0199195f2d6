//! Keeps flows and what they hold within [`super::Limits`], after every event of a flow: notes what it waits for, has holes given up when too
//! much is held, sends flows away for others. Before: [`super::Reassembler::segment`], [`super::settlement`], [`super::expiry`].

use super::{
    Event, FlowId, GapReason, Reassembler,
    flows::{Class, State},
    settlement,
    stream::{Standing, Stream},
};
use crate::moment::Moment;

impl Reassembler {
    /// After anything that may have changed what an open flow waits for.
    pub(super) fn conclude<'a>(
        &mut self,
        index: u32,
        standing: Standing,
        now: Moment,
        sink: &mut impl FnMut(FlowId, Event<'a>),
    ) {
        self.account(index, standing, now, sink);
        while let Some(victim) = self.over_limit(index) {
            let standing = self.give_up_hole(victim, GapReason::Held, sink);
            self.account(victim, standing, now, sink);
        }
    }

    /// Who has to give up a hole, after `index` has held more.
    pub(super) fn over_limit(&self, index: u32) -> Option<u32> {
        let held = self.flows.stream(index).map_or(0, Stream::held_bytes);
        if held > self.limits.held_bytes_per_flow {
            return Some(index);
        }
        self.holders.largest().filter(|_| self.holders.bytes() > self.limits.held_bytes)
    }

    /// Makes the first hole a gap: of the ring if that is possible, or else for `reason`.
    pub(super) fn give_up_hole<'a>(
        &mut self,
        index: u32,
        reason: GapReason,
        sink: &mut impl FnMut(FlowId, Event<'a>),
    ) -> Standing {
        let epoch = self.epoch;
        let slot = self.flows.slot_mut(index);
        let (id, since) = (slot.id, slot.waiting.map_or(Moment::ORIGIN, |(since, _)| since));
        let State::Open(stream) = &mut slot.state else { return Standing::Gone };
        let missed = stream.may_have_missed(since, epoch);
        stream.give_up_hole(if missed { GapReason::Ring } else { reason }, &mut |event| sink(id, event))
    }

    /// Notes what the flow holds and waits for, or that it is over.
    pub(super) fn account<'a>(
        &mut self,
        index: u32,
        standing: Standing,
        now: Moment,
        sink: &mut impl FnMut(FlowId, Event<'a>),
    ) {
        let slot = self.flows.slot_mut(index);
        let State::Open(stream) = &slot.state else { return };
        let last = match standing {
            Standing::Open => None,
            Standing::Finished => Some(Event::Finished),
            Standing::Reset => Some(Event::Reset),
            Standing::Gone | Standing::Unclear => Some(Event::Gone),
        };
        if let Some(last) = last {
            sink(slot.id, last);
            if standing == Standing::Gone {
                self.unseen.add(slot.key, stream.next);
            }
            self.close(index);
            if standing == Standing::Gone {
                return self.flows.remove(index);
            }
            self.make_room(Class::Ended, sink);
            return self.flows.place(index, Class::Ended, now);
        }
        let (bytes, next, waits) = (stream.held_bytes(), stream.next, stream.waits());
        let doubt = stream.lost_track.is_some() || stream.unsure;
        self.holders.set_held(index, bytes);
        if !waits {
            slot.waiting = None;
            self.holders.wait_no_more(index);
        } else if slot.waiting.is_none_or(|(_, at)| at != next) {
            slot.waiting = Some((now, next));
            self.holders.wait(index);
            self.answered(index, settlement::HOLE);
        }
        if doubt {
            self.ask_about(index, settlement::DOUBT);
        }
        if !waits {
            self.answered(index, settlement::HOLE);
        }
    }

    /// Sends those away that have to go for one of `class`.
    pub(super) fn make_room<'a>(&mut self, class: Class, sink: &mut impl FnMut(FlowId, Event<'a>)) {
        while let Some(index) = self.flows.surplus(class) {
            self.evict(index, sink);
        }
    }

    pub(super) fn evict<'a>(&mut self, index: u32, sink: &mut impl FnMut(FlowId, Event<'a>)) {
        let slot = self.flows.slot(index);
        match &slot.state {
            State::Open(stream) => {
                sink(slot.id, Event::Gone);
                self.unseen.add(slot.key, stream.next);
            }
            // Its socket may outlive what is remembered of it.
            State::Ended { told, .. } if self.epoch > 1 => self.unseen.add(slot.key, *told),
            State::Ended { .. } | State::Embryo(_) | State::Free => {}
        }
        self.close(index);
        self.flows.remove(index);
    }

    /// Lets go of what an open flow holds.
    pub(super) fn close(&mut self, index: u32) {
        self.holders.set_held(index, 0);
        self.holders.wait_no_more(index);
        self.flows.close(index);
    }
}
