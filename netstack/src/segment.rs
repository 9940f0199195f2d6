//! [`Segment`]: a checked view of one TCP segment.
//!
//! Owns what can be said about a segment without its flow: offsets, flags that exclude each other, options that end inside.
//! Before: [`crate::packet`]; after: [`crate::tcp_flow`] when its flow exists, [`crate::tcp_reply`] when not.

mod options;

use std::net::SocketAddr;

use crate::{
    drop_reason::DropReason,
    flow::{ClusterAddr, FlowKey, HostAddr, Protocol},
    packet::{IpHeader, IpProtocol, Packet, word},
};

/// Without options.
pub(crate) const HEADER_BYTES: usize = 20;

/// Where the checksum is in the header.
pub(crate) const CHECKSUM_OFFSET: u16 = 16;

/// Where the flags are in the header.
pub(crate) const FLAGS_AT: usize = 13;

/// Where the window is in the header.
pub(crate) const WINDOW_AT: usize = 14;

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

/// One TCP segment, up to a whole TSO super-packet.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    packet: Packet<'a>,
    key: FlowKey,
    header_len: usize,
}

impl<'a> Segment<'a> {
    /// Checks the TCP header of `packet`, which must be no fragment.
    ///
    /// # Errors
    /// The reason to drop it.
    pub fn parse(packet: Packet<'a>) -> Result<Self, DropReason> {
        let tcp = packet.payload();
        if tcp.len() < HEADER_BYTES {
            return Err(DropReason::Truncated);
        }
        let (source_port, destination_port) = (word(tcp, 0), word(tcp, 2));
        if source_port == 0 || destination_port == 0 {
            return Err(DropReason::PortZero);
        }
        let header_len = usize::from(tcp[12] >> 4) * 4;
        if header_len < HEADER_BYTES || header_len > tcp.len() {
            return Err(DropReason::TcpHeader);
        }
        check_flags(tcp[FLAGS_AT])?;
        options::check(&tcp[HEADER_BYTES..header_len])?;
        let key = FlowKey {
            host: HostAddr(SocketAddr::new(packet.source(), source_port)),
            cluster: ClusterAddr(SocketAddr::new(packet.destination(), destination_port)),
            protocol: Protocol::Tcp,
        };
        Ok(Self { packet, key, header_len })
    }

    /// The flow that it belongs to.
    pub const fn key(&self) -> FlowKey {
        self.key
    }

    /// Whether it asks for a new connection: SYN and nothing else that matters.
    pub fn opens(&self) -> bool {
        self.flags() & (SYN | ACK) == SYN
    }

    /// Whether it is a reset.
    pub fn resets(&self) -> bool {
        self.flags() & RST != 0
    }

    /// The IP packet around it.
    pub const fn packet(&self) -> Packet<'a> {
        self.packet
    }

    /// Its payload.
    pub fn payload(&self) -> &'a [u8] {
        &self.packet.payload()[self.header_len..]
    }

    pub(crate) fn flags(&self) -> u8 {
        self.packet.payload()[FLAGS_AT]
    }

    /// By how many bits the sender's windows are to be shifted, when it is a SYN and says so.
    pub(crate) fn window_scale(&self) -> Option<u8> {
        options::window_scale(&self.packet.payload()[HEADER_BYTES..self.header_len])
    }

    pub(crate) fn sequence(&self) -> u32 {
        self.number(4)
    }

    pub(crate) fn acknowledged(&self) -> u32 {
        self.number(8)
    }

    /// The first sequence number behind it: SYN and FIN count as one each.
    pub(crate) fn sequence_end(&self) -> u32 {
        let len = u32::try_from(self.payload().len()).expect("a packet is at most 65,535 bytes");
        let controls = u32::from(self.flags() & SYN != 0) + u32::from(self.flags() & FIN != 0);
        self.sequence().wrapping_add(len).wrapping_add(controls)
    }

    /// As the sender says it, unscaled.
    pub(crate) fn window(&self) -> u16 {
        word(self.packet.payload(), WINDOW_AT)
    }

    fn number(&self, at: usize) -> u32 {
        number(self.packet.payload(), at)
    }
}

/// The big-endian number at `at`, which must be inside `bytes`.
pub(crate) fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The fields of a header that this crate builds itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields {
    pub(crate) flags: u8,
    pub(crate) sequence: u32,
    pub(crate) acknowledged: u32,
    pub(crate) window: u16,
}

/// IPv6 and TCP header.
pub(crate) const MAX_HEADERS_BYTES: usize = 40 + HEADER_BYTES;

