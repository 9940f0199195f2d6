//! How a [`Stream`] goes on behind a hole: because that was filled, or is a gap. Used by [`super`], by what time decides and by what the
//! target says.

use super::{Standing, Stream};
use crate::{
    moment::Moment,
    reassembly::{
        event::{Event, GapReason},
        held::Content,
    },
};

impl Stream {
    /// Passes on what is held and follows.
    pub(in crate::reassembly) fn drain<'a>(&mut self, out: &mut impl FnMut(Event<'a>)) -> Standing {
        while let Some(held) = &mut self.held {
            held.passed(self.next);
            let ending = held.ending(self.next);
            if ending != Standing::Open {
                self.held = None;
                return ending;
            }
            if let Some(piece) = held.take(self.next) {
                let (len, pushed, starts_segment) = (piece.len(), piece.pushed, piece.starts_segment);
                self.epoch = piece.epoch;
                self.advance(len);
                out(match piece.content {
                    Content::Bytes(bytes) => Event::Bytes { bytes: bytes.into(), starts_segment, pushed },
                    Content::Disputed(bytes) => Event::Gap { bytes, reason: GapReason::Conflict },
                });
                continue;
            }
            match held.first() {
                None => self.held = None,
                Some((start, epoch)) if epoch > self.epoch && self.joined_until == Moment::ORIGIN => {
                    self.gap_to(start, GapReason::Ring, out);
                }
                Some(_) => break,
            }
        }
        Standing::Open
    }

    /// Does not wait for the bytes of the first hole any longer.
    pub(in crate::reassembly) fn give_up_hole<'a>(
        &mut self,
        reason: GapReason,
        out: &mut impl FnMut(Event<'a>),
    ) -> Standing {
        self.gap_to(self.hole_end(), reason, out);
        self.drain(out)
    }

    /// Waits for nothing any longer.
    pub(in crate::reassembly) fn give_up_all<'a>(&mut self, out: &mut impl FnMut(Event<'a>)) -> Standing {
        while self.held.is_some() {
            let standing = self.give_up_hole(GapReason::Ring, out);
            if standing != Standing::Open {
                return standing;
            }
        }
        Standing::Open
    }

    /// Whatever has not come before `offset` never will.
    pub(in crate::reassembly) fn advance_to<'a>(&mut self, offset: u64, out: &mut impl FnMut(Event<'a>)) -> Standing {
        while self.next < offset {
            let to = if self.held.is_some() { self.hole_end().min(offset) } else { offset };
            self.gap_to(to, GapReason::Ring, out);
            let standing = self.drain(out);
            if standing != Standing::Open {
                return standing;
            }
        }
        Standing::Open
    }

    /// Where the first hole ends; where it stands, when there is none.
    pub(in crate::reassembly) fn hole_end(&self) -> u64 {
        self.held.as_ref().and_then(|held| held.first()).map_or(self.next, |(start, _)| start)
    }

    pub(super) fn gap_to<'a>(&mut self, offset: u64, reason: GapReason, out: &mut impl FnMut(Event<'a>)) {
        let bytes = offset - self.next;
        if bytes > 0 {
            self.advance(bytes);
            out(Event::Gap { bytes, reason });
        }
    }

    /// A gap was longer by `bytes`, a multiple of 4 GiB.
    pub(in crate::reassembly) fn lengthen_gap<'a>(&mut self, bytes: u64, out: &mut impl FnMut(Event<'a>)) {
        self.advance(bytes);
        if let Some(held) = &mut self.held {
            held.shift(bytes);
        }
        out(Event::Gap { bytes, reason: GapReason::Ring });
    }

    pub(super) const fn advance(&mut self, bytes: u64) {
        self.next += bytes;
        self.seq = self.seq.wrapping_add(bytes as u32);
    }
}
