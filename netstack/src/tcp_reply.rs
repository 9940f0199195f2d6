//! Answers to TCP segments whose flow does not exist, without any state: [`reset`] and [`acknowledge`].
//!
//! Before: [`crate::flow_table`] (unknown, or a tombstone); after: the device. A flow that exists answers by itself ([`crate::tcp_flow`]).

use crate::{
    segment::{self, ACK, CHECKSUM_OFFSET, Fields, MAX_HEADERS_BYTES, RST, Segment},
    virtio,
};

/// Room for any answer: virtio, IPv6 and TCP header.
pub const REPLY_BYTES: usize = virtio::HEADER_BYTES + MAX_HEADERS_BYTES;

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
    let mut reply = TcpReply { bytes: [0; REPLY_BYTES], len: 0 };
    let (virtio, packet) = reply.bytes.split_at_mut(virtio::HEADER_BYTES);
    let fields = Fields { flags, sequence, acknowledged, window: 0 };
    let ip = segment::write(packet, key.cluster.0, key.host.0, fields)?;
    virtio.copy_from_slice(&virtio::unfinished(ip.len(), CHECKSUM_OFFSET));
    reply.len = virtio::HEADER_BYTES + ip.total_len();
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        packet::{IpHeader, IpProtocol, Packet},
        segment::HEADER_BYTES,
    };

    fn segment_bytes(ipv6: bool, flags: u8, payload: &[u8]) -> Vec<u8> {
        let (host, cluster) = if ipv6 { ("fd00::1", "fd01::1") } else { ("10.0.0.1", "10.96.0.1") };
        let len = u16::try_from(HEADER_BYTES + payload.len()).unwrap();
        let ip = IpHeader::new(host.parse().unwrap(), cluster.parse().unwrap(), IpProtocol::Tcp, len).unwrap();
        let mut bytes = vec![0; ip.total_len()];
        ip.write(&mut bytes);
        let tcp = &mut bytes[ip.len()..];
        tcp[..14].copy_from_slice(&[0x0f, 0xa0, 0, 80, 0, 0, 0, 9, 0, 0, 0, 7, 5 << 4, flags]);
        tcp[HEADER_BYTES..].copy_from_slice(payload);
        bytes
    }

    /// Flags, sequence and acknowledgement of the answer.
    fn answer(to: &[u8], reply: impl FnOnce(&Segment<'_>) -> Option<TcpReply>) -> Option<(u8, u32, u32)> {
        let segment = Segment::parse(Packet::parse(to).unwrap()).unwrap();
        let reply = reply(&segment)?;
        let answer = Segment::parse(Packet::parse(&reply.as_bytes()[virtio::HEADER_BYTES..]).unwrap()).unwrap();
        assert_eq!(answer.key().host.0, segment.key().cluster.0);
        assert_eq!(answer.key().cluster.0, segment.key().host.0);
        Some((answer.flags(), answer.sequence(), answer.acknowledged()))
    }

    #[test]
    fn a_stray_segment_is_reset_as_rfc_9293_says() {
        for ipv6 in [false, true] {
            let of = |flags, payload: &[u8]| answer(&segment_bytes(ipv6, flags, payload), reset);
            assert_eq!(of(ACK, b"abc"), Some((RST, 7, 0)));
            assert_eq!(of(segment::SYN, b""), Some((RST | ACK, 0, 10)));
            assert_eq!(of(RST, b""), None);
        }
    }

    #[test]
    fn a_repeated_fin_is_acknowledged_and_an_acknowledgement_is_not() {
        let of = |flags, payload: &[u8]| answer(&segment_bytes(false, flags, payload), acknowledge);
        assert_eq!(of(segment::FIN | ACK, b"abc"), Some((ACK, 7, 13)));
        assert_eq!(of(ACK, b""), None);
        assert_eq!(of(RST | ACK, b""), None);
    }
}
