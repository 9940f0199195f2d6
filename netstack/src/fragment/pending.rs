//! [`Pending`]: the fragments of one datagram. Used by [`super::Reassembler`] only.

use std::ops::Range;

use crate::{
    drop_reason::DropReason,
    packet::{FragmentInfo, Packet, ipv4, ipv6},
};

/// Gaps between fragments at most. The kernel sends them in order, so there is none; more than a few are an attempt to be expensive.
const MAX_RANGES: usize = 16;

/// The largest payload of an IP packet.
const MAX_PAYLOAD_BYTES: usize = 65_535;

/// What a fragment did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Added {
    Waiting,
    Complete,
    Dropped(DropReason),
}

#[derive(Debug, Default)]
pub(super) struct Pending {
    /// The IP headers, without what makes them those of a fragment; empty until the first fragment has come.
    header: Vec<u8>,
    payload: Vec<u8>,
    /// What of `payload` has come: ascending, with gaps between.
    ranges: Vec<Range<usize>>,
    /// Known when the last fragment has come.
    total: Option<usize>,
    /// RFC 5722: whatever else comes of the datagram is dropped, too.
    spoilt: bool,
}

impl Pending {
    /// What it holds.
    pub(super) const fn bytes(&self) -> usize {
        self.header.len() + self.payload.len()
    }

    pub(super) const fn is_spoilt(&self) -> bool {
        self.spoilt
    }

    pub(super) fn add(&mut self, packet: &Packet<'_>, fragment: FragmentInfo) -> Added {
        if self.spoilt {
            return Added::Waiting;
        }
        let result = self.try_add(packet, fragment);
        match result {
            Ok(true) => Added::Complete,
            Ok(false) => Added::Waiting,
            Err(reason) => {
                *self = Self { spoilt: true, ..Self::default() };
                Added::Dropped(reason)
            }
        }
    }

    /// The whole packet, when complete.
    pub(super) fn into_packet(self) -> Option<Vec<u8>> {
        let mut bytes = self.header;
        bytes.extend_from_slice(&self.payload);
        match bytes.first()? >> 4 {
            4 => ipv4::set_total_len(&mut bytes),
            _ => ipv6::set_payload_len(&mut bytes),
        }
        Some(bytes)
    }

    fn try_add(&mut self, packet: &Packet<'_>, fragment: FragmentInfo) -> Result<bool, DropReason> {
        let ipv6 = packet.source().is_ipv6();
        let data_at = fragment.header_at + if ipv6 { ipv6::FRAGMENT_HEADER_BYTES } else { 0 };
        let data = &packet.bytes()[data_at..];
        let start = usize::from(fragment.offset);
        let range = start..start + data.len();
        self.check_length(&range, fragment)?;
        if fragment.offset == 0 {
            self.header = packet.bytes()[..fragment.header_at].to_vec();
            if ipv6 {
                self.header[fragment.announced_at] = packet.bytes()[fragment.header_at];
            } else {
                ipv4::clear_fragment(&mut self.header);
            }
        }
        self.store(range, data)?;
        let Some(total) = self.total else { return Ok(false) };
        // RFC 791: header and payload share the length field; in RFC 8200 extension headers do.
        let room = if ipv6 { MAX_PAYLOAD_BYTES + ipv6::HEADER_BYTES } else { MAX_PAYLOAD_BYTES };
        if self.header.len() + total > room {
            return Err(DropReason::FragmentMalformed);
        }
        Ok(!self.header.is_empty() && self.ranges.first() == Some(&(0..total)))
    }

    fn check_length(&mut self, range: &Range<usize>, fragment: FragmentInfo) -> Result<(), DropReason> {
        let odd = fragment.more && !range.len().is_multiple_of(8);
        if range.is_empty() || odd || range.end > MAX_PAYLOAD_BYTES {
            return Err(DropReason::FragmentMalformed);
        }
        if !fragment.more {
            let total = *self.total.get_or_insert(range.end);
            if total != range.end || self.payload.len() > total {
                return Err(DropReason::FragmentMalformed);
            }
        }
        if self.total.is_some_and(|total| range.end > total) {
            return Err(DropReason::FragmentMalformed);
        }
        Ok(())
    }

    /// A fragment that came twice is ignored (RFC 8200 4.5); any other overlap spoils the datagram.
    fn store(&mut self, range: Range<usize>, data: &[u8]) -> Result<(), DropReason> {
        let place = self.ranges.partition_point(|other| other.end <= range.start);
        if let Some(other) = self.ranges.get(place)
            && other.start < range.end
        {
            let inside = other.start <= range.start && range.end <= other.end;
            let twice = inside && self.payload[range] == *data;
            return if twice { Ok(()) } else { Err(DropReason::FragmentOverlap) };
        }
        if self.payload.len() < range.end {
            self.payload.resize(range.end, 0);
        }
        self.payload[range.clone()].copy_from_slice(data);
        self.insert(place, range);
        if self.ranges.len() > MAX_RANGES { Err(DropReason::FragmentMalformed) } else { Ok(()) }
    }

    /// Joins what touches.
    fn insert(&mut self, place: usize, mut range: Range<usize>) {
        if self.ranges.get(place).is_some_and(|behind| behind.start == range.end) {
            range.end = self.ranges.remove(place).end;
        }
        match place.checked_sub(1).and_then(|before| self.ranges.get_mut(before)) {
            Some(before) if before.end == range.start => before.end = range.end,
            _ => self.ranges.insert(place, range),
        }
    }
}
