//! Datagrams, what is printed, what is told, and the header that names the client.

use super::*;

#[test]
fn datagrams_of_every_size_arrive_from_one_port_a_flow() {
    in_world(BUDGET_BYTES, async |world| {
        let listener = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = Listener::At(listener.local_addr().unwrap());
        let rule = world.rule(at, |rule| rule.protocol = link::rules::RuleProtocol::Udp);
        let (mut first, mut second) = (world.flow(rule, true).await, world.flow(rule, true).await);
        let mut buffer = vec![0; 70_000];
        let mut receive = async |flow: &mut Flow, size: usize| {
            flow.frame(FrameKind::Datagram, &noise(size)).await;
            let (len, from) = listener.recv_from(&mut buffer).await.unwrap();
            assert!(buffer[..len] == noise(size), "{size}");
            listener.send_to(b"answer", from).await.unwrap();
            from
        };
        let from = receive(&mut first, 0).await;
        for size in [1, 200, 1_472, 9_000, 65_000, 65_507] {
            assert_eq!(receive(&mut first, size).await, from);
        }
        assert_ne!(receive(&mut second, 7).await, from);
        let status = world.until(rule, |status| status.delivery.answer_bytes == 8 * 6).await;
        assert_eq!(status.delivery.datagrams, 8);
        // More than UDP carries: it does not arrive, which is no fault of the listener's.
        first.frame(FrameKind::Datagram, &noise(66_000)).await;
        let status = world.until(rule, |status| status.delivery.not_delivered.datagrams == 1).await;
        assert_eq!(status.listener_state.listener, Presence::Listening);
        drop(listener);
        first.frame(FrameKind::Datagram, &noise(100)).await;
        let status = world.until(rule, |status| status.delivery.not_delivered.datagrams == 2).await;
        assert_eq!((status.delivery.not_delivered.bytes, status.listener_state.listener), (66_100, Presence::Refused));
    });
}

#[test]
fn what_is_printed_needs_no_listener() {
    in_world(BUDGET_BYTES, async |world| {
        let rule = world.rule(Listener::Print, |_| {});
        let mut watcher = commands::watch(&world.mirror.status.mirror, &[rule]).unwrap();
        let mut flow = world.flow(rule, true).await;
        flow.bytes(b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 3\r\n\r\nabc").await;
        flow.end(FrameKind::Finished).await;
        let (events, _) = watcher.next(1).await.unwrap();
        let line = "POST /a HTTP/1.1".to_owned();
        let headers = [("Host", "b"), ("Content-Length", "3")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let request = PrintedEvent::Request { line, headers: headers.into(), body_bytes: 3, whole: true };
        assert_eq!((&events[0].event, events[0].replica.as_str()), (&request, "web-1"));
        assert_eq!(events[0].client.ip(), CLIENT.parse::<std::net::SocketAddr>().unwrap().ip());
        let (events, _) = watcher.next(1).await.unwrap();
        assert_eq!(events[0].event, PrintedEvent::Ended { how: "finished".to_owned(), bytes: 51 });
        let mut flow = world.flow(rule, true).await;
        flow.bytes(&noise(700)).await;
        let (events, _) = watcher.next(1).await.unwrap();
        assert_eq!(events[0].event, PrintedEvent::Bytes { bytes: 700 });
        let status = world.until(rule, |status| status.delivery.bytes == 751).await;
        assert_eq!(status.delivery.requests.delivered, 1);
    });
}

#[test]
fn what_cannot_be_followed_is_told_once() {
    in_world(BUDGET_BYTES, async |world| {
        let (_listener, at) = listen().await;
        let rule = world.rule(at, |_| {});
        for _ in 0..2 {
            let mut flow = world.flow(rule, true).await;
            flow.bytes(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await;
            let mut flow = world.flow(rule, false).await;
            flow.bytes(&[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]).await;
        }
        let status =
            world.until(rule, |status| status.notices.iter().map(|notice| notice.connections).sum::<u64>() == 4).await;
        let kinds: Vec<_> = status.notices.iter().map(|notice| notice.kind).collect();
        assert_eq!(kinds, [NoticeKind::Tls, NoticeKind::Http2Joined]);
        assert_eq!(status.delivery.not_joined.bytes, 2 * 17);
    });
}

#[test]
fn the_real_client_is_named_to_a_listener_that_wants_it() {
    in_world(BUDGET_BYTES, async |world| {
        let (listener, at) = listen().await;
        let rule = world.rule(at, |rule| rule.proxy_protocol = true);
        let mut flow = world.flow(rule, true).await;
        flow.bytes(b"payload").await;
        let (mut socket, ()) = tokio::join!(accept(&listener), flow.end(FrameKind::Finished));
        let mut received = Vec::new();
        socket.read_to_end(&mut received).await.unwrap();
        assert!(received.starts_with(b"\r\n\r\n\0\r\nQUIT\n\x21\x11"));
        assert!(received.ends_with(b"\xe0\0\x05web-1payload"));
        drop(socket);
        assert_eq!(world.until(rule, |status| status.delivery.open == 0).await.delivery.bytes, 7);
    });
}
