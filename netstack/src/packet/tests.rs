//! What is read, what is refused and why, and that nothing makes it panic.

use proptest::prelude::*;

use super::*;
use crate::{segment::Segment, udp};

const V4: [u8; 20] = [0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 96, 0, 1];

fn v4(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = [V4.as_slice(), &[0; 8]].concat();
    change(&mut bytes);
    bytes
}

/// An IPv6 packet whose headers, from the next header's number on, are `chain`.
fn v6(next: u8, chain: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0, 0, u8::try_from(chain.len()).unwrap(), next, 64];
    bytes.extend("fd00::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    bytes.extend("fd01::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    bytes.extend(chain);
    bytes
}

#[track_caller]
fn assert_dropped(bytes: &[u8], reason: DropReason) {
    assert_eq!(Packet::parse(bytes).unwrap_err(), reason);
}

#[test]
fn lengths_that_lie_are_named() {
    assert_dropped(&[], DropReason::Truncated);
    assert_dropped(&[0x45], DropReason::Truncated);
    assert_dropped(&[0x60; 39], DropReason::Truncated);
    assert_dropped(&[0x55; 40], DropReason::IpVersion);
    assert_dropped(&v4(|bytes| bytes[0] = 0x44), DropReason::IpHeader);
    assert_dropped(&v4(|bytes| bytes[3] = 19), DropReason::IpHeader);
    assert_dropped(&v4(|bytes| bytes[0] = 0x4f), DropReason::IpHeader);
    assert_dropped(&v4(|bytes| bytes[3] = 29), DropReason::Truncated);
    assert_dropped(&v4(|bytes| bytes[9] = 132), DropReason::ProtocolUnknown);
    assert_dropped(&v4(|bytes| bytes[9] = 58), DropReason::ProtocolUnknown);
    assert_dropped(&v6(17, &[0; 8])[..47], DropReason::Truncated);
}

#[test]
fn what_is_behind_the_end_is_cut_off() {
    let bytes = v4(|bytes| bytes.extend([9; 10]));
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!((packet.bytes().len(), packet.payload()), (28, [0; 8].as_slice()));
}

#[test]
fn a_capture_may_have_any_addresses() {
    let bytes = v4(|bytes| {
        bytes[12..16].copy_from_slice(&[127, 0, 0, 1]);
        bytes[16..20].copy_from_slice(&[127, 0, 0, 1]);
    });
    assert_dropped(&bytes, DropReason::MartianDestination);
    let packet = Packet::parse_captured(&bytes).unwrap();
    assert_eq!(packet.source(), packet.destination());
}

#[test]
fn a_packet_too_large_to_say_its_length_is_taken_from_a_capture_only() {
    for len in [65_535, 65_536, 200_000] {
        let big = len > 65_535;
        let mut bytes = v4(|bytes| bytes[2..4].fill(0));
        bytes.resize(len, 7);
        assert_dropped(&bytes, DropReason::IpHeader);
        assert_eq!(Packet::parse_captured(&bytes).is_ok_and(|packet| packet.bytes().len() == len), big);
        // with the option of RFC 2675 in front of the payload, or without
        for (next, chain) in [(0, &[6, 0, 194, 4, 0, 0, 0, 0][..]), (6, &[])] {
            let mut bytes = v6(next, chain);
            bytes[4..6].fill(0);
            bytes.resize(len + 40, 7);
            let payload_len = |packet: Result<Packet<'_>, _>| packet.map_or(0, |packet| packet.payload().len());
            assert_eq!(payload_len(Packet::parse(&bytes)), 0);
            assert_eq!(payload_len(Packet::parse_captured(&bytes)), if big { len - chain.len() } else { 0 });
        }
    }
}

#[test]
fn options_and_extension_headers_are_skipped() {
    let bytes = v4(|bytes| bytes[0] = 0x46);
    assert_eq!(Packet::parse(&bytes).unwrap().payload().len(), 4);
    // hop-by-hop, destination options of 16 bytes, routing
    let chain =
        [[60, 0, 0, 0, 0, 0, 0, 0], [43, 1, 0, 0, 0, 0, 0, 0], [0; 8], [17, 0, 0, 0, 0, 0, 0, 0], [1; 8]].concat();
    let bytes = v6(0, &chain);
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!((packet.protocol(), packet.payload()), (IpProtocol::Udp, [1; 8].as_slice()));
    let plain = packet.without_extension_headers();
    let plain = Packet::parse(&plain).unwrap();
    assert_eq!((plain.payload(), plain.has_extension_headers()), ([1; 8].as_slice(), false));
}

