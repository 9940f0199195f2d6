//! [`Batch`]: records about to be written, most of them around payload that is still in its slot of the ring.
//! Before: [`super::flows`]; after: [`super::stream`].

use std::{borrow::Cow, io::IoSlice, ops::Range};

use link::{
    mirrored::{FrameHeader, FrameKind, Gap, MAX_FRAME_BYTES},
    rules::LossReason,
};
use netstack::reassembly::{Event, GapReason};

use super::protocol::{FlowNumber, FromTap, Opened, RECORD_HEADER_BYTES, record_header};

/// The longest record without payload: a header and an [`Opened`].
const HEAD_BYTES: usize = 64;

/// Records in the order in which they will be written.
#[derive(Debug, Default)]
pub(super) struct Batch<'a> {
    records: Vec<Record<'a>>,
}

#[derive(Debug)]
struct Record<'a> {
    head: [u8; HEAD_BYTES],
    head_len: usize,
    payload: Payload<'a>,
}

#[derive(Debug)]
enum Payload<'a> {
    InSlot(&'a [u8]),
    Own(Vec<u8>, Range<usize>),
}

impl<'a> Batch<'a> {
    pub(super) fn with_capacity(records: usize) -> Self {
        Self { records: Vec::with_capacity(records) }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// What the tap says about itself.
    pub(super) fn say(&mut self, said: &FromTap) {
        let bytes = said.record();
        let range = 0..bytes.len();
        self.push(&[], Payload::Own(bytes, range));
    }

    /// A flow begins.
    pub(super) fn open(&mut self, flow: FlowNumber, opened: &Opened) {
        self.push(&opened.record(flow), Payload::InSlot(&[]));
    }

    /// A datagram that is in its slot.
    pub(super) fn datagram(&mut self, flow: FlowNumber, payload: &'a [u8]) {
        self.frame(flow, FrameKind::Datagram, payload);
    }

    /// A datagram that was put together elsewhere.
    pub(super) fn own_datagram(&mut self, flow: FlowNumber, bytes: Vec<u8>, range: Range<usize>) {
        let head = record_header(flow, FrameHeader { kind: FrameKind::Datagram, len: range.len() });
        self.push(&head, Payload::Own(bytes, range));
    }

    /// Something is missing.
    pub(super) fn gap(&mut self, flow: FlowNumber, gap: Gap) {
        let mut head = [0; RECORD_HEADER_BYTES + Gap::BYTES];
        let kind = FrameHeader { kind: FrameKind::Gap, len: Gap::BYTES };
        head[..RECORD_HEADER_BYTES].copy_from_slice(&record_header(flow, kind));
        head[RECORD_HEADER_BYTES..].copy_from_slice(&gap.encode());
        self.push(&head, Payload::InSlot(&[]));
    }

    /// A flow ends.
    pub(super) fn end(&mut self, flow: FlowNumber, kind: FrameKind) {
        self.frame(flow, kind, &[]);
    }

    /// What became known of a TCP connection, but for its beginning.
    pub(super) fn event(&mut self, flow: FlowNumber, event: Event<'a>) {
        match event {
            Event::Opened { .. } => {}
            Event::Bytes { bytes, starts_segment, pushed } => self.bytes(flow, bytes, starts_segment, pushed),
            Event::Gap { bytes, reason } => {
                let reason = match reason {
                    GapReason::Ring => LossReason::Ring,
                    GapReason::Held | GapReason::Conflict => LossReason::Reassembly,
                };
                self.gap(flow, Gap { reason, bytes, datagrams: 0 });
            }
            Event::Finished => self.end(flow, FrameKind::Finished),
            Event::Reset => self.end(flow, FrameKind::Reset),
            Event::Gone => self.end(flow, FrameKind::Gone),
        }
    }

    fn bytes(&mut self, flow: FlowNumber, bytes: Cow<'a, [u8]>, starts_segment: bool, pushed: bool) {
        let len = bytes.len();
        let kind = |at: usize, end: usize| FrameKind::Bytes {
            starts_segment: starts_segment && at == 0,
            pushed: pushed && end == len,
        };
        match bytes {
            Cow::Owned(bytes) if len <= MAX_FRAME_BYTES => {
                let head = record_header(flow, FrameHeader { kind: kind(0, len), len });
                self.push(&head, Payload::Own(bytes, 0..len));
            }
            // Longer than any segment: it was joined of several.
            Cow::Owned(bytes) => {
                for (n, piece) in bytes.chunks(MAX_FRAME_BYTES).enumerate() {
                    let at = n * MAX_FRAME_BYTES;
                    let head = FrameHeader { kind: kind(at, at + piece.len()), len: piece.len() };
                    self.push(&record_header(flow, head), Payload::Own(piece.to_vec(), 0..piece.len()));
                }
            }
            Cow::Borrowed(bytes) => {
                for (n, piece) in bytes.chunks(MAX_FRAME_BYTES).enumerate() {
                    let at = n * MAX_FRAME_BYTES;
                    self.frame(flow, kind(at, at + piece.len()), piece);
                }
            }
        }
    }

    fn frame(&mut self, flow: FlowNumber, kind: FrameKind, payload: &'a [u8]) {
        self.push(&record_header(flow, FrameHeader { kind, len: payload.len() }), Payload::InSlot(payload));
    }

    fn push(&mut self, head: &[u8], payload: Payload<'a>) {
        let mut padded = [0; HEAD_BYTES];
        padded[..head.len()].copy_from_slice(head);
        self.records.push(Record { head: padded, head_len: head.len(), payload });
    }

    /// What to write.
    pub(super) fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::with_capacity(self.records.len() * 2);
        for record in &self.records {
            let payload = match &record.payload {
                Payload::InSlot(payload) => payload,
                Payload::Own(bytes, range) => &bytes[range.clone()],
            };
            for part in [&record.head[..record.head_len], payload] {
                if !part.is_empty() {
                    slices.push(IoSlice::new(part));
                }
            }
        }
        slices
    }
}
