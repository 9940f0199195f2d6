//! [`Segment`]: a TCP segment of a client as a tap sees it. Before: [`crate::packet::Packet::parse_captured`]; after:
//! [`super::Reassembler::segment`].

use std::net::SocketAddr;

use smoltcp::wire::{IpAddress, checksum};

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
    /// The payload, up to a whole GSO frame. Of a SYN only with a cookie for Fast Open: without one no server takes it.
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

/// RFC 7413 4.1.1, and 254 with this number before it had one of its own.
const FAST_OPEN: u8 = 34;
const EXPERIMENT: u8 = 254;
const EXPERIMENT_FAST_OPEN: [u8; 2] = [0xf9, 0x89];

impl<'a> Segment<'a> {
    /// Reads the TCP header of `packet`, which must be no fragment. No checksum is verified: in a frame that never was on a wire it is not
    /// finished; where the capture says neither that nor that it was verified, ask [`checksum_holds`].
    ///
    /// # Errors
    /// The reason to drop it.
    pub fn parse(packet: &Packet<'a>) -> Result<Self, DropReason> {
        if packet.protocol() != IpProtocol::Tcp || packet.fragment().is_some() {
            return Err(DropReason::ProtocolUnknown);
        }
        let tcp = packet.payload();
        if tcp.len() < HEADER_BYTES {
            return Err(DropReason::Truncated);
        }
        let header_len = usize::from(tcp[12] >> 4) * 4;
        let mut payload = tcp.get(header_len..).filter(|_| header_len >= HEADER_BYTES).ok_or(DropReason::TcpHeader)?;
        let flags = Flags(tcp[FLAGS_AT]);
        if flags.contains(Flags::SYN) && !payload.is_empty() && !has_cookie(&tcp[HEADER_BYTES..header_len]) {
            payload = &[];
        }
        Ok(Self {
            client: SocketAddr::new(packet.source(), word(tcp, 0)),
            server: SocketAddr::new(packet.destination(), word(tcp, 2)),
            seq: number(tcp, 4),
            ack: number(tcp, 8),
            flags,
            payload,
        })
    }
}

impl Segment<'_> {
    /// Whether it asks for a new connection.
    pub(super) const fn opens(&self) -> bool {
        self.flags.0 & (Flags::SYN.0 | Flags::ACK.0 | Flags::RST.0 | Flags::FIN.0) == Flags::SYN.0
    }
}

/// Whether the TCP or UDP checksum of `packet`, which is whole, is right. Reads all of it: only for frames of which the capture says neither
/// that it was verified nor that it is unfinished (`TP_STATUS_CSUM_VALID`, `TP_STATUS_CSUMNOTREADY`). The target drops what it is
/// wrong in.
pub fn checksum_holds(packet: &Packet<'_>) -> bool {
    let payload = packet.payload();
    // RFC 768: none was made
    if packet.protocol() == IpProtocol::Udp && payload.get(6..8) == Some(&[0, 0]) {
        return true;
    }
    let Ok(len) = u32::try_from(payload.len()) else { return false };
    let (source, destination) = (IpAddress::from(packet.source()), IpAddress::from(packet.destination()));
    let protocol = packet.protocol().number().into();
    let pseudo = checksum::pseudo_header(&source, &destination, protocol, len);
    checksum::combine(&[pseudo, checksum::data(payload)]) == !0
}

fn has_cookie(mut options: &[u8]) -> bool {
    while let [kind, rest @ ..] = options {
        match (kind, rest) {
            (0, _) => return false,
            (1, rest) => options = rest,
            (_, [len, ..]) => {
                let Some(value) = options.get(2..usize::from(*len)) else { return false };
                match *kind {
                    FAST_OPEN if !value.is_empty() => return true,
                    EXPERIMENT if value.len() > 2 && value.starts_with(&EXPERIMENT_FAST_OPEN) => return true,
                    _ => options = &options[usize::from(*len)..],
                }
            }
            (_, []) => return false,
        }
    }
    false
}