#[test]
fn extension_headers_have_an_order_and_an_end() {
    assert_dropped(&v6(60, &[0, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0]), DropReason::ExtensionHeader);
    assert_dropped(&v6(60, &[17, 9, 0, 0, 0, 0, 0, 0]), DropReason::ExtensionHeader);
    assert_dropped(&v6(60, &[17]), DropReason::ExtensionHeader);
    assert_dropped(&v6(60, &[]), DropReason::ExtensionHeader);
    assert_dropped(&v6(60, &[60, 0, 0, 0, 0, 0, 0, 0].repeat(8)), DropReason::ExtensionHeader);
    assert_dropped(&v6(44, &[17, 0, 0, 1, 0, 0, 0]), DropReason::ExtensionHeader);
    assert_dropped(&v6(44, &[44, 0, 0, 1, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 0]), DropReason::ExtensionHeader);
    assert_dropped(&v6(50, &[0; 8]), DropReason::ProtocolUnknown);
    assert_dropped(&v6(59, &[]), DropReason::ProtocolUnknown);
}

#[test]
fn fragments_are_recognised() {
    assert_eq!(Packet::parse(&v4(|bytes| bytes[6] = 0)).unwrap().fragment(), None);
    let bytes = v4(|bytes| bytes[4..8].copy_from_slice(&[1, 2, 0x20, 3]));
    let info = Packet::parse(&bytes).unwrap().fragment().unwrap();
    assert_eq!((info.id, info.offset, info.more), (0x0102, 24, true));
    let bytes = v6(44, &[17, 0, 0, 17, 1, 2, 3, 4, 9, 9]);
    let info = Packet::parse(&bytes).unwrap().fragment().unwrap();
    assert_eq!((info.id, info.offset, info.more), (0x0102_0304, 16, true));
    // RFC 6946: an atomic fragment is none
    let bytes = v6(44, &[17, 0, 0, 0, 1, 2, 3, 4, 9, 9]);
    assert_eq!(Packet::parse(&bytes).unwrap().fragment(), None);
}

proptest! {
    #[test]
    fn any_bytes_parse_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), version in 0usize..3) {
        if let Some(first) = bytes.first_mut() && version > 0 {
            *first = [0x45, 0x60][version - 1];
        }
        parse_all(&bytes);
    }

    /// Sound packets with a few bytes changed come further than arbitrary ones.
    #[test]
    fn damaged_packets_parse_without_a_panic(
        ipv6: bool,
        protocol in prop::sample::select(vec![6u8, 17, 1, 58, 0, 43, 44, 60]),
        rest in prop::collection::vec(any::<u8>(), 0..100),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = if ipv6 { v6(protocol, &rest) } else {
            let mut bytes = v4(|bytes| bytes[9] = protocol);
            bytes.truncate(20);
            bytes[3] = u8::try_from(20 + rest.len()).unwrap();
            bytes.extend(&rest);
            bytes
        };
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        parse_all(&bytes);
        parse_all(&bytes[..cut.index(bytes.len())]);
    }
}

fn parse_all(bytes: &[u8]) {
    if let Ok(packet) = Packet::parse_captured(bytes)
        && let Ok(segment) = crate::reassembly::Segment::parse(&packet)
    {
        assert!(segment.payload.len() <= bytes.len());
        let _ = crate::reassembly::checksum_holds(&packet);
    }
    let Ok(packet) = Packet::parse(bytes) else { return };
    assert!(packet.bytes().len() <= bytes.len());
    let _ = packet.without_extension_headers();
    let _ = udp::Datagram::parse(packet);
    let _ = crate::icmp::Echo::parse(&packet);
    if let Ok(segment) = Segment::parse(packet) {
        let _ = (segment.payload(), segment.sequence_end());
        let _ = (crate::tcp_reply::reset(&segment), crate::tcp_reply::acknowledge(&segment));
    }
}
