//! Echoes and errors, read back by smoltcp, which verifies their checksums.

use proptest::prelude::*;
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, Icmpv6DstUnreachable, Icmpv6Packet, Icmpv6Repr, Ipv4Packet,
        Ipv6Packet,
    },
};

use super::*;
use crate::flow::{ClusterAddr, FlowKey, HostAddr, Protocol};

fn addresses(ipv6: bool) -> (IpAddr, IpAddr) {
    let (host, cluster) = if ipv6 { ("fd00::1", "fd01::1") } else { ("10.0.0.1", "10.96.0.1") };
    (host.parse().unwrap(), cluster.parse().unwrap())
}

fn key(ipv6: bool, protocol: Protocol) -> FlowKey {
    let (host, cluster) = addresses(ipv6);
    FlowKey { host: HostAddr((host, 4000).into()), cluster: ClusterAddr((cluster, 80).into()), protocol }
}

/// Checks the IP header and its addresses; returns the ICMP message.
fn received(bytes: &[u8], ipv6: bool) -> &[u8] {
    assert_eq!(bytes[..virtio::HEADER_BYTES], virtio::FINISHED);
    let (host, cluster) = addresses(ipv6);
    let packet = Packet::parse(&bytes[virtio::HEADER_BYTES..]).unwrap();
    assert_eq!((packet.source(), packet.destination()), (cluster, host));
    if ipv6 {
        assert!(Ipv6Packet::new_checked(packet.bytes()).is_ok());
    } else {
        assert!(Ipv4Packet::new_checked(packet.bytes()).unwrap().verify_checksum());
    }
    packet.payload()
}

fn read_v4(icmp: &[u8]) -> Icmpv4Repr<'_> {
    Icmpv4Repr::parse(&Icmpv4Packet::new_checked(icmp).unwrap(), &ChecksumCapabilities::default()).unwrap()
}

fn read_v6(icmp: &[u8]) -> Icmpv6Repr<'_> {
    let (IpAddr::V6(host), IpAddr::V6(cluster)) = addresses(true) else { panic!("they are IPv6") };
    Icmpv6Repr::parse(&cluster, &host, &Icmpv6Packet::new_checked(icmp).unwrap(), &ChecksumCapabilities::default())
        .unwrap()
}

proptest! {
    #[test]
    fn an_echo_is_answered_with_its_payload(ipv6: bool, ident: u16, sequence: u16, payload: Vec<u8>) {
        let (host, cluster) = addresses(ipv6);
        let echo = Echo { host, cluster, ident, sequence, payload: &payload };
        let mut scratch = vec![0xaa; virtio::SCRATCH_BYTES];
        let len = write_echo_reply(&mut scratch, &echo, 61).unwrap();
        let icmp = received(&scratch[..len], ipv6);
        if ipv6 {
            prop_assert_eq!(read_v6(icmp), Icmpv6Repr::EchoReply { ident, seq_no: sequence, data: &payload });
        } else {
            prop_assert_eq!(read_v4(icmp), Icmpv4Repr::EchoReply { ident, seq_no: sequence, data: &payload });
        }
        prop_assert_eq!(Packet::parse(&scratch[virtio::HEADER_BYTES..len]).unwrap().hop_limit(), 61);
    }

    #[test]
    fn a_request_is_read_and_nothing_else_is_one(ipv6: bool, ident: u16, sequence: u16, payload: Vec<u8>, kind: u8) {
        let (host, cluster) = addresses(ipv6);
        let echo = Echo { host: cluster, cluster: host, ident, sequence, payload: &payload };
        let mut scratch = vec![0; virtio::SCRATCH_BYTES];
        let len = write_echo_reply(&mut scratch, &echo, 64).unwrap();
        let packet = &mut scratch[virtio::HEADER_BYTES..len];
        let request = if ipv6 { V6_ECHO_REQUEST } else { V4_ECHO_REQUEST };
        let at = if ipv6 { 40 } else { 20 };
        packet[at] = kind;
        let read = Echo::parse(&Packet::parse(packet).unwrap()).map(|echo| (echo.host, echo.cluster, echo.ident, echo.sequence, echo.payload.to_vec()));
        let expected = (host, cluster, ident, sequence, payload.clone());
        prop_assert_eq!(read, if kind == request { Ok(expected) } else { Err(DropReason::IcmpKind) });
    }
}

#[test]
fn an_error_quotes_what_the_kernel_needs_to_find_the_socket() {
    let mut scratch = vec![0; virtio::SCRATCH_BYTES];
    let len = write_unreachable(&mut scratch, Unreachable::Host, &Quote::syn(&key(false, Protocol::Tcp), 0x0102_0304))
        .unwrap();
    let Icmpv4Repr::DstUnreachable { reason, header, data } = read_v4(received(&scratch[..len], false)) else {
        panic!()
    };
    assert_eq!(reason, Icmpv4DstUnreachable::HostUnreachable);
    assert_eq!((IpAddr::from(header.src_addr), IpAddr::from(header.dst_addr)), addresses(false));
    assert_eq!(data[..8], [0x0f, 0xa0, 0, 80, 1, 2, 3, 4]);

    let len = write_unreachable(&mut scratch, Unreachable::Port, &Quote::datagram(&key(true, Protocol::Udp))).unwrap();
    let Icmpv6Repr::DstUnreachable { reason, header, data } = read_v6(received(&scratch[..len], true)) else {
        panic!()
    };
    assert_eq!(reason, Icmpv6DstUnreachable::PortUnreachable);
    assert_eq!((IpAddr::from(header.src_addr), IpAddr::from(header.dst_addr)), addresses(true));
    assert_eq!(data, [0x0f, 0xa0, 0, 80, 0, 8, 0, 0]);

    let (host, cluster) = addresses(false);
    let len = write_unreachable(&mut scratch, Unreachable::Prohibited, &Quote::echo(host, cluster, 7, 9)).unwrap();
    let Icmpv4Repr::DstUnreachable { reason, data, .. } = read_v4(received(&scratch[..len], false)) else { panic!() };
    assert_eq!(reason, Icmpv4DstUnreachable::CommProhibited);
    assert_eq!(data, [8, 0, 0, 0, 0, 7, 0, 9]);
}

#[test]
fn a_large_packet_is_quoted_in_part() {
    for (ipv6, most) in [(false, 576), (true, 1280)] {
        let key = key(ipv6, Protocol::Udp);
        let mut scratch = vec![0; virtio::SCRATCH_BYTES];
        let mut packet = vec![0; virtio::SCRATCH_BYTES];
        let len = crate::udp::write(&mut packet, ClusterAddr(key.host.0), HostAddr(key.cluster.0), &[5; 9000]).unwrap();
        let offending = Packet::parse(&packet[virtio::HEADER_BYTES..len]).unwrap();
        let len = write_unreachable(&mut scratch, Unreachable::Network, &Quote::packet(&offending)).unwrap();
        assert_eq!(len, virtio::HEADER_BYTES + most);
        received(&scratch[..len], ipv6);
    }
}
