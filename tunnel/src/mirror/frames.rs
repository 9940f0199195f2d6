//! The frames of a mirrored flow, found in the chunks that its stream delivers: headers are read in place, payloads go on as slices of
//! the chunks. Pure. Before: [`super::arrival`]; after: [`super::connection`], [`super::datagrams`].

use bytes::{Buf, Bytes};
use link::mirrored::{FrameHeader, FrameKind, Gap, Malformed};

/// A part of a mirrored flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Bytes of a TCP connection: a frame, or a part of one.
    Bytes { bytes: Bytes, starts_segment: bool, ends_segment: bool, pushed: bool },
    /// A datagram, or a part of one.
    Datagram { bytes: Bytes, is_last: bool },
    /// Something is missing.
    Gap(Gap),
    /// Nothing follows.
    End(End),
}

/// How a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Finished,
    Reset,
    Gone,
}

impl End {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Reset => "reset",
            Self::Gone => "gone",
        }
    }
}

/// A place between or within frames.
#[derive(Debug)]
pub(super) enum Frames {
    Header { have: [u8; FrameHeader::BYTES], len: usize },
    Payload { kind: FrameKind, left: usize, is_first: bool },
    Gap { have: [u8; Gap::BYTES], len: usize, of: usize },
    Over,
}

const BETWEEN: Frames = Frames::Header { have: [0; FrameHeader::BYTES], len: 0 };

impl Default for Frames {
    fn default() -> Self {
        BETWEEN
    }
}

impl Frames {
    /// The next piece of `chunk`, `None` when it holds no more.
    ///
    /// # Errors
    /// [`Malformed`] for what is no frame, and for anything behind the flow's end.
    pub(super) fn next(&mut self, chunk: &mut Bytes) -> Result<Option<Piece>, Malformed> {
        while !chunk.is_empty() {
            let piece = match self {
                Self::Header { have, len } => {
                    let now = chunk.len().min(have.len() - *len);
                    chunk.split_to(now).copy_to_slice(&mut have[*len..*len + now]);
                    *len += now;
                    if *len < have.len() {
                        continue;
                    }
                    let header = FrameHeader::decode(*have)?;
                    self.begin(header)
                }
                Self::Payload { kind, left, is_first } => {
                    let bytes = chunk.split_to(chunk.len().min(*left));
                    *left -= bytes.len();
                    let (kind, was_first, is_last) = (*kind, std::mem::take(is_first), *left == 0);
                    if is_last {
                        *self = BETWEEN;
                    }
                    part(kind, bytes, was_first, is_last)
                }
                Self::Gap { have, len, of } => {
                    let now = chunk.len().min(*of - *len);
                    chunk.split_to(now).copy_to_slice(&mut have[*len..*len + now]);
                    *len += now;
                    if len < of {
                        continue;
                    }
                    let gap = Gap::decode(&have[..*of])?;
                    *self = BETWEEN;
                    Some(Piece::Gap(gap))
                }
                Self::Over => return Err(Malformed::TooLong(chunk.len())),
            };
            if piece.is_some() {
                return Ok(piece);
            }
        }
        Ok(None)
    }

    /// A header was read; what has no payload is a piece at once.
    fn begin(&mut self, FrameHeader { kind, len }: FrameHeader) -> Option<Piece> {
        let (next, piece) = match kind {
            FrameKind::Gap => (Self::Gap { have: [0; Gap::BYTES], len: 0, of: len }, None),
            FrameKind::Finished => (Self::Over, Some(Piece::End(End::Finished))),
            FrameKind::Reset => (Self::Over, Some(Piece::End(End::Reset))),
            FrameKind::Gone => (Self::Over, Some(Piece::End(End::Gone))),
            FrameKind::Datagram if len == 0 => (BETWEEN, Some(Piece::Datagram { bytes: Bytes::new(), is_last: true })),
            FrameKind::Bytes { .. } if len == 0 => (BETWEEN, None),
            FrameKind::Bytes { .. } | FrameKind::Datagram => (Self::Payload { kind, left: len, is_first: true }, None),
        };
        *self = next;
        piece
    }
}

