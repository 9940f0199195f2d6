//! [`Stream`]: one open connection's bytes in order. Used by [`super::Reassembler`], and by [`super::settlement`] for what the target says.
//!
//! [`holes`] is how it goes on behind one. A segment in order is passed on as it lies in the frame. One behind a hole is copied and held ([`super::held`]), unless the ring may have
//! lost what is missing: then the hole is a gap at once. Which it is, epochs say: each loss of the ring starts one, and a hole can be
//! of the ring only when between the last segment in order and the first behind the hole an epoch began.

mod holes;

use std::time::Duration;

use super::{
    event::{Event, GapReason},
    held::{Arrival, Held},
    segment::{Flags, Segment},
};
use crate::moment::Moment;

/// No receiver's window is larger (RFC 7323 2.3), so nothing that is further from what is expected belongs there.
pub(super) const MAX_WINDOW: u64 = 1 << 30;

/// A stream that went unseen for so long may have gone further than sequence numbers can tell: the 3 GiB after which what is ahead seems to
/// lie behind take 258 ms at 100 Gbit/s.
const LONG_SILENCE: Duration = Duration::from_millis(250);

/// What became of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Open,
    Finished,
    Reset,
    Gone,
    /// Gone, and what still comes of it is of no use.
    Unclear,
}

/// How offsets in a stream compare to what the target counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    /// They are the same.
    Start,
    /// The target had counted so many bytes (modulo 2^64) before offset 0, or a little more when the stream never `rested` so long that it
    /// could be told.
    Joined { least: u64, rested: bool },
    /// The target has not been asked.
    Unknown,
}

/// Why a stream is not followed: the ring lost something, nothing came for long, and then a segment
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LostTrack {
    /// that came before, or is 3 GiB or more ahead;
    Behind,
    /// that belongs nowhere near, if to this connection at all.
    Far,
}

/// When a segment came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived {
    pub(super) now: Moment,
    pub(super) epoch: u32,
    /// For how long nothing had come of its flow.
    pub(super) silence: Duration,
}

#[derive(Debug)]
pub(super) struct Stream {
    /// The offset of the next byte in order; 0 is the first that was to be seen.
    pub(super) next: u64,
    /// Its sequence number.
    seq: u32,
    /// Up to `next`, everything was seen before this epoch's end.
    pub(super) epoch: u32,
    /// When `next` was moved last.
    pub(super) progress: Moment,
    /// Until then a hole may be of bytes that came before the tap did.
    joined_until: Moment,
    pub(super) base: Base,
    /// How often the target was asked again where this was joined.
    pub(super) asks: u8,
    /// The target must be asked where the stream is; nothing is taken until then.
    pub(super) lost_track: Option<LostTrack>,
    pub(super) lost_at: Moment,
    /// The last gap was one by the sequence numbers, and may be longer by a multiple of 4 GiB.
    pub(super) unsure: bool,
    /// The initial sequence number of a SYN that came while this was open.
    pub(super) rival: Option<u32>,
    pub(super) held: Option<Box<Held>>,
}

impl Stream {
    /// A stream whose first byte has sequence number `seq`; all that came before `epoch` began was seen.
    pub(super) const fn from_start(seq: u32, epoch: u32, now: Moment) -> Self {
        Self {
            next: 0,
            seq,
            epoch,
            progress: now,
            joined_until: Moment::ORIGIN,
            base: Base::Start,
            asks: 0,
            lost_track: None,
            lost_at: Moment::ORIGIN,
            unsure: false,
            rival: None,
            held: None,
        }
    }

    /// A stream that is seen from `seq` on.
    pub(super) fn from_middle(seq: u32, epoch: u32, now: Moment, settled_at: Moment) -> Self {
        Self { base: Base::Unknown, joined_until: settled_at, ..Self::from_start(seq, epoch, now) }
    }

    /// How far `seq` is ahead of what is next.
    pub(super) const fn ahead(&self, seq: u32) -> i32 {
        seq.wrapping_sub(self.seq).cast_signed()
    }

    /// The sequence number of its first byte, if that was to be seen.
    pub(super) fn first(&self) -> Option<u32> {
        (self.base == Base::Start).then(|| self.seq.wrapping_sub(self.next as u32))
    }

