//! [`Joined`]: a batch of segments that one `sendmsg` carries. Pure. Before: quinn's batches; after: [`super::UdpCarrier`].

use std::net::{IpAddr, SocketAddr};

use quinn::udp::{EcnCodepoint, Transmit};

/// Largest joined batch: what one UDP send carries over IPv4, 65,507 bytes, is 45 segments of 1,452; 44 leaves room for IPv6.
const MAX_BYTES: usize = 44 * 1452;

/// Segments of one size for one destination, waiting for more of them.
#[derive(Default)]
pub(super) struct Joined {
    pub(super) bytes: Vec<u8>,
    pub(super) destination: Option<SocketAddr>,
    pub(super) src_ip: Option<IpAddr>,
    pub(super) ecn: Option<EcnCodepoint>,
    pub(super) segment_size: usize,
}

impl Joined {
    /// Whether `transmit` can go out in the same send: everything equal, and the last segment so far a full one. A shorter packet
    /// ends a batch of several, but is not put behind a lone larger one: that may be an MTU probe, and the kernel's `EINVAL` for
    /// a batch of too large segments would look as if the device could not segment at all.
    pub(super) fn takes(&self, transmit: &Transmit<'_>) -> bool {
        let segment_size = transmit.segment_size.unwrap_or(transmit.contents.len());
        self.destination == Some(transmit.destination)
            && self.ecn == transmit.ecn
            && self.src_ip == transmit.src_ip
            && self.bytes.len().is_multiple_of(self.segment_size)
            && (self.segment_size == segment_size
                || (transmit.segment_size.is_none()
                    && segment_size < self.segment_size
                    && self.bytes.len() > self.segment_size))
            && self.bytes.len() + transmit.contents.len() <= MAX_BYTES
    }

    pub(super) fn push(&mut self, transmit: &Transmit<'_>) {
        if self.bytes.is_empty() {
            self.destination = Some(transmit.destination);
            self.src_ip = transmit.src_ip;
            self.ecn = transmit.ecn;
            self.segment_size = transmit.segment_size.unwrap_or(transmit.contents.len());
        }
        self.bytes.extend_from_slice(transmit.contents);
    }

    /// Whether not even one segment more would go along.
    pub(super) const fn is_full(&self) -> bool {
        self.bytes.len() + self.segment_size > MAX_BYTES
    }
}
