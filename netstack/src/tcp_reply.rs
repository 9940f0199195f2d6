//! Answers to TCP segments whose flow does not exist, without any state: [`reset`] and [`acknowledge`].
//!
//! Before: [`crate::flow_table`] (unknown, or a tombstone); after: the device. A flow that exists answers by itself ([`crate::tcp_flow`]).

use crate::{
    packet::{IpHeader, IpProtocol},
    segment::{ACK, CHECKSUM_OFFSET, HEADER_BYTES, RST, Segment},
    virtio,
};

/// Room for any answer: virtio, IPv6 and TCP header.
pub const REPLY_BYTES: usize = virtio::HEADER_BYTES + 40 + HEADER_BYTES;

/// A whole packet, virtio header included, for one `write(2)` to the device.
#[derive(Debug, Clone, Copy)]
pub struct TcpReply {
    bytes: [u8; REPLY_BYTES],
    len: usize,
}

impl TcpReply {
    /// The packet.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The RST that RFC 9293 3.10.7.1 asks for when no connection exists. `None` for a segment that is a RST itself.
pub fn reset(segment: &Segment<'_>) -> Option<TcpReply> {
    if segment.resets() {
        return None;
    }
    if segment.flags() & ACK != 0 {
        return build(segment, RST, segment.acknowledged(), 0);
    }
    build(segment, RST | ACK, 0, segment.sequence_end())
}

/// Acknowledges everything in `segment`: for the FIN that the application's kernel repeats because the acknowledgement of a flow that is
/// gone was lost. `None` for a segment that asks for none.
pub fn acknowledge(segment: &Segment<'_>) -> Option<TcpReply> {
    if segment.resets() || segment.sequence() == segment.sequence_end() {
        return None;
    }
    build(segment, ACK, segment.acknowledged(), segment.sequence_end())
}

fn build(segment: &Segment<'_>, flags: u8, sequence: u32, acknowledged: u32) -> Option<TcpReply> {
    let key = segment.key();
    let (from, to) = (key.cluster.0, key.host.0);
    let tcp_len = u16::try_from(HEADER_BYTES).ok()?;
    let ip = IpHeader::new(from.ip(), to.ip(), IpProtocol::Tcp, tcp_len)?;
    let mut reply = TcpReply { bytes: [0; REPLY_BYTES], len: virtio::HEADER_BYTES + ip.total_len() };
    let (virtio, packet) = reply.bytes.split_at_mut(virtio::HEADER_BYTES);
    virtio.copy_from_slice(&virtio::unfinished(ip.len(), CHECKSUM_OFFSET));
    ip.write(packet);
    let tcp = &mut packet[ip.len()..][..HEADER_BYTES];
    tcp[..2].copy_from_slice(&from.port().to_be_bytes());
    tcp[2..4].copy_from_slice(&to.port().to_be_bytes());
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    tcp[8..12].copy_from_slice(&acknowledged.to_be_bytes());
    tcp[12] = 5 << 4;
    tcp[13] = flags;
    tcp[16..18].copy_from_slice(&ip.pseudo_sum().to_be_bytes());
    Some(reply)
}