fn part(kind: FrameKind, bytes: Bytes, is_first: bool, is_last: bool) -> Option<Piece> {
    match kind {
        FrameKind::Bytes { starts_segment, pushed } => {
            let starts_segment = starts_segment && is_first;
            Some(Piece::Bytes { bytes, starts_segment, ends_segment: is_last, pushed: pushed && is_last })
        }
        FrameKind::Datagram => Some(Piece::Datagram { bytes, is_last }),
        FrameKind::Gap | FrameKind::Finished | FrameKind::Reset | FrameKind::Gone => None,
    }
}

#[cfg(test)]
mod tests {
    use link::rules::LossReason;
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: FrameKind, payload: &[u8]) -> Vec<u8> {
        [&FrameHeader { kind, len: payload.len() }.encode()[..], payload].concat()
    }

    fn pieces(bytes: &[u8], cut: usize) -> Result<Vec<Piece>, Malformed> {
        let (mut frames, mut pieces) = (Frames::default(), Vec::new());
        for chunk in bytes.chunks(cut) {
            let mut chunk = Bytes::copy_from_slice(chunk);
            while let Some(piece) = frames.next(&mut chunk)? {
                pieces.push(piece);
            }
        }
        Ok(pieces)
    }

    proptest! {
        #[test]
        fn payload_and_bounds_survive_any_cut(payloads in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..40), any::<bool>()), 0..8), cut in 1usize..50) {
            let mut bytes = Vec::new();
            for (payload, pushed) in &payloads {
                bytes.extend(frame(FrameKind::Bytes { starts_segment: true, pushed: *pushed }, payload));
                bytes.extend(frame(FrameKind::Datagram, payload));
            }
            bytes.extend(Gap { reason: LossReason::Lag, bytes: 7, datagrams: 0 }.frame());
            bytes.extend(frame(FrameKind::Finished, &[]));
            let (mut stream, mut datagrams, mut open) = (Vec::new(), Vec::new(), Vec::new());
            let (mut starts, mut pushes) = (0, 0);
            for piece in pieces(&bytes, cut).unwrap() {
                match piece {
                    Piece::Bytes { bytes, starts_segment, pushed, .. } => {
                        starts += usize::from(starts_segment);
                        pushes += usize::from(pushed);
                        stream.extend_from_slice(&bytes);
                    }
                    Piece::Datagram { bytes, is_last } => {
                        open.extend_from_slice(&bytes);
                        if is_last {
                            datagrams.push(std::mem::take(&mut open));
                        }
                    }
                    Piece::Gap(gap) => prop_assert_eq!(gap.bytes, 7),
                    Piece::End(end) => prop_assert_eq!(end, End::Finished),
                }
            }
            let filled = payloads.iter().filter(|(payload, _)| !payload.is_empty());
            prop_assert_eq!(starts, filled.clone().count());
            prop_assert_eq!(pushes, filled.filter(|(_, pushed)| *pushed).count());
            prop_assert_eq!(stream, payloads.iter().flat_map(|(payload, _)| payload.clone()).collect::<Vec<_>>());
            prop_assert_eq!(datagrams, payloads.into_iter().map(|(payload, _)| payload).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_pieces_or_refused(bytes: Vec<u8>, cut in 1usize..9) {
            let _ = pieces(&bytes, cut);
        }
    }

    #[test]
    fn lies_are_refused() {
        assert!(pieces(&[9, 0, 0, 0], 9).is_err());
        assert!(pieces(&[0, 255, 255, 255], 9).is_err());
        assert!(pieces(&[2, 0, 0, 3, 0, 0, 0], 9).is_err());
        assert!(pieces(&[3, 0, 0, 0, 0], 9).is_err());
    }
}
