//! More flows than the process may have sockets for.

use super::*;

/// Of four files two are left to flows.
const FILES: usize = 4;

#[test]
fn connections_beyond_the_limit_are_counted_and_the_listener_is_not_blamed() {
    in_world_of(BUDGET_BYTES, FILES, async |world| {
        let (listener, at) = listen().await;
        let rule = world.rule(at, |_| {});
        let mut flows = Vec::new();
        let mut sockets = Vec::new();
        for _ in 0..2 {
            flows.push(world.flow(rule, true).await);
            sockets.push(accept(&listener).await);
        }
        let mut crowded = world.flow(rule, true).await;
        // Each of its requests asks anew, which is told once.
        crowded.bytes(b"GET /a HTTP/1.1\r\n\r\n").await;
        crowded.bytes(b"GET /b HTTP/1.1\r\n\r\n").await;
        let status = world.until(rule, |status| status.delivery.requests.missed == 2).await;
        assert_eq!((status.notices[0].kind, status.notices[0].connections), (NoticeKind::Descriptors, 1));
        let text = &status.notices[0].text;
        assert!(text.contains(&sockets::limit().to_string()) && text.contains("ulimit -Hn"), "{text}");
        crowded.end(FrameKind::Finished).await;
        let status = world.until(rule, |status| status.delivery.open == 2).await;
        let lag = status.delivery.listener_lag;
        assert_eq!((lag.flows, lag.bytes, status.delivery.not_delivered), (1, 38, link::rules::Loss::default()));
        assert_eq!(status.listener_state.listener, Presence::Listening);
        // What has ended makes room.
        flows.pop().unwrap().end(FrameKind::Reset).await;
        world.until(rule, |status| status.delivery.open == 1).await;
        flows.push(world.flow(rule, true).await);
        sockets.push(accept(&listener).await);
    });
}

#[test]
fn datagrams_beyond_the_limit_are_counted() {
    in_world_of(BUDGET_BYTES, FILES, async |world| {
        let listener = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = Listener::At(listener.local_addr().unwrap());
        let rule = world.rule(at, |rule| rule.protocol = link::rules::RuleProtocol::Udp);
        let mut flows = Vec::new();
        for _ in 0..3 {
            let mut flow = world.flow(rule, true).await;
            flow.frame(FrameKind::Datagram, &noise(100)).await;
            flow.frame(FrameKind::Datagram, &noise(100)).await;
            flows.push(flow);
        }
        let status = world.until(rule, |status| status.delivery.listener_lag.datagrams == 2).await;
        assert_eq!((status.notices[0].kind, status.notices[0].connections), (NoticeKind::Descriptors, 1));
        for flow in flows {
            flow.end(FrameKind::Finished).await;
        }
        let status = world.until(rule, |status| status.delivery.open == 0).await;
        let lag = status.delivery.listener_lag;
        assert_eq!((lag.flows, lag.bytes, status.delivery.datagrams), (1, 200, 4));
        assert_eq!(status.listener_state.listener, Presence::Listening);
    });
}
