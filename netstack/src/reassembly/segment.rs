//! [`Segment`]: a TCP segment of a client as a tap sees it.

use std::net::SocketAddr;

use crate::{
    drop_reason::DropReason,
    packet::{IpProtocol, Packet, word},
    segment::{FLAGS_AT, HEADER_BYTES, number},
};

/// A segment from a client to the target.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// Who sends.
    pub client: SocketAddr,
    /// The target.
    pub server: SocketAddr,
    /// The sequence number of the SYN, or of the first byte of the payload.
    pub seq: u32,
    /// The sequence number that the client expects next.
    pub ack: u32,
    /// What the header says.
    pub flags: Flags,
    /// The payload, up to a whole GSO frame.
    pub payload: &'a [u8],
}

/// The flags of a TCP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// No more bytes follow.
    pub const FIN: Self = Self(0x01);
    /// The stream begins.
    pub const SYN: Self = Self(0x02);
    /// The connection is over.
    pub const RST: Self = Self(0x04);
    /// What was written ends here.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgment number is valid.
    pub const ACK: Self = Self(0x10);

    /// Whether all of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl<'a> Segment<'a> {
    /// Reads the TCP header of `packet`, which must be no fragment. No checksum is verified: of a frame that never was on a wire it is not
    /// finished.
    ///
    /// # Errors
    /// The reason to drop it.
    pub fn parse(packet: &Packet<'a>) -> Result<Self, DropReason> {
        let tcp = packet.payload();
        if packet.protocol() != IpProtocol::Tcp {
            return Err(DropReason::ProtocolUnknown);
        }
        if tcp.len() < HEADER_BYTES {
            return Err(DropReason::Truncated);
        }
        let header_len = usize::from(tcp[12] >> 4) * 4;
        let payload = tcp.get(header_len..).filter(|_| header_len >= HEADER_BYTES).ok_or(DropReason::TcpHeader)?;
        Ok(Self {
            client: SocketAddr::new(packet.source(), word(tcp, 0)),
            server: SocketAddr::new(packet.destination(), word(tcp, 2)),
            seq: number(tcp, 4),
            ack: number(tcp, 8),
            flags: Flags(tcp[FLAGS_AT]),
            payload,
        })
    }
}
