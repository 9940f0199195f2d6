//! Bytes in and out of a flow, and what becomes of a packet on its way.

use netstack::{packet::Packet, tcp_flow::TcpFlow, virtio};
use smoltcp::wire::{Ipv4Packet, TcpPacket, checksum};

/// What the kernel does with an unfinished checksum when a packet leaves the machine; strips the virtio header.
pub(crate) fn finish_checksum(bytes: &[u8]) -> Vec<u8> {
    let (virtio, packet) = bytes.split_at(virtio::HEADER_BYTES);
    let mut packet = packet.to_vec();
    assert_eq!(virtio[..6], [1, 0, 0, 0, 0, 0], "the checksum is unfinished, and there is no segmentation");
    let start = usize::from(u16::from_ne_bytes([virtio[6], virtio[7]]));
    let offset = usize::from(u16::from_ne_bytes([virtio[8], virtio[9]]));
    let sum = !checksum::data(&packet[start..]);
    packet[start + offset..][..2].copy_from_slice(&sum.to_be_bytes());
    assert!(is_sound(&packet), "a checksum is wrong");
    packet
}

/// Verifies the checksums of the IP header and of TCP, independently of how they came about.
fn is_sound(bytes: &[u8]) -> bool {
    let packet = Packet::parse(bytes).unwrap();
    let (source, destination) = (packet.source().into(), packet.destination().into());
    TcpPacket::new_checked(packet.payload()).unwrap().verify_checksum(&source, &destination)
        && (packet.source().is_ipv6() || Ipv4Packet::new_checked(bytes).unwrap().verify_checksum())
}

/// Where the window ends that a packet announces, if ours are scaled by 2 as a whole ring's are; a SYN-ACK's is not scaled.
pub(crate) fn window_end(bytes: &[u8]) -> Option<u32> {
    let tcp = TcpPacket::new_unchecked(Packet::parse(bytes).unwrap().payload());
    let end = tcp.ack_number() + (usize::from(tcp.window_len()) << 2);
    (!tcp.syn()).then_some(end.0.cast_unsigned())
}

/// Bytes that differ from place to place.
pub(crate) fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|place| (place as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0] ^ seed).collect()
}

/// Takes everything that is in the receive ring.
pub(crate) fn drain(flow: &mut TcpFlow, into: &mut Vec<u8>, at_most: usize) {
    let end = into.len() + at_most;
    while into.len() < end {
        let room = end - into.len();
        let taken = flow.recv(|bytes| {
            let taken = bytes.len().min(room);
            into.extend_from_slice(&bytes[..taken]);
            (taken, ())
        });
        if taken.is_none() {
            break;
        }
    }
}

/// Fills the transmit ring from `bytes`; returns how many went in.
pub(crate) fn fill(flow: &mut TcpFlow, bytes: &[u8]) -> usize {
    let mut sent = 0;
    while sent < bytes.len() {
        let filled = flow.send(|room| {
            let len = room.len().min(bytes.len() - sent);
            room[..len].copy_from_slice(&bytes[sent..sent + len]);
            (len, len)
        });
        match filled {
            Some(filled) => sent += filled,
            None => break,
        }
    }
    sent
}
