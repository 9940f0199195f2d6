//! [`Packet`]: a checked view of one IP packet as the TUN device read it, or a tap saw it.
//!
//! Owns the IP headers of both families: lengths, extension headers, addresses that make no sense. Does not own fragments
//! ([`crate::fragment`]) nor what is inside ([`crate::segment`], [`crate::udp`], [`crate::icmp`]), and verifies no checksum.
//! Before: `tunnel::device`, or a tap's capture; after: one of those, by [`Packet::protocol`], or [`crate::reassembly`].

mod address;
mod header;
pub(crate) mod ipv4;
pub(crate) mod ipv6;

use std::net::IpAddr;

pub(crate) use self::header::IpHeader;
use crate::drop_reason::DropReason;

/// One IP packet. Whatever the device read behind its end is cut off.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    bytes: &'a [u8],
    /// Where the transport header begins, or, in a later fragment, the data.
    payload_at: usize,
    protocol: IpProtocol,
    source: IpAddr,
    destination: IpAddr,
    hop_limit: u8,
    fragment: Option<FragmentInfo>,
}

/// What is behind the IP headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IpProtocol {
    /// Transmission Control Protocol.
    Tcp,
    /// User Datagram Protocol.
    Udp,
    /// ICMP over IPv4.
    Icmpv4,
    /// ICMP over IPv6.
    Icmpv6,
}

/// Where a fragment belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FragmentInfo {
    /// The same in every fragment of a datagram, with its addresses and protocol.
    pub id: u32,
    /// Bytes of the datagram's payload in front of this fragment; a multiple of 8.
    pub offset: u16,
    /// Whether another fragment follows.
    pub more: bool,
    /// IPv6: where the fragment header is. IPv4: the end of the header.
    pub(crate) header_at: usize,
    /// IPv6: where the number that announces the fragment header is. IPv4: unused.
    pub(crate) announced_at: usize,
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV4: u8 = 1;
const ICMPV6: u8 = 58;

impl IpProtocol {
    /// The number in an IP header.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => TCP,
            Self::Udp => UDP,
            Self::Icmpv4 => ICMPV4,
            Self::Icmpv6 => ICMPV6,
        }
    }

    /// ICMP of the wrong family is unknown, too.
    const fn parse(number: u8, ipv6: bool) -> Result<Self, DropReason> {
        match (number, ipv6) {
            (TCP, _) => Ok(Self::Tcp),
            (UDP, _) => Ok(Self::Udp),
            (ICMPV4, false) => Ok(Self::Icmpv4),
            (ICMPV6, true) => Ok(Self::Icmpv6),
            _ => Err(DropReason::ProtocolUnknown),
        }
    }
}

impl<'a> Packet<'a> {
    /// Checks `bytes`, one packet without its virtio header. Packets up to 65,535 bytes, also segments larger than any MTU
    /// (TSO), are taken whole.
    ///
    /// # Errors
    /// The reason to drop it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let packet = Self::parse_ip(bytes, None)?;
        address::check(packet.source, packet.destination)?;
        Ok(packet)
    }

    /// Checks `bytes`, one packet as a capture of a device saw it: any address goes (a device's own kernel has judged it, and on `lo`
    /// both are loopback), and a packet too large for its length field is as long as `bytes` (BIG TCP), which must not be cut off then.
    /// Padding behind the packet is cut off; a packet that itself was cut off is [`DropReason::Truncated`].
    ///
    /// # Errors
    /// The reason to drop it.
    pub fn parse_captured(bytes: &'a [u8]) -> Result<Self, DropReason> {
        Self::parse_ip(bytes, Some(bytes.len()))
    }

    /// `unsaid_len` is how long a packet is that says 0 for being too large.
    fn parse_ip(bytes: &'a [u8], unsaid_len: Option<usize>) -> Result<Self, DropReason> {
        match bytes.first().ok_or(DropReason::Truncated)? >> 4 {
            4 => ipv4::parse(bytes, unsaid_len),
            6 => ipv6::parse(bytes, unsaid_len),
            _ => Err(DropReason::IpVersion),
        }
    }

    /// The whole packet.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Everything behind the IP headers; of a fragment, its part of that.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.payload_at..]
    }

    /// What is behind the IP headers.
    pub const fn protocol(&self) -> IpProtocol {
        self.protocol
    }

    /// The application's address.
    pub const fn source(&self) -> IpAddr {
        self.source
    }

    /// The cluster's address.
    pub const fn destination(&self) -> IpAddr {
        self.destination
    }

    /// TTL or hop limit.
    pub const fn hop_limit(&self) -> u8 {
        self.hop_limit
    }

    /// Set when this is only a part: hand it to [`crate::fragment::Reassembler`] and parse what that gives back.
    pub const fn fragment(&self) -> Option<FragmentInfo> {
        self.fragment
    }

    /// Whether the packet is IPv6 with extension headers, which smoltcp does not skip.
    pub(crate) const fn has_extension_headers(&self) -> bool {
        matches!(self.source, IpAddr::V6(_)) && self.payload_at > ipv6::HEADER_BYTES
    }

    /// A copy for smoltcp. Nothing in use sends TCP with extension headers, so it may cost an allocation.
    pub(crate) fn without_extension_headers(&self) -> Vec<u8> {
        let payload_len = u16::try_from(self.payload().len()).expect("a packet is at most 65,575 bytes");
        let header = IpHeader::new(self.source, self.destination, self.protocol, payload_len)
            .expect("a packet's addresses are of one family");
        let mut bytes = vec![0; header.len()];
        header.write(&mut bytes);
        bytes.extend_from_slice(self.payload());
        bytes
    }
}

/// The big-endian word at `at`, which must be inside `bytes`.
pub(crate) const fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests;
