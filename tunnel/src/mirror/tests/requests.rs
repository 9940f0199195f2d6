//! HTTP/1 on its way to listeners that come and go.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    net::SocketAddr,
};

use tokio::task::JoinHandle;

use super::*;
use crate::control::mirror_status::Requests;

/// What a listener has seen.
#[derive(Default)]
struct Seen {
    whole: RefCell<BTreeMap<u32, u32>>,
    torn: Cell<u32>,
}

/// A server that knows what it is sent: request `n` has a body of a length and content that follow from `n`.
fn body(number: u32) -> Vec<u8> {
    noise([0, 200, 5_000, 100_000][number as usize % 4])
}

fn request(number: u32) -> Vec<u8> {
    let body = body(number);
    [format!("POST /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat()
}

async fn serve(listener: TcpListener, seen: Rc<Seen>) {
    let mut serving = tokio::task::JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        serving.spawn_local(answer_all(socket, Rc::clone(&seen)));
    }
}

async fn answer_all(mut socket: TcpStream, seen: Rc<Seen>) {
    let mut bytes = Vec::new();
    loop {
        while let Some((head, rest)) = split(&bytes) {
            let Some(number) = head.strip_prefix("POST /").and_then(|rest| rest.split(' ').next()?.parse().ok()) else {
                return seen.torn.set(seen.torn.get() + 1);
            };
            let body = body(number);
            if rest.len() < body.len() {
                break;
            }
            if rest[..body.len()] != body {
                return seen.torn.set(seen.torn.get() + 1);
            }
            let used = bytes.len() - rest.len() + body.len();
            bytes.drain(..used);
            *seen.whole.borrow_mut().entry(number).or_default() += 1;
            if socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err() {
                return;
            }
        }
        match socket.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

fn split(bytes: &[u8]) -> Option<(String, &[u8])> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    Some((String::from_utf8_lossy(&bytes[..end]).into_owned(), &bytes[end..]))
}

async fn start(address: SocketAddr, seen: &Rc<Seen>) -> JoinHandle<()> {
    // The address is free as soon as the last one's tasks have ended.
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    tokio::task::spawn_local(serve(listener, Rc::clone(seen)))
}

#[test]
fn under_a_listener_that_is_restarted_each_request_arrives_whole_or_is_counted_as_missed() {
    const CONNECTIONS: u32 = 8;
    const RESTARTS: u32 = 20;
    in_world(BUDGET_BYTES, async |world| {
        let (listener, at) = listen().await;
        let address = listener.local_addr().unwrap();
        let rule = world.rule(at, |_| {});
        let seen = Rc::new(Seen::default());
        let mut server = tokio::task::spawn_local(serve(listener, Rc::clone(&seen)));
        let (sent, over) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..CONNECTIONS {
            let (world, sent, over) = (Rc::clone(&world), Rc::clone(&sent), Rc::clone(&over));
            clients.spawn_local(async move {
                let mut flow = world.flow(rule, true).await;
                while !over.get() {
                    let number = sent.replace(sent.get() + 1);
                    flow.bytes(&request(number)).await;
                    tokio::task::yield_now().await;
                }
                flow.end(FrameKind::Finished).await;
            });
        }
        for _ in 0..RESTARTS {
            let before = seen.whole.borrow().len();
            while seen.whole.borrow().len() < before + 10 {
                tokio::task::yield_now().await;
            }
            server.abort();
            let _ = server.await;
            server = start(address, &seen).await;
        }
        over.set(true);
        while clients.join_next().await.is_some() {}
        let status = world.until(rule, |status| status.delivery.open == 0).await;
        let requests = status.delivery.requests;
        assert_eq!((requests.delivered + requests.missed, requests.in_flight), (u64::from(sent.get()), 0));
        assert_eq!(seen.torn.get(), 0, "a request began in the middle");
        let whole: u32 = seen.whole.borrow().values().sum();
        // A listener may be stopped between taking a request and answering it.
        assert!(requests.delivered <= u64::from(whole) && whole <= sent.get(), "{requests:?} {whole}");
        assert!(seen.whole.borrow().values().all(|times| *times == 1), "a request came twice");
        server.abort();
    });
}

#[test]
fn a_connection_that_was_open_is_joined_at_its_next_request() {
    in_world(BUDGET_BYTES, async |world| {
        let (listener, at) = listen().await;
        let rule = world.rule(at, |_| {});
        let seen = Rc::new(Seen::default());
        let server = tokio::task::spawn_local(serve(listener, Rc::clone(&seen)));
        let mut flow = world.flow(rule, false).await;
        let first = request(3);
        flow.frame(MIDDLE, &first[60_000..]).await;
        for number in 4..8 {
            flow.bytes(&request(number)).await;
        }
        let status = world.until(rule, |status| status.delivery.requests.delivered == 4).await;
        assert_eq!(status.delivery.not_joined.bytes, (first.len() - 60_000) as u64);
        // Within a body: the framing still says where the next one starts. Between two: it is sought.
        flow.frame(world::PUSHED, &request(11)[..50_000]).await;
        flow.gap(request(11).len() as u64 - 50_000).await;
        flow.bytes(&request(12)).await;
        flow.gap(request(13).len() as u64).await;
        flow.bytes(&request(14)).await;
        flow.end(FrameKind::Finished).await;
        let status = world.until(rule, |status| status.delivery.open == 0).await;
        assert_eq!((status.delivery.requests.delivered, status.delivery.requests.missed), (6, 1));
        assert_eq!(seen.torn.get(), 0);
        assert!(seen.whole.borrow().keys().copied().eq([4, 5, 6, 7, 12, 14]));
        server.abort();
    });
}

#[test]
fn a_slow_listener_misses_requests_but_never_a_part_of_one() {
    in_world(256 << 10, async |world| {
        let (listener, at) = listen().await;
        let rule = world.rule(at, |_| {});
        let seen = Rc::new(Seen::default());
        let mut flow = world.flow(rule, true).await;
        let mut number = 0;
        // Nobody accepts: the kernel takes some, the session holds some.
        while world.status(rule).delivery.listener_lag.bytes == 0 {
            flow.bytes(&request(number)).await;
            number += 1;
            tokio::task::yield_now().await;
        }
        let server = tokio::task::spawn_local(serve(listener, Rc::clone(&seen)));
        world.until(rule, |status| status.delivery.requests.delivered > 0).await;
        // Once it has caught up, nothing is missed any more.
        while !seen.whole.borrow().contains_key(&(number - 1)) {
            flow.bytes(&request(number)).await;
            number += 1;
            let settled = |requests: Requests| requests.delivered + requests.missed == u64::from(number);
            world.until(rule, |status| settled(status.delivery.requests)).await;
        }
        flow.end(FrameKind::Finished).await;
        let status = world.until(rule, |status| status.delivery.open == 0).await;
        let requests = status.delivery.requests;
        assert_eq!(requests.delivered + requests.missed, u64::from(number));
        assert_eq!(seen.torn.get(), 0);
        assert!(requests.missed > 0);
        server.abort();
    });
}
