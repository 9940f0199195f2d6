//! The mirror on a real link, with a gateway that says what each test tells it, and listeners on loopback.

mod crowded;
mod others;
mod requests;
mod world;

use std::time::Duration;

use link::mirrored::FrameKind;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};

use self::world::{CLIENT, Flow, MIDDLE, in_world, in_world_of};
use super::*;
use crate::control::{
    mirror_message::{Existing, Listener, PrintedEvent, Selector},
    mirror_status::{NoticeKind, Presence},
};

/// 4 KiB of random letters, so that nothing looks like HTTP.
fn noise(len: usize) -> Vec<u8> {
    (0..len).map(|at| b'a' + u8::try_from((at * at / 7 + at) % 26).unwrap()).collect()
}

async fn listen() -> (TcpListener, Listener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = Listener::At(listener.local_addr().unwrap());
    (listener, at)
}

async fn accept(listener: &TcpListener) -> TcpStream {
    listener.accept().await.unwrap().0
}

#[test]
fn a_connection_arrives_whole_and_its_answers_go_nowhere() {
    in_world(BUDGET_BYTES, async |world| {
        let (listener, at) = listen().await;
        let rule = world.rule(at, |_| {});
        let sent = noise(3_000_000);
        let mut flow = world.flow(rule, true).await;
        let (mut socket, ()) = tokio::join!(accept(&listener), async {
            flow.bytes(&sent[..1_000_000]).await;
            flow.frame(MIDDLE, &sent[1_000_000..1_000_001]).await;
            flow.bytes(&sent[1_000_001..]).await;
            flow.end(FrameKind::Finished).await;
        });
        let mut received = Vec::new();
        socket.read_to_end(&mut received).await.unwrap();
        assert!(received == sent);
        socket.write_all(&noise(100_000)).await.unwrap();
        drop(socket);
        let status = world.until(rule, |status| status.delivery.open == 0).await;
        assert_eq!((status.delivery.bytes, status.delivery.answer_bytes), (3_000_000, 100_000));
        assert_eq!(status.delivery.not_delivered, link::rules::Loss::default());
        assert_eq!(status.listener_state.listener, Presence::Listening);
    });
}

