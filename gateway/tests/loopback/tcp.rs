//! TCP flows: every outcome of a dial, bytes both ways, half-close and reset both ways.

use std::{net::SocketAddr, time::Duration};

use link::{
    error_code::FLOW_RESET,
    header::{DialOutcome, StreamHeader},
};
use quinn::ReadError;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::harness::{Lab, Peer};

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A listener whose queue is full, so the kernel drops every further SYN: what a firewall looks like.
fn silent() -> (Vec<Socket>, SocketAddr) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut sockets = vec![listener];
    // A backlog of zero takes one; whatever else it takes is filled as well.
    loop {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let is_taken = socket.connect_timeout(&address, Duration::from_millis(100)).is_ok();
        sockets.push(socket);
        if !is_taken {
            return (sockets, address.as_socket().unwrap());
        }
    }
}

#[tokio::test]
async fn bytes_and_half_close_cross_in_both_directions() {
    let lab = Lab::start().await;
    let (service, to) = listener().await;
    let peer = lab.connect("alice").await;
    let (outcome, mut send, mut recv) = peer.dial(to).await;
    assert_eq!(outcome, DialOutcome::Connected);
    let (mut socket, _) = service.accept().await.unwrap();

    let sent: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let writing = async {
        send.write_all(&sent).await.unwrap();
        send.finish().unwrap();
    };
    let mut received = Vec::new();
    let ((), read) = tokio::join!(writing, socket.read_to_end(&mut received));
    assert!(read.is_ok() && received == sent);
    socket.write_all(&received).await.unwrap();
    drop(socket);
    assert_eq!(recv.read_to_end(4_000_000).await.unwrap(), sent);
    lab.metric_becomes("tcp_flows", 0).await;
    assert_eq!(lab.metric("tcp_bytes_to_cluster_total").await, 3_000_000);
    assert_eq!(lab.metric("tcp_bytes_to_sessions_total").await, 3_000_000);
    assert_eq!(lab.metric("dials_total{outcome=\"connected\"}").await, 1);
}

#[tokio::test]
async fn a_closed_port_is_refused_and_an_address_outside_the_routes_prohibited() {
    let lab = Lab::start().await;
    let (service, to) = listener().await;
    drop(service);
    let peer = lab.connect("alice").await;
    let (outcome, _send, mut recv) = peer.dial(to).await;
    assert_eq!(outcome, DialOutcome::Refused);
    assert_eq!(recv.read_to_end(1).await.unwrap(), b"");
    for to in ["10.0.0.1:80", "[::ffff:10.0.0.1]:80", "[fd00::1]:80", "169.254.169.254:80", "0.0.0.0:80"] {
        assert_eq!(peer.dial(to.parse().unwrap()).await.0, DialOutcome::Prohibited, "{to}");
    }
}

#[tokio::test]
async fn a_service_that_keeps_silent_times_out() {
    let lab = Lab::with(|config| config.limits.dial_timeout = Duration::from_millis(200)).await;
    let (_sockets, to) = silent();
    let peer = lab.connect("alice").await;
    assert_eq!(peer.dial(to).await.0, DialOutcome::TimedOut);
}

#[tokio::test]
async fn a_dial_that_the_session_gives_up_is_given_up() {
    let lab = Lab::with(|config| config.limits.pending_dials = 1).await;
    let (_sockets, silent) = silent();
    let (_service, open) = listener().await;
    let peer = lab.connect("alice").await;
    let (mut send, mut recv) = peer.open(StreamHeader::Tcp(silent)).await;
    // The one place is taken once another dial is told so.
    while peer.dial(open).await.0 != DialOutcome::Busy {}
    send.reset(FLOW_RESET).unwrap();
    recv.stop(FLOW_RESET).unwrap();
    lab.metric_becomes("dials_total{outcome=\"abandoned\"}", 1).await;
    assert_eq!(peer.dial(open).await.0, DialOutcome::Connected);
}

#[tokio::test]
async fn a_reset_by_the_service_reaches_the_session() {
    let lab = Lab::start().await;
    let (service, to) = listener().await;
    let peer = lab.connect("alice").await;
    let (_, _send, mut recv) = peer.dial(to).await;
    let (socket, _) = service.accept().await.unwrap();
    SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
    drop(socket);
    let mut buffer = [0; 1];
    let read = recv.read(&mut buffer).await;
    assert!(matches!(read, Err(ReadError::Reset(code)) if code == FLOW_RESET), "{read:?}");
}

#[tokio::test]
async fn a_reset_by_the_session_and_a_lost_session_reach_the_service() {
    async fn flow(lab: &Lab, name: &str) -> (Peer, quinn::SendStream, quinn::RecvStream, tokio::net::TcpStream) {
        let (service, to) = listener().await;
        let peer = lab.connect(name).await;
        let (_, send, recv) = peer.dial(to).await;
        let (socket, _) = service.accept().await.unwrap();
        (peer, send, recv, socket)
    }
    let lab = Lab::start().await;
    let (_peer, mut send, mut recv, mut socket) = flow(&lab, "alice").await;
    send.reset(FLOW_RESET).unwrap();
    recv.stop(FLOW_RESET).unwrap();
    assert_eq!(socket.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);

    let (peer, _send, _recv, mut socket) = flow(&lab, "bob").await;
    peer.link.connection.close(0_u32.into(), b"gone");
    assert_eq!(socket.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}
