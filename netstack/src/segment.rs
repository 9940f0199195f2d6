//! [`Segment`]: a checked view of one TCP segment.
//!
//! Owns what can be said about a segment without its flow: offsets, flags that exclude each other, options that end inside.
//! Before: [`crate::packet`]; after: [`crate::tcp_flow`] when its flow exists, [`crate::tcp_reply`] when not.

use std::net::SocketAddr;

use crate::{
    drop_reason::DropReason,
    flow::{ClusterAddr, FlowKey, HostAddr, Protocol},
    packet::{Packet, word},
};

/// Without options.
pub(crate) const HEADER_BYTES: usize = 20;

/// Where the checksum is in the header.
pub(crate) const CHECKSUM_OFFSET: u16 = 16;

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
        check_flags(tcp[13])?;
        check_options(&tcp[HEADER_BYTES..header_len])?;
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
        self.packet.payload()[13]
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

    fn number(&self, at: usize) -> u32 {
        let tcp = self.packet.payload();
        u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]])
    }
}

/// A segment opens, resets or continues (and then acknowledges, RFC 9293 3.10.7.4); it does one of them.
fn check_flags(flags: u8) -> Result<(), DropReason> {
    let controls = flags & (SYN | FIN | RST);
    if controls.count_ones() > 1 || flags & (SYN | RST | ACK) == 0 {
        return Err(DropReason::TcpFlags);
    }
    Ok(())
}

/// The options that smoltcp reads must have the length that it expects; it would drop the segment without a word.
fn check_options(mut options: &[u8]) -> Result<(), DropReason> {
    const END: u8 = 0;
    const NOP: u8 = 1;
    while let Some(&kind) = options.first() {
        if kind == END {
            break;
        }
        let len = if kind == NOP { 1 } else { usize::from(*options.get(1).ok_or(DropReason::TcpHeader)?) };
        let sane = match kind {
            NOP => true,
            2 => len == 4,                                 // maximum segment size
            3 => len == 3,                                 // window scale
            4 => len == 2,                                 // SACK permitted
            5 => len >= 10 && (len - 2).is_multiple_of(8), // SACK
            _ => len >= 2,
        };
        options = options.get(len..).filter(|_| sane).ok_or(DropReason::TcpHeader)?;
    }
    Ok(())
}
