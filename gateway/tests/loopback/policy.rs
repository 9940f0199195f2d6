//! Who may do what: refused by any message a session could send, allowed all the same, and taken away while it lives.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use gateway::{
    config::Config,
    policy::{Allow, NamePattern},
};
use link::{
    datagram::{Datagram, Unreachable},
    error_code::{CloseCode, DNS_FAILED, FLOW_RESET},
    header::{DialOutcome, StreamHeader},
};
use quinn::ReadError;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};

use crate::harness::{Lab, Peer, closed};

/// What is taken away must have ended by then.
const TAKEN_AWAY: Duration = Duration::from_secs(2);

pub(crate) fn allow(name: &str, reach: &[String], mirror: &[&str]) -> Allow {
    Allow {
        name: NamePattern::parse(name).unwrap(),
        reach: reach.iter().map(|text| text.parse().unwrap()).collect(),
        mirror: mirror.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

/// A service of each kind, in a lab whose `alice` may reach what `allowed` says.
struct Services {
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Services {
    async fn start() -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        Self { tcp, udp }
    }

    fn tcp(&self) -> SocketAddr {
        self.tcp.local_addr().unwrap()
    }

    fn udp(&self) -> SocketAddr {
        self.udp.local_addr().unwrap()
    }

    fn patterns(&self) -> Vec<String> {
        vec![format!("{}/tcp", self.tcp()), format!("{}/udp", self.udp())]
    }
}

async fn flow(peer: &Peer, service: &Services) -> (quinn::SendStream, quinn::RecvStream, TcpStream) {
    let (outcome, send, recv) = peer.dial(service.tcp()).await;
    assert_eq!(outcome, DialOutcome::Connected);
    (send, recv, service.tcp.accept().await.unwrap().0)
}

/// The port that the gateway sends from.
async fn exchange(peer: &Peer, service: &UdpSocket, flow: u32) -> u16 {
    let payload = &b"datagram"[..];
    peer.send(Datagram::UdpOut { flow, to: service.local_addr().unwrap(), payload }).await;
    let mut buffer = [0; 64];
    let (len, from) = service.recv_from(&mut buffer).await.unwrap();
    service.send_to(&buffer[..len], from).await.unwrap();
    assert_eq!(Datagram::decode(&peer.receive().await), Ok(Datagram::UdpIn { flow, payload }));
    from.port()
}

async fn is_prohibited(peer: &Peer, message: Datagram<'_>) {
    let why = Unreachable::Prohibited;
    let expected = match &message {
        Datagram::UdpOut { flow, .. } => Datagram::UdpUnreachable { flow: *flow, why },
        Datagram::EchoOut { id, seq, .. } => Datagram::EchoUnreachable { id: *id, seq: *seq, why },
        Datagram::UdpIn { .. }
        | Datagram::UdpUnreachable { .. }
        | Datagram::EchoIn { .. }
        | Datagram::EchoUnreachable { .. } => panic!("{message:?} is no question"),
    };
    let mut bytes = Vec::new();
    expected.encode(&mut bytes);
    peer.send(message).await;
    assert_eq!(peer.receive().await, bytes);
}

#[tokio::test]
async fn what_is_not_allowed_is_prohibited_by_any_message_and_what_is_passes() {
    let (open, shut) = (Services::start().await, Services::start().await);
    let lab = Lab::with(|config| config.allows = vec![allow("al*", &open.patterns(), &[])]).await;
    let peer = lab.connect("alice").await;
    assert_eq!(peer.welcome.routes, ["127.0.0.0/8".parse().unwrap()]);

    let mapped = |to: SocketAddr| -> SocketAddr { format!("[::ffff:127.0.0.1]:{}", to.port()).parse().unwrap() };
    for to in [shut.tcp(), mapped(shut.tcp()), open.udp(), SocketAddr::new("::1".parse().unwrap(), open.tcp().port())] {
        assert_eq!(peer.dial(to).await.0, DialOutcome::Prohibited, "{to}");
    }
    for payload in [&b""[..], b"small", &[7; 60_000]] {
        for to in [shut.udp(), mapped(shut.udp()), open.tcp()] {
            is_prohibited(&peer, Datagram::UdpOut { flow: 1, to, payload }).await;
        }
        for to in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let to: IpAddr = to.parse().unwrap();
            is_prohibited(&peer, Datagram::EchoOut { id: 1, seq: 2, to, payload }).await;
        }
    }
    assert!(shut.udp.try_recv(&mut [0; 8]).is_err());
    assert_eq!(lab.metric("dials_total{outcome=\"connected\"}").await, 0);

    flow(&peer, &open).await;
    assert_eq!(peer.dial(mapped(open.tcp())).await.0, DialOutcome::Connected);
    exchange(&peer, &open.udp, 1).await;
}

#[tokio::test]
async fn an_identity_that_no_entry_names_gets_no_session_and_reads_why() {
    let lab = Lab::with(|config| config.allows = vec![allow("alice", &["*".to_owned()], &[])]).await;
    let link = lab.link("mallory").await;
    let (code, reason) = closed(&link).await;
    assert_eq!(code, CloseCode::Forbidden as u64);
    assert!(reason.contains("no [[allow]]") && reason.contains("name = \"mallory\""), "{reason}");
    assert_eq!(lab.metric("arrivals_total{outcome=\"forbidden\"}").await, 1);
    lab.connect("alice").await;
    let lines = lab.audit(|lines| lines.iter().any(|line| line["event"] == "refused")).await;
    let refused = lines.iter().find(|line| line["event"] == "refused").unwrap();
    assert_eq!((&refused["identity"], &refused["what"]), (&json!("mallory"), &json!("session")));
    assert_eq!(refused["missing"], json!(reason));
}

#[tokio::test]
async fn an_identity_that_only_mirrors_has_no_routes_and_asks_for_no_names() {
    let service = Services::start().await;
    let lab = Lab::with(|config| config.allows = vec![allow("alice", &[], &["shop/*"])]).await;
    let peer = lab.connect("alice").await;
    assert_eq!((&*peer.welcome.routes, &*peer.welcome.domain, peer.welcome.namespaces.len()), (&[][..], "", 0));
    assert_eq!(peer.dial(service.tcp()).await.0, DialOutcome::Prohibited);
    let (mut send, mut recv) = peer.open(StreamHeader::Dns).await;
    // Fails when the gateway has refused the query by then, which the answer says.
    let _ = send.write_all(b"\x12\x34\x01\x00\x00\x01\0\0\0\0\0\0\x03web\0\0\x01\0\x01").await;
    let _ = send.finish();
    let answer = recv.read(&mut [0; 1]).await;
    assert!(matches!(answer, Err(ReadError::Reset(code)) if code == DNS_FAILED), "{answer:?}");
    assert_eq!(lab.metric("dns_queries_total{outcome=\"prohibited\"}").await, 1);
}

#[tokio::test]
async fn a_reload_ends_what_is_no_longer_allowed_and_disturbs_nothing_else() {
    let (kept, lost) = (Services::start().await, Services::start().await);
    let both = [kept.patterns(), lost.patterns()].concat();
    let lab = Lab::with(|config| config.allows = vec![allow("alice", &both, &[])]).await;
    let peer = lab.connect("alice").await;
    let (mut kept_send, mut kept_recv, mut kept_socket) = flow(&peer, &kept).await;
    let (_idle_send, mut idle_recv, mut idle_socket) = flow(&peer, &lost).await;
    // The service of this one does not read, so its flow waits for the socket.
    let (mut full_send, mut full_recv, mut full_socket) = flow(&peer, &lost).await;
    let chunk = vec![7; 1 << 20];
    while tokio::time::timeout(Duration::from_millis(200), full_send.write_all(&chunk)).await.is_ok() {}
    let kept_port = exchange(&peer, &kept.udp, 1).await;
    exchange(&peer, &lost.udp, 2).await;

    let begun = Instant::now();
    lab.reload(|config| config.allows = vec![allow("alice", &kept.patterns(), &[])]);
    for recv in [&mut idle_recv, &mut full_recv] {
        let read = recv.read(&mut [0; 1]).await;
        assert!(matches!(read, Err(ReadError::Reset(code)) if code == FLOW_RESET), "{read:?}");
    }
    assert_eq!(idle_socket.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let ended = full_socket.read_to_end(&mut Vec::new()).await;
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let told = peer.receive().await;
    assert_eq!(Datagram::decode(&told), Ok(Datagram::UdpUnreachable { flow: 2, why: Unreachable::Prohibited }));
    assert!(begun.elapsed() < TAKEN_AWAY, "{:?}", begun.elapsed());
    assert_eq!(peer.dial(lost.tcp()).await.0, DialOutcome::Prohibited);
    is_prohibited(&peer, Datagram::UdpOut { flow: 2, to: lost.udp(), payload: b"again" }).await;
    assert_eq!((lab.metric("tcp_flows").await, lab.metric("udp_flows").await), (1, 1));

    kept_send.write_all(b"there").await.unwrap();
    kept_send.finish().unwrap();
    let mut text = String::new();
    kept_socket.read_to_string(&mut text).await.unwrap();
    kept_socket.write_all(b"and back").await.unwrap();
    drop(kept_socket);
    assert_eq!((text.as_str(), kept_recv.read_to_end(64).await.unwrap().as_slice()), ("there", &b"and back"[..]));
    assert_eq!(exchange(&peer, &kept.udp, 1).await, kept_port);
}

#[tokio::test]
async fn a_reload_that_leaves_an_identity_nothing_ends_its_session_and_no_other() {
    let service = Services::start().await;
    let lab = Lab::start().await;
    let (alice, bob) = (lab.connect("alice").await, lab.connect("bob").await);
    let (_send, _recv, mut socket) = flow(&alice, &service).await;
    let (mut bobs_send, _bobs_recv, mut bobs_socket) = flow(&bob, &service).await;
    let begun = Instant::now();
    lab.reload(|config| config.allows = vec![allow("bob", &["*".to_owned()], &[])]);
    let (code, reason) = alice.closed().await;
    assert_eq!(code, CloseCode::Forbidden as u64);
    assert!(reason.contains("no [[allow]] in the gateway's gateway.toml is for 'alice'"), "{reason}");
    assert!(socket.read_u8().await.is_err());
    assert!(begun.elapsed() < TAKEN_AWAY, "{:?}", begun.elapsed());
    bobs_send.write_all(b"b").await.unwrap();
    assert_eq!(bobs_socket.read_u8().await.unwrap(), b'b');
}

#[tokio::test]
async fn a_file_that_cannot_be_used_changes_nothing_and_is_named() {
    let service = Services::start().await;
    let lab = Lab::with(|config| config.allows = vec![allow("alice", &service.patterns(), &[])]).await;
    let peer = lab.connect("alice").await;
    let (mut send, _recv, mut socket) = flow(&peer, &service).await;
    lab.reloader.take_over(Config::parse("listen = \"0.0.0.0:1\"\nlisten = 2", "lab.toml".as_ref()));
    send.write_all(b"a").await.unwrap();
    assert_eq!(socket.read_u8().await.unwrap(), b'a');
    flow(&peer, &service).await;
    assert_eq!(lab.metric("reloads_total{outcome=\"failed\"}").await, 1);
    let lines = lab.audit(|lines| lines.len() == 2).await;
    assert_eq!(lines[1]["event"], "reload_failed");
    assert!(lines[1]["problem"].as_str().unwrap().starts_with("lab.toml:2: listen: duplicate key"), "{}", lines[1]);
}

#[tokio::test]
async fn what_else_has_changed_is_named() {
    let lab = Lab::start().await;
    lab.reload(|config| {
        config.limits.streams = 1;
        config.listen = "127.0.0.1:1".parse().unwrap();
    });
    let lines = lab.audit(|lines| lines.len() == 1).await;
    assert_eq!((&lines[0]["allows"], &lines[0]["restart"]), (&json!(0), &json!(["listen", "limits"])));
}
