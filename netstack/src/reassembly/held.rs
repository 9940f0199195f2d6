//! [`Held`]: what a stream has behind a hole. Used by [`super::stream::Stream`].
//!
//! Where segments overlap here, the bytes of one of them reach the application. Linux keeps segments as they came, in the order of their
//! starts (`tcp_data_queue_ofo`), and so does this:
//!
//! - a segment that lies inside another changes nothing;
//! - one that starts before all that it meets of a contiguous run wins against it, also where the other came first;
//! - one that starts inside a segment loses against that.
//!
//! Linux may join touching segments into one meanwhile, or not (`skb_try_coalesce`), which can't be seen from outside. Where the outcome
//! depends on it and the bytes are not the same, they are [`Content::Disputed`], and become a gap; and a stream that goes on behind its FIN is
//! [`Standing::Unclear`] from then on: what is joined to a FIN takes its place in Linux.

use std::collections::BTreeMap;

use super::stream::Standing;

/// What a piece costs besides its bytes: allocation, map entry. Counted, or a flood of single bytes would take 100 times the limit.
const PIECE_BYTES: usize = 128;

/// One piece of the stream; pieces do not overlap.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) content: Content,
    /// The earliest epoch in which it, or anything behind it, was seen.
    pub(super) epoch: u32,
    pub(super) starts_segment: bool,
    pub(super) pushed: bool,
}

#[derive(Debug)]
pub(super) enum Content {
    Bytes(Vec<u8>),
    /// So many bytes that came twice, not the same.
    Disputed(u64),
}

/// Where the stream ends.
#[derive(Debug, Clone, Copy)]
struct Fin {
    at: u64,
    epoch: u32,
}

#[derive(Debug, Default)]
pub(super) struct Held {
    pieces: BTreeMap<u64, Piece>,
    bytes: usize,
    fin: Option<Fin>,
}

impl Piece {
    pub(super) const fn len(&self) -> u64 {
        match &self.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Disputed(len) => *len,
        }
    }

    const fn cost(&self) -> usize {
        match &self.content {
            Content::Bytes(bytes) => bytes.len() + PIECE_BYTES,
            Content::Disputed(_) => PIECE_BYTES,
        }
    }

    /// Without its first `len` bytes, of which there are more.
    fn skip(&mut self, len: u64) {
        match &mut self.content {
            Content::Bytes(bytes) => drop(bytes.drain(..to_usize(len))),
            Content::Disputed(rest) => *rest -= len,
        }
        self.starts_segment = false;
    }
}

/// A segment to hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(super) start: u64,
    pub(super) payload: &'a [u8],
    pub(super) fin: bool,
    pub(super) pushed: bool,
    pub(super) epoch: u32,
}

impl Arrival<'_> {
    const fn end(&self) -> u64 {
        self.start + self.payload.len() as u64
    }
}

impl Held {
    /// What it costs.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where the hole in front ends, and the epoch in which that was seen first.
    pub(super) fn first(&self) -> Option<(u64, u32)> {
        let piece = self.pieces.first_key_value().map(|(&start, piece)| (start, piece.epoch));
        let fin = self.fin.map(|fin| (fin.at, fin.epoch));
        match (piece, fin) {
            (Some(piece), Some(fin)) => Some((piece.0.min(fin.0), piece.1.min(fin.1))),
            (piece, fin) => piece.or(fin),
        }
    }

    /// The end of everything, in sequence numbers: a FIN counts.
    pub(super) fn end(&self) -> u64 {
        let pieces = self.pieces.last_key_value().map_or(0, |(start, piece)| start + piece.len());
        self.fin.map_or(pieces, |fin| pieces.max(fin.at + 1))
    }

    /// What becomes of the stream when everything before `offset` has come in order.
    pub(super) fn ending(&self, offset: u64) -> Standing {
        match self.fin {
            Some(fin) if fin.at < offset => Standing::Unclear,
            Some(fin) if fin.at == offset => Standing::Finished,
            _ => Standing::Open,
        }
    }

    /// Everything before `offset` has come in order: forgets it.
    pub(super) fn passed(&mut self, offset: u64) {
        while let Some(entry) = self.pieces.first_entry().filter(|entry| *entry.key() < offset) {
            let (start, mut piece) = entry.remove_entry();
            self.bytes -= piece.cost();
            if start + piece.len() > offset {
                piece.skip(offset - start);
                self.put(offset, piece);
            }
        }
    }

    /// The piece that begins at `offset`.
    pub(super) fn take(&mut self, offset: u64) -> Option<Piece> {
        let piece = self.pieces.remove(&offset)?;
        self.bytes -= piece.cost();
        Some(piece)
    }

