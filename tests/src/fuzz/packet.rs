//! Whatever a program writes into the TUN device is read or dropped with a reason, and every answer to it is a packet that can be read.

use std::net::IpAddr;

use netstack::{
    icmp::{self, Echo, Quote, Unreachable},
    packet::{IpProtocol, Packet},
    segment::Segment,
    tcp_reply, udp, virtio,
};

/// One input: a packet without its virtio header.
pub fn run(data: &[u8]) {
    let Ok(packet) = Packet::parse(data) else { return };
    assert!(packet.bytes().len() <= data.len() && packet.payload().len() <= packet.bytes().len());
    assert_eq!(packet.source().is_ipv4(), packet.destination().is_ipv4());
    // No answer goes to a link-local address: the device has none, and a packet to one is dropped.
    let link_local = matches!(packet.source(), IpAddr::V6(v6) if v6.is_unicast_link_local());
    if packet.fragment().is_some() || link_local {
        return;
    }
    match packet.protocol() {
        IpProtocol::Tcp => segment(packet),
        IpProtocol::Udp => datagram(packet),
        IpProtocol::Icmpv4 | IpProtocol::Icmpv6 => echo(&packet),
    }
}

fn segment(packet: Packet<'_>) {
    let Ok(segment) = Segment::parse(packet) else { return };
    assert!(segment.payload().len() < packet.payload().len());
    for reply in [tcp_reply::reset(&segment), tcp_reply::acknowledge(&segment)].into_iter().flatten() {
        let back = answer(reply.as_bytes());
        assert_eq!((back.source(), back.destination()), (packet.destination(), packet.source()));
        Segment::parse(back).expect("a reply is a segment");
    }
}

fn datagram(packet: Packet<'_>) {
    let Ok(datagram) = udp::Datagram::parse(packet) else { return };
    let mut scratch = vec![0; virtio::SCRATCH_BYTES];
    let key = datagram.key();
    let len = udp::write(&mut scratch, key.cluster, key.host, datagram.payload());
    if let Some(len) = len {
        let back = udp::Datagram::parse(answer(&scratch[..len])).expect("what is written can be read");
        assert_eq!(back.payload(), datagram.payload());
    }
    for why in [Unreachable::Port, Unreachable::Host, Unreachable::Network, Unreachable::Prohibited] {
        let len =
            icmp::write_unreachable(&mut scratch, why, &Quote::packet(&packet)).expect("an error fits the scratch");
        answer(&scratch[..len]);
    }
}

fn echo(packet: &Packet<'_>) {
    let Ok(echo) = Echo::parse(packet) else { return };
    let mut scratch = vec![0; virtio::SCRATCH_BYTES];
    // A jumbo-sized IPv6 request is longer than the device's MTU, and so would be its reply.
    let Some(len) = icmp::write_echo_reply(&mut scratch, &echo, 7) else {
        assert!(packet.bytes().len() > scratch.len() - virtio::HEADER_BYTES);
        return;
    };
    let back = answer(&scratch[..len]);
    assert_eq!((back.source(), back.hop_limit()), (packet.destination(), 7));
    assert!(back.payload().ends_with(echo.payload));
}

/// The packet behind the virtio header.
fn answer(written: &[u8]) -> Packet<'_> {
    Packet::parse(&written[virtio::HEADER_BYTES..]).expect("what is written to the device is a packet")
}
