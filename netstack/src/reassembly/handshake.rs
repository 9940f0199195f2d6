//! [`Embryo`]: a connection of which only the SYN was seen. Used by [`super::Reassembler`].
//!
//! From one side the server's sequence numbers can't be seen, so neither can whether an acknowledgment is right: the handshake counts as
//! completed by the first segment that continues the SYN's numbers. Who can send with a client's address can thus open flows here that the
//! target never had; [`super::settlement`] finds them out.

use super::segment::{Flags, Segment};

/// A receiver offers no more in its SYN (RFC 7323 2.2: that window is not scaled), so nothing beyond comes before the handshake is over.
const FIRST_WINDOW: u32 = 65_535;

/// Segments within so many bytes belong to one stream rather than to two.
const NEAR: u32 = 1 << 20;

/// What is kept of a SYN's payload: as much as fits a packet of 1,500 bytes. Anybody can send SYNs, and none of it counts as held.
const EARLY_BYTES: usize = 1_460;

#[derive(Debug)]
pub(super) struct Embryo {
    /// The sequence number of the stream's first byte.
    first: u32,
    /// The one of a SYN before with another number, which the target may have taken instead.
    rival: Option<u32>,
    /// What came with the SYN, when it had a cookie (RFC 7413). It is part of the stream if the client does not send it again.
    early: Box<[u8]>,
    epoch: u32,
}

/// What a segment that follows a SYN is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Follow {
    /// The stream begins at this sequence number, with bytes that came with the SYN, and everything since this epoch began was seen.
    Start { first: u32, early: Box<[u8]>, epoch: u32 },
    /// The connection is refused.
    Refusal,
    /// No part of what the SYN began.
    Stranger,
}

impl Embryo {
    pub(super) fn new(syn: &Segment<'_>, epoch: u32) -> Self {
        Self {
            first: syn.seq.wrapping_add(1),
            rival: None,
            early: syn.payload[..syn.payload.len().min(EARLY_BYTES)].into(),
            epoch,
        }
    }

    /// Another SYN: the same again, or the client has begun anew.
    pub(super) fn repeat(&mut self, syn: &Segment<'_>, epoch: u32) {
        let first = syn.seq.wrapping_add(1);
        if first != self.first {
            let rival = Some(self.first);
            *self = Self { rival, ..Self::new(syn, epoch) };
        }
    }

    /// Where the stream begins, and since when everything of it was seen.
    pub(super) const fn start(&self) -> (u32, u32) {
        (self.first, self.epoch)
    }

    pub(super) fn follow(&mut self, segment: &Segment<'_>, epoch: u32) -> Follow {
        let early_len = u32::try_from(self.early.len()).expect("a packet is less than 4 GiB");
        let near = |first: u32, room: u32| segment.seq.wrapping_sub(first) <= room;
        if segment.flags.contains(Flags::RST) {
            return if near(self.first, FIRST_WINDOW) { Follow::Refusal } else { Follow::Stranger };
        }
        if !segment.flags.contains(Flags::ACK) {
            return Follow::Stranger;
        }
        // What the ring lost may have come before.
        let room = if epoch == self.epoch { early_len + FIRST_WINDOW } else { 1 << 30 };
        if let Some(first) = self.rival.filter(|&rival| segment.seq == rival && segment.seq != self.first) {
            return Follow::Start { first, early: Box::default(), epoch: self.epoch };
        }
        if near(self.first, room) {
            let sent_again = near(self.first, early_len.saturating_sub(1)) && early_len > 0;
            let early = if sent_again { Box::default() } else { std::mem::take(&mut self.early) };
            return Follow::Start { first: self.first, early, epoch: self.epoch };
        }
        match self.rival.filter(|&rival| near(rival, FIRST_WINDOW)) {
            Some(first) => Follow::Start { first, early: Box::default(), epoch: self.epoch },
            None => Follow::Stranger,
        }
    }
}

/// Where a stream would begin that this SYN opens under the name of one which began at `own`, when that is known, and is `ahead` of
/// what the old expects. A copy of the old one's own SYN opens none, and what begins near the old stream can't be told from it.
pub(super) fn rival(syn: &Segment<'_>, own: Option<u32>, ahead: i32) -> Option<u32> {
    let first = syn.seq.wrapping_add(1);
    (syn.opens() && own != Some(first) && ahead.unsigned_abs() > NEAR).then_some(first)
}

/// Whether `segment` continues a SYN whose stream begins at `first`, rather than a stream that expects a number `ahead` of it.
pub(super) fn continues(segment: &Segment<'_>, first: u32, ahead: i32) -> bool {
    let from_first = segment.seq.wrapping_sub(first);
    let usable = segment.flags.contains(Flags::ACK) && !segment.flags.contains(Flags::RST);
    usable && from_first <= FIRST_WINDOW && from_first < ahead.unsigned_abs()
}
