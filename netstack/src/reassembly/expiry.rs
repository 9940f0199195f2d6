//! What time decides: holes that no one fills, flows that are silent, those that ended or never opened. See [`super::Limits`].

use std::time::Duration;

use super::{
    AGE_MICROS, Event, FlowId, GapReason, Reassembler,
    flows::{CLASSES, Class, State},
    settlement,
    stream::Standing,
};
use crate::moment::Moment;

/// How long an ended flow is remembered, so that what comes of it again opens no other. Linux repeats a FIN after 0.2 s, 0.4 s and
/// so on; this covers seven of them.
const ENDED_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a SYN is remembered: Linux repeats its answer for 63 s (`tcp_synack_retries` 5).
const EMBRYO_TIMEOUT: Duration = Duration::from_secs(64);

impl Reassembler {
    /// Does what is due by `now`.
    pub fn timeout<'a>(&mut self, now: Moment, sink: &mut impl FnMut(FlowId, Event<'a>)) {
        while let Some(index) = self.holders.first()
            && self.patience_ends(index) <= now
        {
            self.lose_patience(index, now, sink);
        }
        for class in CLASSES {
            while let Some((index, placed)) = self.flows.oldest(class)
                && placed + self.lifetime(class) <= now
            {
                self.expire(index, class, now, sink);
            }
        }
    }

    /// When [`Reassembler::timeout`] is due.
    pub fn poll_at(&self) -> Option<Moment> {
        let ages = CLASSES
            .into_iter()
            .filter_map(|class| self.flows.oldest(class).map(|(_, placed)| placed + self.lifetime(class)));
        ages.chain(self.holders.first().map(|index| self.patience_ends(index))).min()
    }

    fn patience_ends(&self, index: u32) -> Moment {
        let since = self.flows.slot(index).waiting.map_or(Moment::ORIGIN, |(since, _)| since);
        since + self.limits.hole_patience
    }

    fn lifetime(&self, class: Class) -> Duration {
        match class {
            Class::Ended => ENDED_TIMEOUT,
            Class::Embryo => EMBRYO_TIMEOUT,
            // The place among those of one age is late by this at most.
            Class::Seen | Class::Confirmed => self.limits.idle.saturating_add(Duration::from_micros(AGE_MICROS)),
        }
    }

    /// A hole that the ring may have made is a gap. Any other is one of the target's, too, and the client will fill it, were it after minutes;
    /// unless what is missing came by a way that is not captured: only the target knows.
    fn lose_patience<'a>(&mut self, index: u32, now: Moment, sink: &mut impl FnMut(FlowId, Event<'a>)) {
        let (epoch, doubt_patience) = (self.epoch, self.limits.doubt_patience);
        let slot = self.flows.slot_mut(index);
        let (id, since) = (slot.id, slot.waiting.map_or(now, |(since, _)| since));
        let State::Open(stream) = &mut slot.state else { return self.holders.wait_no_more(index) };
        let standing = if stream.lost_track.is_some() {
            if now < stream.lost_at + doubt_patience {
                slot.waiting = Some((now, stream.next));
                return self.holders.wait(index);
            }
            Standing::Gone
        } else if stream.joined_after(since) {
            // Holes further behind are as old as this.
            stream.give_up_all(&mut |event| sink(id, event))
        } else if stream.may_have_missed(since, epoch) {
            self.give_up_hole(index, GapReason::Ring, sink)
        } else {
            slot.waiting = Some((now, stream.next));
            self.holders.wait(index);
            return self.ask_about(index, settlement::HOLE);
        };
        self.conclude(index, standing, now, sink);
    }

    fn expire<'a>(&mut self, index: u32, class: Class, now: Moment, sink: &mut impl FnMut(FlowId, Event<'a>)) {
        let idle = self.flows.slot(index).questions & settlement::IDLE != 0;
        match class {
            Class::Seen | Class::Confirmed if !idle => {
                self.flows.place(index, class, now);
                self.ask_about(index, settlement::IDLE);
            }
            Class::Ended | Class::Embryo | Class::Seen | Class::Confirmed => self.evict(index, sink),
        }
    }
}