    /// Whether it waits for something: bytes, or the target's word.
    pub(super) const fn waits(&self) -> bool {
        self.held.is_some() || self.lost_track.is_some()
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.bytes())
    }

    /// Whether its hole, which was found at `since`, may be of bytes that came before the tap.
    pub(super) fn joined_after(&self, since: Moment) -> bool {
        since < self.joined_until
    }

    /// Whether the bytes of its hole, which was found at `since`, may have come without being seen.
    pub(super) fn may_have_missed(&self, since: Moment, epoch: u32) -> bool {
        self.epoch != epoch || self.joined_after(since)
    }

    /// Takes a segment in that is no SYN.
    pub(super) fn accept<'a>(
        &mut self,
        segment: &Segment<'a>,
        arrived: Arrived,
        out: &mut impl FnMut(Event<'a>),
    ) -> Standing {
        let ahead = self.ahead(segment.seq);
        if segment.flags.contains(Flags::RST) {
            return self.reset(ahead, arrived, out);
        }
        // RFC 9293 3.10.7.4: without an acknowledgment it is dropped.
        if !segment.flags.contains(Flags::ACK) || self.loses_track(ahead, segment.payload.len(), arrived) {
            return Standing::Open;
        }
        match u64::try_from(ahead) {
            Err(_) | Ok(0) => self.in_order(segment, ahead.unsigned_abs(), arrived, out),
            Ok(ahead) => self.beyond(segment, ahead, arrived, out),
        }
    }

    /// Whether the segment is nowhere near, and remembers when that may be for having missed too much.
    fn loses_track(&mut self, ahead: i32, len: usize, arrived: Arrived) -> bool {
        let far = u64::from(ahead.unsigned_abs()) > MAX_WINDOW;
        if self.epoch != arrived.epoch {
            let keep_alive = ahead == -1 && len <= 1;
            let long = arrived.silence >= LONG_SILENCE;
            let lost = match ahead {
                _ if far => Some(LostTrack::Far),
                ..0 if !keep_alive => Some(LostTrack::Behind),
                _ => None,
            };
            if self.lost_track.is_none() && long {
                (self.lost_track, self.lost_at) = (lost, arrived.now);
            }
            self.unsure |= long && ahead > 0;
        }
        far || self.lost_track.is_some()
    }

    /// `skip` bytes of the segment have come before; first wins.
    fn in_order<'a>(
        &mut self,
        segment: &Segment<'a>,
        skip: u32,
        arrived: Arrived,
        out: &mut impl FnMut(Event<'a>),
    ) -> Standing {
        let Some(bytes) = segment.payload.get(skip as usize..) else { return Standing::Open };
        let fin = segment.flags.contains(Flags::FIN);
        if bytes.is_empty() {
            // A segment without payload has the number of the next byte to be sent: nothing was missed.
            if skip == 0 && self.held.is_none() {
                self.epoch = arrived.epoch;
            }
            return if fin { Standing::Finished } else { Standing::Open };
        }
        let pushed = segment.flags.contains(Flags::PSH);
        self.advance(bytes.len() as u64);
        (self.epoch, self.progress) = (arrived.epoch, arrived.now);
        out(Event::Bytes { bytes: bytes.into(), starts_segment: skip == 0, pushed });
        if fin {
            return Standing::Finished;
        }
        if self.held.is_none() { Standing::Open } else { self.drain(out) }
    }

    /// The segment starts `ahead` bytes behind what is next.
    fn beyond<'a>(
        &mut self,
        segment: &Segment<'a>,
        ahead: u64,
        arrived: Arrived,
        out: &mut impl FnMut(Event<'a>),
    ) -> Standing {
        let start = self.next + ahead;
        if self.held.is_none() && self.epoch != arrived.epoch && arrived.now >= self.joined_until {
            self.gap_to(start, GapReason::Ring, out);
            return self.in_order(segment, 0, arrived, out);
        }
        let fin = segment.flags.contains(Flags::FIN);
        if fin || !segment.payload.is_empty() {
            let pushed = segment.flags.contains(Flags::PSH);
            let epoch = arrived.epoch;
            let held = self.held.get_or_insert_default();
            return held.insert(Arrival { start, payload: segment.payload, fin, pushed, epoch });
        }
        Standing::Open
    }

    /// RFC 5961 3.2, as Linux has it: a reset counts when it has exactly the next sequence number, or the one behind everything that came. What
    /// the target expects is not known when something may have been missed; then any number ahead will do.
    fn reset<'a>(&mut self, ahead: i32, arrived: Arrived, out: &mut impl FnMut(Event<'a>)) -> Standing {
        let Ok(ahead) = u64::try_from(ahead) else { return Standing::Open };
        let at = self.next + ahead;
        let missed = self.epoch != arrived.epoch && ahead <= MAX_WINDOW && self.lost_track.is_none();
        let standing = if missed { self.advance_to(at, out) } else { Standing::Open };
        if standing != Standing::Open {
            return standing;
        }
        let behind_all = self.held.as_ref().is_some_and(|held| held.end() == at);
        if ahead == 0 || missed || behind_all { Standing::Reset } else { Standing::Open }
    }
}