/// Lays a segment without options or payload, IP header included, into `out` ([`MAX_HEADERS_BYTES`]); returns its IP header. Its checksum
/// is unfinished. `None` when the addresses are not of one family.
pub(crate) fn write(out: &mut [u8], from: SocketAddr, to: SocketAddr, fields: Fields) -> Option<IpHeader> {
    let ip = IpHeader::new(from.ip(), to.ip(), IpProtocol::Tcp, u16::try_from(HEADER_BYTES).ok()?)?;
    ip.write(out);
    let tcp = &mut out[ip.len()..][..HEADER_BYTES];
    tcp[..2].copy_from_slice(&from.port().to_be_bytes());
    tcp[2..4].copy_from_slice(&to.port().to_be_bytes());
    tcp[4..8].copy_from_slice(&fields.sequence.to_be_bytes());
    tcp[8..12].copy_from_slice(&fields.acknowledged.to_be_bytes());
    tcp[12..14].copy_from_slice(&[5 << 4, fields.flags]);
    tcp[WINDOW_AT..WINDOW_AT + 2].copy_from_slice(&fields.window.to_be_bytes());
    tcp[16..18].copy_from_slice(&ip.pseudo_sum().to_be_bytes());
    tcp[18..].fill(0);
    Some(ip)
}

/// A segment opens, resets or continues (and then acknowledges, RFC 9293 3.10.7.4); it does one of them.
fn check_flags(flags: u8) -> Result<(), DropReason> {
    let controls = flags & (SYN | FIN | RST);
    if controls.count_ones() > 1 || flags & (SYN | RST | ACK) == 0 {
        return Err(DropReason::TcpFlags);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A segment of a connection from 10.0.0.1:4000 to 10.96.0.1:80, with these flags, options and payload.
    fn bytes(flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
        let len = 40 + options.len() + payload.len();
        let mut bytes =
            vec![0x45, 0, 0, u8::try_from(len).unwrap(), 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 96, 0, 1];
        bytes.extend([0x0f, 0xa0, 0, 80, 0, 0, 0, 9, 0, 0, 0, 7]);
        bytes.extend([u8::try_from((20 + options.len()) / 4 * 16).unwrap(), flags, 0xff, 0xff, 0, 0, 0, 0]);
        bytes.extend(options);
        bytes.extend(payload);
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<Segment<'_>, DropReason> {
        Segment::parse(Packet::parse(bytes)?)
    }

    #[test]
    fn what_a_segment_says_is_read() {
        let bytes = bytes(FIN | ACK, &[1, 1, 1, 0], b"payload");
        let segment = parse(&bytes).unwrap();
        assert_eq!(segment.key().to_string(), "tcp 10.0.0.1:4000 -> 10.96.0.1:80");
        assert_eq!((segment.payload(), segment.sequence(), segment.acknowledged()), (b"payload".as_slice(), 9, 7));
        assert_eq!(segment.sequence_end(), 9 + 7 + 1);
        assert!(!segment.opens() && !segment.resets());
    }

    #[test]
    fn flags_that_exclude_each_other_are_named() {
        for flags in [SYN | FIN, SYN | RST, FIN | RST, SYN | FIN | RST | ACK, FIN, 0, 0x08] {
            assert_eq!(parse(&bytes(flags, &[], &[])).unwrap_err(), DropReason::TcpFlags, "{flags:#x}");
        }
        for flags in [SYN, SYN | ACK, ACK, FIN | ACK, RST, RST | ACK, SYN | 0xc8, ACK | 0x28] {
            assert!(parse(&bytes(flags, &[], &[])).is_ok(), "{flags:#x}");
        }
    }

    #[test]
    fn offsets_and_options_stay_inside() {
        let mut short = bytes(ACK, &[], &[]);
        short[32] = 4 << 4;
        assert_eq!(parse(&short).unwrap_err(), DropReason::TcpHeader);
        short[32] = 6 << 4;
        assert_eq!(parse(&short).unwrap_err(), DropReason::TcpHeader);
        let sane: [&[u8]; 5] = [&[2, 4, 5, 180], &[1, 3, 3, 7], &[4, 2, 1, 1], &[254, 4, 0, 0], &[0, 9, 9, 9]];
        for options in sane {
            assert!(parse(&bytes(SYN, options, &[])).is_ok(), "{options:?}");
        }
        let insane: [&[u8]; 6] =
            [&[2, 3, 5, 1], &[1, 1, 3, 4], &[1, 1, 1, 5], &[254, 0, 0, 0], &[254, 5, 0, 0], &[5, 4, 0, 0]];
        for options in insane {
            assert_eq!(parse(&bytes(SYN, options, &[])).unwrap_err(), DropReason::TcpHeader, "{options:?}");
        }
    }

    #[test]
    fn a_port_of_zero_is_named() {
        for at in [20, 22] {
            let mut bytes = bytes(SYN, &[], &[]);
            bytes[at..at + 2].fill(0);
            assert_eq!(parse(&bytes).unwrap_err(), DropReason::PortZero);
        }
    }
}
