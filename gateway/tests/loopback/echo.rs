//! Echoes. They need a ping socket or a raw one; without either, the session is told that they are prohibited.

use std::net::IpAddr;

use link::datagram::{Datagram, Unreachable};
use socket2::{Domain, Protocol, Socket, Type};

use crate::harness::{Lab, Peer};

fn may_ping() -> bool {
    [Type::DGRAM, Type::RAW].into_iter().any(|kind| Socket::new(Domain::IPV4, kind, Some(Protocol::ICMPV4)).is_ok())
}

/// Pings and checks the answer, for this machine with or without the right to.
async fn ping(peer: &Peer, to: IpAddr, id: u32, seq: u16, payload: &[u8]) {
    peer.send(Datagram::EchoOut { id, seq, to, payload }).await;
    let bytes = peer.receive().await;
    let answer = Datagram::decode(&bytes).unwrap();
    let expected = if may_ping() {
        Datagram::EchoIn { id, seq, ttl: 64, payload }
    } else {
        Datagram::EchoUnreachable { id, seq, why: Unreachable::Prohibited }
    };
    assert!(answer == expected, "{} bytes to {to}: {:.80?}", payload.len(), answer);
}

#[tokio::test]
async fn both_families_answer_with_what_was_sent() {
    let lab = Lab::start().await;
    let peer = lab.connect("alice").await;
    for to in ["127.0.0.1", "::1"] {
        for payload in [&b""[..], b"56 bytes or so", &[7; 1_400], &[7; 8_000], &[7; 60_000]] {
            ping(&peer, to.parse().unwrap(), 9, 1, payload).await;
        }
    }
}

#[tokio::test]
async fn sessions_with_the_same_identifiers_get_their_own_answers() {
    let lab = Lab::start().await;
    let (alice, bob) = (lab.connect("alice").await, lab.connect("bob").await);
    let to = "127.0.0.1".parse().unwrap();
    for seq in 0..50 {
        tokio::join!(ping(&alice, to, 1, seq, b"alice's"), ping(&bob, to, 1, seq, b"bob's"));
    }
}

#[tokio::test]
async fn an_address_outside_the_routes_is_prohibited() {
    let lab = Lab::start().await;
    let peer = lab.connect("alice").await;
    peer.send(Datagram::EchoOut { id: 1, seq: 2, to: "10.0.0.1".parse().unwrap(), payload: b"" }).await;
    let prohibited = Datagram::EchoUnreachable { id: 1, seq: 2, why: Unreachable::Prohibited };
    assert_eq!(Datagram::decode(&peer.receive().await), Ok(prohibited));
}
