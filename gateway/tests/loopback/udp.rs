//! UDP flows: every size, flows apart from each other, ICMP errors, eviction.

use std::net::SocketAddr;

use link::datagram::{Datagram, Unreachable};
use tokio::net::UdpSocket;

use crate::harness::{Lab, Peer};

async fn echo_service() -> (UdpSocket, SocketAddr) {
    let service = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = service.local_addr().unwrap();
    (service, address)
}

/// One datagram to the service and back; the port that the gateway used.
async fn exchange(peer: &Peer, service: &UdpSocket, flow: u32, payload: &[u8]) -> u16 {
    let to = service.local_addr().unwrap();
    peer.send(Datagram::UdpOut { flow, to, payload }).await;
    let mut buffer = vec![0; 65_536];
    let (len, from) = service.recv_from(&mut buffer).await.unwrap();
    assert!(&buffer[..len] == payload, "{len} of {}", payload.len());
    service.send_to(payload, from).await.unwrap();
    let bytes = peer.receive().await;
    assert!(Datagram::decode(&bytes) == Ok(Datagram::UdpIn { flow, payload }), "{}", payload.len());
    from.port()
}

#[tokio::test]
async fn every_size_crosses_unchanged_and_a_flow_keeps_its_port() {
    let lab = Lab::start().await;
    let (service, _) = echo_service().await;
    let peer = lab.connect("alice").await;
    let first = exchange(&peer, &service, 1, b"").await;
    for size in [1, 1_400, 8_000, 65_000, 65_507] {
        assert_eq!(exchange(&peer, &service, 1, &vec![7; size]).await, first);
    }
    assert_ne!(exchange(&peer, &service, 2, b"other").await, first);
    assert_eq!(lab.metric("udp_flows").await, 2);
    assert_eq!(lab.metric("datagrams_to_cluster_total").await, 7);
}

#[tokio::test]
async fn a_closed_port_and_a_forbidden_address_are_unreachable() {
    let lab = Lab::start().await;
    let (service, to) = echo_service().await;
    drop(service);
    let peer = lab.connect("alice").await;
    peer.send(Datagram::UdpOut { flow: 1, to, payload: b"anyone?" }).await;
    let expected = Datagram::UdpUnreachable { flow: 1, why: Unreachable::Port };
    assert_eq!(Datagram::decode(&peer.receive().await), Ok(expected));
    let forbidden = "10.0.0.1:53".parse().unwrap();
    peer.send(Datagram::UdpOut { flow: 2, to: forbidden, payload: b"anyone?" }).await;
    let expected = Datagram::UdpUnreachable { flow: 2, why: Unreachable::Prohibited };
    assert_eq!(Datagram::decode(&peer.receive().await), Ok(expected));
    // The port opens again, and the flow with it.
    let service = UdpSocket::bind(to).await.unwrap();
    exchange(&peer, &service, 1, b"now").await;
}

#[tokio::test]
async fn one_flow_too_many_ends_the_one_that_was_idle_the_longest() {
    let lab = Lab::with(|config| config.limits.udp_flows = 2).await;
    let (service, _) = echo_service().await;
    let peer = lab.connect("alice").await;
    let first = exchange(&peer, &service, 1, b"a").await;
    let second = exchange(&peer, &service, 2, b"a").await;
    assert_eq!(exchange(&peer, &service, 1, b"a").await, first);
    exchange(&peer, &service, 3, b"a").await;
    lab.metric_becomes("udp_flows", 2).await;
    assert_eq!(exchange(&peer, &service, 1, b"a").await, first);
    assert_ne!(exchange(&peer, &service, 2, b"a").await, second);
}

#[tokio::test]
async fn sockets_go_with_their_session() {
    let lab = Lab::start().await;
    let (service, _) = echo_service().await;
    let peer = lab.connect("alice").await;
    exchange(&peer, &service, 1, b"a").await;
    peer.link.connection.close(0_u32.into(), b"gone");
    lab.metric_becomes("udp_flows", 0).await;
    lab.metric_becomes("sessions", 0).await;
}
