//! The greeting, who is refused and how, the certificate's end, and the drain.

use std::time::{Duration, SystemTime};

use certs::Identity;
use link::{
    carrier::CarrierChoice,
    control::{ToGateway, ToSession, read_message, write_message},
    error_code::CloseCode,
    header::{DialOutcome, StreamHeader},
    version::{VERSION, Version},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::harness::{Lab, Peer, closed, open};

#[tokio::test]
async fn a_session_is_told_what_it_can_reach_on_both_carriers() {
    let lab = Lab::start().await;
    let path = lab.identity("alice", Duration::from_secs(60));
    let identity = Identity::load(&path, SystemTime::now()).unwrap();
    for (choice, number) in [(CarrierChoice::Udp, 1), (CarrierChoice::Tcp, 2)] {
        let mut peer = Peer::greet(lab.dialer(&identity, choice).dial().await.unwrap()).await;
        assert_eq!(peer.welcome.identity, "alice");
        assert_eq!(peer.welcome.session, number);
        assert_eq!(peer.welcome.domain, "cluster.local");
        assert_eq!(peer.welcome.namespaces, ["shop"]);
        assert_eq!(peer.welcome.routes.len(), 2);
        assert_eq!(peer.welcome.never, [lab.address]);
        write_message(&mut peer.send, &ToGateway::Unknown).await.unwrap();
        write_message(&mut peer.send, &ToGateway::Ping { token: 7 }).await.unwrap();
        assert_eq!(read_message::<ToSession>(&mut peer.recv).await.unwrap(), ToSession::Pong { token: 7 });
        lab.metric_becomes("sessions", 1).await;
        peer.link.close(CloseCode::Done, "bye").await;
        lab.metric_becomes("sessions", 0).await;
    }
}

#[tokio::test]
async fn a_major_version_apart_is_told_which_side_to_upgrade() {
    let lab = Lab::start().await;
    for (major, expected) in
        [(VERSION.major - 1, "upgrade adit on this machine"), (VERSION.major + 1, "upgrade the gateway")]
    {
        let link = lab.link(&format!("alice-{major}")).await;
        let (mut send, _recv) = open(&link, StreamHeader::Control).await;
        let version = Version { major, minor: 0 };
        write_message(&mut send, &ToGateway::Hello { version, program: String::new() }).await.unwrap();
        let (code, reason) = closed(&link).await;
        assert_eq!(code, CloseCode::Version as u64);
        assert!(reason.ends_with(expected), "{reason}");
    }
}

#[tokio::test]
async fn who_breaks_the_protocol_is_closed_and_told_how() {
    let lab = Lab::start().await;
    let dns = lab.link("dns-first").await;
    open(&dns, StreamHeader::Dns).await;
    assert_eq!(
        closed(&dns).await,
        (CloseCode::Protocol as u64, "the first stream is not the control stream".to_owned())
    );

    let ping = lab.link("ping-first").await;
    let (mut send, _recv) = open(&ping, StreamHeader::Control).await;
    write_message(&mut send, &ToGateway::Ping { token: 1 }).await.unwrap();
    assert_eq!(closed(&ping).await.1, "the first message is not a hello");

    let huge = lab.link("huge").await;
    let (mut send, _recv) = open(&huge, StreamHeader::Control).await;
    send.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
    assert_eq!(closed(&huge).await.1, "the first message is not a hello");

    let mut twice = lab.connect("hello-twice").await;
    let hello = ToGateway::Hello { version: VERSION, program: String::new() };
    write_message(&mut twice.send, &hello).await.unwrap();
    assert_eq!(twice.closed().await, (CloseCode::Protocol as u64, "a second hello".to_owned()));

    let mut junk = lab.connect("junk").await;
    junk.send.write_all(b"\0\0\0\x04junk").await.unwrap();
    assert_eq!(junk.closed().await.1, "a control message cannot be read");

    let control = lab.connect("control-twice").await;
    control.open(StreamHeader::Control).await;
    assert_eq!(control.closed().await.1, "a second control stream");
    lab.metric_becomes("sessions", 0).await;
}

#[tokio::test]
async fn a_session_ends_with_its_certificate() {
    let lab = Lab::start().await;
    let path = lab.identity("brief", Duration::from_secs(2));
    let identity = Identity::load(&path, SystemTime::now()).unwrap();
    let peer = Peer::greet(lab.dialer(&identity, CarrierChoice::Udp).dial().await.unwrap()).await;
    let (code, reason) = peer.closed().await;
    assert_eq!(code, CloseCode::Expired as u64);
    assert!(reason.contains("ask for a new one"), "{reason}");
    assert!(SystemTime::now() >= identity.not_after());
}

#[tokio::test]
async fn a_revoked_identity_loses_its_session_and_gets_no_other() {
    let lab = Lab::start().await;
    let path = lab.identity("alice", Duration::from_secs(60));
    let identity = Identity::load(&path, SystemTime::now()).unwrap();
    let (alice, bob) = (lab.connect("alice").await, lab.connect("bob").await);
    certs::revoke(lab.state_dir(), &"alice".parse().unwrap(), SystemTime::now()).unwrap();
    let (code, reason) = alice.closed().await;
    assert_eq!(code, CloseCode::Forbidden as u64);
    assert!(reason.contains("revoked") && reason.contains("ask for a new one"), "{reason}");
    let again = lab.dialer(&identity, CarrierChoice::Udp).dial().await.unwrap();
    assert_eq!(closed(&again).await, (CloseCode::Forbidden as u64, reason));
    assert!(bob.link.connection.close_reason().is_none());
}

#[tokio::test]
async fn an_identity_of_another_gateway_gets_no_session() {
    let (ours, theirs) = (Lab::start().await, Lab::start().await);
    let identity = Identity::load(&theirs.identity("mallory", Duration::from_secs(60)), SystemTime::now()).unwrap();
    let error = ours.dialer(&identity, CarrierChoice::Udp).dial().await.err().unwrap();
    assert!(error.to_string().contains("do not accept each other"), "{error}");
}

#[tokio::test]
async fn one_session_too_many_is_told_that_the_gateway_is_busy() {
    let lab = Lab::with(|config| config.limits.sessions = 1).await;
    let first = lab.connect("first").await;
    let second = lab.link("second").await;
    let (code, reason) = closed(&second).await;
    assert_eq!(code, CloseCode::Busy as u64);
    assert!(reason.contains("limits.sessions"), "{reason}");
    first.link.close(CloseCode::Done, "bye").await;
    lab.metric_becomes("sessions", 0).await;
    lab.connect("third").await;
}

#[tokio::test]
async fn one_session_too_many_of_an_identity_is_told_so_and_others_come_in() {
    let lab = Lab::with(|config| config.limits.sessions_per_identity = 2).await;
    let path = lab.identity("alice", Duration::from_secs(60));
    let identity = Identity::load(&path, SystemTime::now()).unwrap();
    let dial = async || lab.dialer(&identity, CarrierChoice::Udp).dial().await.unwrap();
    let first = Peer::greet(dial().await).await;
    let _second = Peer::greet(dial().await).await;
    // Who never says hello, as the loser of a race between carriers, takes no place.
    let _silent = dial().await;
    let third = dial().await;
    let (mut send, _recv) = open(&third, StreamHeader::Control).await;
    let hello = ToGateway::Hello { version: VERSION, program: String::new() };
    write_message(&mut send, &hello).await.unwrap();
    let (code, reason) = closed(&third).await;
    assert_eq!(code, CloseCode::Busy as u64);
    assert!(reason.contains("alice has 2 sessions") && reason.contains("limits.sessions_per_identity"), "{reason}");
    assert_eq!(lab.metric("arrivals_total{outcome=\"identity_busy\"}").await, 1);
    let _bob = lab.connect("bob").await;
    first.link.close(CloseCode::Done, "bye").await;
    lab.metric_becomes("sessions", 2).await;
    Peer::greet(dial().await).await;
}

#[tokio::test]
async fn a_drain_lets_open_flows_end_and_takes_no_new_ones() {
    let lab = Lab::start().await;
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = service.local_addr().unwrap();
    let mut peer = lab.connect("alice").await;
    let (outcome, mut send, mut recv) = peer.dial(to).await;
    assert_eq!(outcome, DialOutcome::Connected);
    let (mut socket, _) = service.accept().await.unwrap();
    assert_eq!(lab.http("/readyz").await.0, "HTTP/1.1 200 OK");

    lab.shutdown.drain.cancel();
    let told = read_message::<ToSession>(&mut peer.recv).await.unwrap();
    assert!(matches!(told, ToSession::Draining { .. }), "{told:?}");
    assert_eq!(lab.http("/readyz").await.0, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(lab.http("/healthz").await.0, "HTTP/1.1 200 OK");
    assert_eq!(peer.dial(to).await.0, DialOutcome::Busy);

    send.write_all(b"still here").await.unwrap();
    send.finish().unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    socket.write_all(b"and back").await.unwrap();
    drop(socket);
    assert_eq!((text.as_str(), recv.read_to_end(64).await.unwrap().as_slice()), ("still here", &b"and back"[..]));
    assert_eq!(peer.closed().await.0, CloseCode::Draining as u64);
    lab.running.await.unwrap();
}

#[tokio::test]
async fn a_second_signal_cuts_open_flows() {
    let lab = Lab::start().await;
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = lab.connect("alice").await;
    let _flow = peer.dial(service.local_addr().unwrap()).await;
    let (mut socket, _) = service.accept().await.unwrap();
    lab.shutdown.drain.cancel();
    lab.shutdown.now.cancel();
    assert_eq!(peer.closed().await.0, CloseCode::Draining as u64);
    assert!(socket.read_u8().await.is_err());
    lab.running.await.unwrap();
}
