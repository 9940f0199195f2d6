//! [`IpHeader`]: the IP header of either family for a packet that this crate builds. Used by [`crate::udp`], [`crate::icmp`] and
//! [`crate::tcp_reply`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::wire::checksum;

use super::{IpProtocol, ipv4, ipv6};

/// Without options or extension headers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IpHeader {
    addresses: Addresses,
    protocol: IpProtocol,
    payload_len: u16,
    hop_limit: u8,
}

#[derive(Debug, Clone, Copy)]
enum Addresses {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

/// The default of RFC 1700 and of Linux.
const HOP_LIMIT: u8 = 64;

impl IpHeader {
    /// A header in front of `payload_len` bytes; `None` when they do not fit, or the addresses are not of one family.
    pub(crate) fn new(from: IpAddr, to: IpAddr, protocol: IpProtocol, payload_len: u16) -> Option<Self> {
        let addresses = match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                payload_len.checked_add(u16::try_from(ipv4::HEADER_BYTES).ok()?)?;
                Addresses::V4(from, to)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => Addresses::V6(from, to),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
        };
        Some(Self { addresses, protocol, payload_len, hop_limit: HOP_LIMIT })
    }

    pub(crate) const fn with_hop_limit(self, hop_limit: u8) -> Self {
        Self { hop_limit, ..self }
    }

    pub(crate) const fn len(&self) -> usize {
        match self.addresses {
            Addresses::V4(..) => ipv4::HEADER_BYTES,
            Addresses::V6(..) => ipv6::HEADER_BYTES,
        }
    }

    /// Header and payload.
    pub(crate) fn total_len(&self) -> usize {
        self.len() + usize::from(self.payload_len)
    }

    pub(crate) fn write(&self, out: &mut [u8]) {
        let protocol = self.protocol.number();
        match self.addresses {
            Addresses::V4(from, to) => {
                let total_len = u16::try_from(self.total_len()).expect("checked by new");
                ipv4::write(out, (from, to), protocol, self.hop_limit, total_len);
            }
            Addresses::V6(from, to) => ipv6::write(out, (from, to), protocol, self.hop_limit, self.payload_len),
        }
    }

    /// The folded sum of the pseudo-header: what a transport's checksum field holds until the kernel adds the rest.
    pub(crate) fn pseudo_sum(&self) -> u16 {
        let protocol = self.protocol.number().into();
        let len = u32::from(self.payload_len);
        match self.addresses {
            Addresses::V4(from, to) => checksum::pseudo_header_v4(&from, &to, protocol, len),
            Addresses::V6(from, to) => checksum::pseudo_header_v6(&from, &to, protocol, len),
        }
    }
}
