//! [`Queue`]: the frames of one mirrored flow that wait for one session, and what became of those that found no room. Pure.
//!
//! What is lost becomes a gap in its place: one frame for each reason, however much it was. A flow that found no room loses all
//! until half of what it held is written, so that a slow session gets a few long runs and not single frames.
//! Before: [`super::feed`]; after: [`super::writer`].

use std::collections::VecDeque;

use bytes::Bytes;
use link::{
    mirrored::Gap,
    rules::{Loss, LossReason},
};

use super::counts;

/// A smaller frame is copied out of the buffer that it was read into, which it would keep whole.
const SMALL_BYTES: usize = 4 << 10;
/// So is one that is not large, when it may have to wait for long: when its flow holds so much, or all of its session.
const MIDDLING_BYTES: usize = 32 << 10;
const WAITING_BYTES: usize = 64 << 10;
const ALL_WAITING_BYTES: usize = 256 << 10;
/// So is every frame, when the session holds this much: what it keeps is then what it counts, give or take these few buffers.
const ALL_SLOW_BYTES: usize = 2 << 20;
/// Small frames that are kept together at most.
const GATHERED_BYTES: usize = 8 << 10;
/// What a writer takes at once: what it took counts as held until it is written.
const TAKEN_BYTES: usize = 512 << 10;
const TAKEN_CHUNKS: usize = 64;
/// An empty queue keeps room for so many, a larger one is given back.
const KEPT_CHUNKS: usize = 4;
/// From so much held on, gaps of the tap's are told together, behind what waits: they are not asked whether they find room.
const GAPS_APART_BYTES: usize = 256 << 10;

/// Bytes for the stream, one or more frames.
#[derive(Debug)]
struct Chunk {
    bytes: Bytes,
    payload: Loss,
}

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Queue {
    chunks: VecDeque<Chunk>,
    /// Small frames, behind all chunks.
    gathered: Vec<u8>,
    gathered_payload: Loss,
    /// Bytes here and with the writer.
    held: usize,
    /// The flow loses all until it holds no more than this.
    loses_until: Option<usize>,
    /// What was lost behind the last frame.
    gaps: Option<Box<Gaps>>,
    has_ended: bool,
}

/// Bytes and datagrams by reason.
#[derive(Debug, Default)]
struct Gaps([Loss; 8]);

/// What a writer took.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Taken {
    /// Bytes, frames' headers included.
    pub(super) bytes: usize,
    /// What they carry; `flows` is not used.
    pub(super) payload: Loss,
}

impl Queue {
    /// Whether a frame of this length finds room, if all flows leave so much free. One that does not begins a gap.
    pub(super) fn has_room(&mut self, bytes: usize, free: usize) -> bool {
        if self.loses_until.is_some_and(|until| self.held > until) {
            return false;
        }
        let has_room = self.held + bytes <= free;
        self.loses_until = (!has_room).then_some(self.held / 2);
        has_room
    }

    /// Takes a frame of payload, behind what was lost before it, when all flows hold so much.
    pub(super) fn push(&mut self, frame: &Bytes, payload: Loss, all_held: usize) {
        self.put_gaps();
        self.put(frame, payload, all_held);
    }

    /// A frame is lost for this reason.
    pub(super) fn lose(&mut self, reason: LossReason, payload: Loss) {
        let gap = &mut self.gaps.get_or_insert_default().0[counts::index(reason)];
        gap.bytes = gap.bytes.saturating_add(payload.bytes);
        gap.datagrams = gap.datagrams.saturating_add(payload.datagrams);
    }

    /// A gap that was there before: in its place, and together with the queue's own where it stands in one.
    pub(super) fn push_gap(&mut self, frame: &Bytes, gap: Gap) {
        if self.gaps.is_none() && self.loses_until.is_none() && self.held < GAPS_APART_BYTES {
            self.gather(frame, Loss::default());
        } else {
            self.lose(gap.reason, Loss { flows: 0, bytes: gap.bytes, datagrams: gap.datagrams });
        }
    }

    /// The last frame, which always finds room.
    pub(super) fn end(&mut self, frame: &Bytes) {
        self.put_gaps();
        self.gather(frame, Loss::default());
        self.has_ended = true;
    }

    /// Bytes here and with the writer.
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    /// Whether nothing is taken any more.
    pub(super) const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// What waits here, without what the writer has.
    pub(super) fn waiting(&self) -> Loss {
        let mut waiting = self.gathered_payload;
        self.chunks.iter().for_each(|chunk| add(&mut waiting, chunk.payload));
        waiting
    }

    /// Moves what waits to `batch`, up to a bound; nothing if nothing waits.
    pub(super) fn take(&mut self, batch: &mut Vec<Bytes>) -> Taken {
        let mut taken = Taken::default();
        while taken.bytes < TAKEN_BYTES && batch.len() < TAKEN_CHUNKS {
            if self.chunks.is_empty() {
                self.put_gathered();
            }
            let Some(chunk) = self.chunks.pop_front() else { break };
            taken.bytes += chunk.bytes.len();
            add(&mut taken.payload, chunk.payload);
            batch.push(chunk.bytes);
        }
        if self.chunks.is_empty() && self.chunks.capacity() > KEPT_CHUNKS {
            self.chunks = VecDeque::new();
        }
        taken
    }

    /// What was taken is written.
    pub(super) const fn written(&mut self, taken: Taken) {
        self.held -= taken.bytes;
    }

    fn put_gaps(&mut self) {
        let Some(gaps) = self.gaps.take() else { return };
        for (at, loss) in gaps.0.into_iter().enumerate().filter(|(_, loss)| *loss != Loss::default()) {
            let reason = LossReason::from(u8::try_from(at).unwrap_or(u8::MAX));
            let gap = Gap { reason, bytes: loss.bytes, datagrams: loss.datagrams };
            self.gather(&gap.frame(), Loss::default());
        }
    }

    fn put(&mut self, frame: &Bytes, payload: Loss, all_held: usize) {
        if frame.len() < SMALL_BYTES {
            return self.gather(frame, payload);
        }
        let is_waiting = self.held > WAITING_BYTES || all_held > ALL_WAITING_BYTES;
        let is_copied = all_held > ALL_SLOW_BYTES || is_waiting && frame.len() < MIDDLING_BYTES;
        self.put_gathered();
        self.held += frame.len();
        let bytes = if is_copied { Bytes::copy_from_slice(frame) } else { frame.clone() };
        self.chunks.push_back(Chunk { bytes, payload });
    }

    fn gather(&mut self, frame: &[u8], payload: Loss) {
        if self.gathered.len() + frame.len() > GATHERED_BYTES {
            self.put_gathered();
        }
        self.held += frame.len();
        self.gathered.extend_from_slice(frame);
        add(&mut self.gathered_payload, payload);
    }

    fn put_gathered(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        let mut bytes = std::mem::take(&mut self.gathered);
        bytes.shrink_to_fit();
        let payload = std::mem::take(&mut self.gathered_payload);
        self.chunks.push_back(Chunk { bytes: bytes.into(), payload });
    }
}

const fn add(sum: &mut Loss, more: Loss) {
    sum.bytes += more.bytes;
    sum.datagrams += more.datagrams;
}

#[cfg(test)]
mod tests;