#[test]
fn an_empty_connection_and_a_reset_arrive_as_such() {
    in_world(BUDGET_BYTES, async |world| {
        let (listener, at) = listen().await;
        let rule = world.rule(at, |_| {});
        let flow = world.flow(rule, true).await;
        let (mut socket, ()) = tokio::join!(accept(&listener), flow.end(FrameKind::Finished));
        assert_eq!(socket.read(&mut [0; 8]).await.unwrap(), 0);
        let mut flow = world.flow(rule, true).await;
        flow.bytes(b"half a").await;
        let (mut socket, ()) = tokio::join!(accept(&listener), flow.end(FrameKind::Reset));
        let mut received = Vec::new();
        let ended = socket.read_to_end(&mut received).await;
        assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn without_a_listener_a_connection_is_counted_and_the_next_one_finds_it() {
    in_world(BUDGET_BYTES, async |world| {
        let (listener, at) = listen().await;
        let Listener::At(address) = at else { unreachable!() };
        drop(listener);
        let rule = world.rule(at, |_| {});
        let mut flow = world.flow(rule, true).await;
        flow.bytes(&noise(500)).await;
        world.until(rule, |status| status.listener_state.listener == Presence::Refused).await;
        flow.bytes(&noise(500)).await;
        flow.end(FrameKind::Finished).await;
        let status = world.until(rule, |status| status.delivery.open == 0).await;
        let lost = status.delivery.not_delivered;
        assert_eq!((lost.flows, lost.bytes, status.delivery.bytes), (1, 1_000, 0));
        let listener = TcpListener::bind(address).await.unwrap();
        let mut flow = world.flow(rule, true).await;
        flow.bytes(b"here").await;
        let (mut socket, ()) = tokio::join!(accept(&listener), flow.end(FrameKind::Finished));
        let mut received = String::new();
        socket.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "here");
    });
}

#[test]
fn a_listener_that_does_not_read_costs_a_bounded_part_and_only_its_own_flow() {
    const BUDGET: usize = 1 << 20;
    in_world(BUDGET, async |world| {
        let (listener, at) = listen().await;
        let (stalled, live) = (world.rule(at, |_| {}), world.rule(at, |_| {}));
        let sent = noise(24 << 20);
        let mut flow = world.flow(stalled, true).await;
        let (mut socket, ()) = tokio::join!(accept(&listener), async {
            flow.bytes(&sent).await;
            flow.end(FrameKind::Finished).await;
        });
        let status = world.until(stalled, |status| status.delivery.listener_lag.bytes > 0).await;
        assert!(world.mirror.budget.held() <= BUDGET);
        assert!(status.delivery.listener_lag.bytes > 0);
        let mut other = world.flow(live, true).await;
        other.bytes(b"unharmed").await;
        let (mut unharmed, ()) = tokio::join!(accept(&listener), other.end(FrameKind::Finished));
        let mut received = String::new();
        unharmed.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "unharmed");
        // What it gets is a part of the truth, and never its end.
        let mut received = Vec::new();
        let ended = socket.read_to_end(&mut received).await;
        assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        let status = world.until(stalled, |status| status.delivery.open == 0).await;
        let delivery = status.delivery;
        assert_eq!(delivery.bytes + delivery.listener_lag.bytes + delivery.not_delivered.bytes, sent.len() as u64);
        assert!(sent.starts_with(&received) && received.len() < sent.len());
    });
}

#[test]
fn a_gap_in_a_raw_connection_ends_its_copy() {
    in_world(BUDGET_BYTES, async |world| {
        let (listener, at) = listen().await;
        for (from_start, existing) in [(true, Existing::Http), (false, Existing::Raw)] {
            let rule = world.rule(at, |rule| rule.existing = existing);
            let mut flow = world.flow(rule, from_start).await;
            flow.bytes(b"before").await;
            let mut socket = accept(&listener).await;
            let mut received = [0; 6];
            socket.read_exact(&mut received).await.unwrap();
            flow.gap(100).await;
            flow.bytes(b"GET / HTTP/1.1\r\n\r\n").await;
            let ended = socket.read(&mut received).await;
            assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
            let status = world.until(rule, |status| status.delivery.not_joined.bytes == 18).await;
            assert_eq!((&received, status.delivery.bytes), (b"before", 6));
            flow.end(FrameKind::Finished).await;
        }
    });
}

#[test]
fn off_silences_what_is_open_and_on_its_way() {
    in_world(BUDGET_BYTES, async |world| {
        let (listener, at) = listen().await;
        let rule = world.rule(at, |_| {});
        let mut flow = world.flow(rule, true).await;
        flow.bytes(b"before").await;
        let mut socket = accept(&listener).await;
        socket.read_exact(&mut [0; 6]).await.unwrap();
        world.mirror.status.mirror.switch(false, &Selector::All);
        flow.bytes(b"after").await;
        assert!(socket.read(&mut [0; 8]).await.is_err());
        assert!(flow.is_stopped().await);
        assert!(world.flow(rule, true).await.is_stopped().await);
        let mut late = Vec::new();
        world.header(rule, true).encode(&mut late);
        late.extend_from_slice(&link::mirrored::FrameHeader { kind: MIDDLE, len: 4 }.encode());
        late.extend_from_slice(b"late");
        assert!(world.stream(&late).await.is_stopped().await);
        let late = world.status(rule).delivery.switched_off;
        assert!(late.flows == 2 && late.bytes >= 4, "{late:?}");
        world.mirror.status.mirror.switch(true, &Selector::All);
        let mut flow = world.flow(rule, true).await;
        flow.bytes(b"again").await;
        let mut socket = accept(&listener).await;
        let mut received = [0; 5];
        socket.read_exact(&mut received).await.unwrap();
        assert_eq!((&received, world.status(rule).delivery.bytes), (b"again", 11));
    });
}

#[test]
fn a_link_that_ends_leaves_no_connection_behind_and_blames_no_listener() {
    const BUDGET: usize = 1 << 20;
    in_world(BUDGET, async |world| {
        let (listener, at) = listen().await;
        let rule = world.rule(at, |_| {});
        let mut flow = world.flow(rule, true).await;
        flow.bytes(b"before").await;
        let mut socket = accept(&listener).await;
        world.until(rule, |status| status.delivery.bytes == 6).await;
        // More than sockets take and less than may be held, so that something is lost with the link.
        let mut sent = 6;
        while world.mirror.budget.held() == 0 {
            flow.bytes(&noise(60_000)).await;
            sent += 60_000;
            world.until(rule, |status| status.delivery.bytes == sent || world.mirror.budget.held() > 0).await;
        }
        let mut joined = world.flow(rule, false).await;
        joined.bytes(b"GET /on-trial HTTP/1.1\r\n").await;
        world.until(rule, |status| status.delivery.open == 2).await;
        world.close();
        let status = world.until(rule, |status| status.delivery.open == 0).await;
        let delivery = status.delivery;
        assert!(delivery.source_gone.bytes > 0, "{delivery:?}");
        assert_eq!(delivery.not_delivered, link::rules::Loss::default());
        assert_eq!(delivery.bytes + delivery.source_gone.bytes, sent);
        let mut received = Vec::new();
        assert!(socket.read_to_end(&mut received).await.is_err());
    });
}

#[test]
fn nonsense_from_the_gateway_ends_the_flow_and_nothing_else() {
    in_world(BUDGET_BYTES, async |world| {
        let (listener, at) = listen().await;
        let rule = world.rule(at, |_| {});
        let header = |from_start| {
            let mut bytes = Vec::new();
            world.header(rule, from_start).encode(&mut bytes);
            bytes
        };
        let with = |tail: &[u8]| [&header(true)[..], tail].concat();
        let mut unknown = Vec::new();
        world.header(rule + 7, true).encode(&mut unknown);
        for bytes in [
            vec![0x20, 255, 255, 0],
            vec![0x20, 0, 1, 0],
            unknown,
            with(&[99, 0, 0, 1, 0]),
            with(&[0, 255, 255, 255]),
            with(&[1, 0, 0, 1, 0]),
            with(&[2, 0, 0, 2, 0, 0]),
            with(&[3, 0, 0, 0, 0]),
        ] {
            let mut flow = world.stream(&bytes).await;
            // The end of the flow may have been told before what lies behind it.
            let is_end = bytes.ends_with(&[3, 0, 0, 0, 0]);
            assert!(is_end || flow.is_stopped().await, "{bytes:?}");
        }
        world.until(rule, |status| status.delivery.open == 0).await;
        drop(listener);
    });
}

#[test]
fn many_connections_are_open_at_once() {
    in_world(BUDGET_BYTES, async |world| {
        let (listener, at) = listen().await;
        let rule = world.rule(at, |_| {});
        let mut flows = Vec::new();
        let mut sockets = Vec::new();
        for _ in 0..300 {
            let mut flow = world.flow(rule, true).await;
            flow.bytes(b"ab").await;
            flows.push(flow);
            sockets.push(accept(&listener).await);
        }
        world.until(rule, |status| status.delivery.bytes == 600).await;
        assert_eq!(world.status(rule).delivery.open, 300);
        for flow in flows {
            flow.end(FrameKind::Finished).await;
        }
        for mut socket in sockets {
            let mut received = Vec::new();
            let read = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut received)).await;
            assert_eq!(read.unwrap().unwrap(), 2);
        }
        world.until(rule, |status| status.delivery.open == 0).await;
        assert_eq!(world.mirror.budget.held(), 0);
    });
}