    /// The whole of it is `by` further behind than thought.
    pub(super) fn shift(&mut self, by: u64) {
        self.pieces = std::mem::take(&mut self.pieces).into_iter().map(|(start, piece)| (start + by, piece)).collect();
        self.fin = self.fin.map(|fin| Fin { at: fin.at + by, ..fin });
    }

    /// Holds a segment that starts behind a hole.
    pub(super) fn insert(&mut self, arrival: Arrival<'_>) -> Standing {
        let end = arrival.end();
        let contradicted = match self.fin {
            Some(fin) => end > fin.at || arrival.fin && end != fin.at,
            None => arrival.fin && end < self.end(),
        };
        if contradicted {
            return Standing::Unclear;
        }
        let adds_fin = arrival.fin && self.fin.is_none();
        if adds_fin {
            self.fin = Some(Fin { at: end, epoch: arrival.epoch });
        }
        if !arrival.payload.is_empty() {
            self.insert_bytes(arrival, adds_fin);
        }
        Standing::Open
    }

    /// The start and the end of the piece that has `offset`.
    fn piece_at(&self, offset: u64) -> Option<(u64, u64)> {
        let (&start, piece) = self.pieces.range(..=offset).next_back()?;
        let end = start + piece.len();
        (end > offset).then_some((start, end))
    }

    fn insert_bytes(&mut self, arrival: Arrival<'_>, adds_fin: bool) {
        let (start, end) = (arrival.start, arrival.end());
        let before = start.checked_sub(1).and_then(|last| self.piece_at(last));
        // From where on the segment is of use, and up to where its use depends on what Linux has joined.
        let (from, unclear_to) = match self.piece_at(start) {
            None => (start, start),
            // Linux may have joined it to what ends here, before it saw what begins here.
            Some((piece_start, _)) if start == piece_start && before.is_some() => (start, self.run_end(start, end)),
            // A FIN counts: with one more, it is the longer. Whether a FIN that came before is part of the piece is not known.
            Some(piece) if arrival.fin && piece == (start, end) => (start, if adds_fin { start } else { end }),
            Some((_, piece_end)) if end <= piece_end => return,
            Some((piece_start, piece_end)) if start > piece_start => (piece_end, self.run_end(piece_end, end)),
            Some((_, piece_end)) if self.pieces.contains_key(&piece_end) => (start, self.run_end(start, end)),
            Some(_) => (start, start),
        };
        let unclear_to = unclear_to.min(end);
        let disputed = from < unclear_to && self.differs(from, unclear_to, arrival);
        let sure_from = if disputed { unclear_to } else { from };
        let epoch = self.clear(from, end).min(arrival.epoch);
        if disputed {
            let content = Content::Disputed(unclear_to - from);
            self.put(from, Piece { content, epoch, starts_segment: false, pushed: false });
        }
        if sure_from < end {
            let content = Content::Bytes(arrival.payload[to_usize(sure_from - start)..].to_vec());
            let starts_segment = sure_from == start;
            self.put(sure_from, Piece { content, epoch, starts_segment, pushed: arrival.pushed });
        }
    }

    /// The end of the touching pieces of which one begins at `offset`, looked for up to `most`.
    fn run_end(&self, offset: u64, most: u64) -> u64 {
        let mut end = offset;
        for (&start, piece) in self.pieces.range(offset..most.max(offset)) {
            if start != end {
                break;
            }
            end += piece.len();
        }
        end
    }

    /// Whether the pieces in `from..to` have other bytes than `arrival`. They leave no hole.
    fn differs(&self, from: u64, to: u64, arrival: Arrival<'_>) -> bool {
        self.pieces.range(from..to).any(|(&start, piece)| match &piece.content {
            Content::Bytes(bytes) => {
                let len = to_usize((start + piece.len()).min(to) - start);
                let at = to_usize(start - arrival.start);
                bytes[..len] != arrival.payload[at..at + len]
            }
            Content::Disputed(_) => true,
        })
    }

    /// Takes out what is in `from..to`; no piece reaches into it from before. The earliest epoch seen there and behind.
    fn clear(&mut self, from: u64, to: u64) -> u32 {
        let mut earliest = u32::MAX;
        while let Some((&start, piece)) = self.pieces.range(from..).next() {
            earliest = earliest.min(piece.epoch);
            if start >= to {
                break;
            }
            let mut piece = self.take(start).expect("it was found");
            if start + piece.len() > to {
                piece.skip(to - start);
                self.put(to, piece);
            }
        }
        earliest.min(self.fin.map_or(u32::MAX, |fin| fin.epoch))
    }

    fn put(&mut self, start: u64, piece: Piece) {
        self.bytes += piece.cost();
        self.pieces.insert(start, piece);
    }
}

/// A length of something in memory.
fn to_usize(len: u64) -> usize {
    usize::try_from(len).expect("it is in memory")
}
