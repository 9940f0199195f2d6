//! A session that wants too much, or sends nonsense, is bounded, told and counted.

use link::{
    error_code::{STREAM_LIMIT, STREAM_MALFORMED},
    header::{DialOutcome, StreamHeader},
};
use quinn::ReadError;
use tokio::net::TcpListener;

use crate::harness::Lab;

#[tokio::test]
async fn streams_above_the_limit_are_refused_and_the_rest_goes_on() {
    let lab = Lab::with(|config| config.limits.streams = 3).await;
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = service.local_addr().unwrap();
    let peer = lab.connect("greedy").await;
    let mut flows = Vec::new();
    for _ in 0..3 {
        let flow = peer.dial(to).await;
        assert_eq!(flow.0, DialOutcome::Connected);
        flows.push(flow);
    }
    let (_send, mut recv) = peer.open(StreamHeader::Tcp(to)).await;
    let refused = recv.read(&mut [0; 1]).await;
    assert!(matches!(refused, Err(ReadError::Reset(code)) if code == STREAM_LIMIT), "{refused:?}");
    assert_eq!(lab.metric("refused_streams_total{reason=\"limit\"}").await, 1);
    flows.clear();
    lab.metric_becomes("tcp_flows", 0).await;
    assert_eq!(peer.dial(to).await.0, DialOutcome::Connected);
}

#[tokio::test]
async fn a_session_may_have_more_streams_than_quic_allows_at_first() {
    let lab = Lab::start().await;
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = service.local_addr().unwrap();
    let peer = lab.connect("busy").await;
    let mut flows = Vec::new();
    for _ in 0..1_500 {
        let flow = peer.dial(to).await;
        assert_eq!(flow.0, DialOutcome::Connected);
        flows.push((flow, service.accept().await.unwrap()));
    }
    assert_eq!(lab.metric("tcp_flows").await, 1_500);
}

#[tokio::test]
async fn dials_above_the_rate_are_told_to_come_later() {
    let lab = Lab::with(|config| config.limits.dials_per_second = 2).await;
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = service.local_addr().unwrap();
    let peer = lab.connect("hasty").await;
    let mut outcomes = Vec::new();
    for _ in 0..4 {
        outcomes.push(peer.dial(to).await.0);
    }
    assert_eq!(outcomes[..2], [DialOutcome::Connected; 2]);
    assert!(outcomes.contains(&DialOutcome::Busy), "{outcomes:?}");
}

#[tokio::test]
async fn nonsense_headers_and_late_ones_are_refused() {
    let lab = Lab::start().await;
    let peer = lab.connect("confused").await;
    let (mut send, mut recv) = peer.link.connection.open_bi().await.unwrap();
    send.write_all(&[77]).await.unwrap();
    let refused = recv.read(&mut [0; 1]).await;
    assert!(matches!(refused, Err(ReadError::Reset(code)) if code == STREAM_MALFORMED), "{refused:?}");

    // Half a header and an end; half a header and no end.
    for (is_finished, reason) in [(true, "malformed"), (false, "slow")] {
        let (mut send, mut recv) = peer.link.connection.open_bi().await.unwrap();
        send.write_all(&[1, 127]).await.unwrap();
        if is_finished {
            send.finish().unwrap();
        }
        let refused = recv.read(&mut [0; 1]).await;
        assert!(matches!(refused, Err(ReadError::Reset(code)) if code == STREAM_MALFORMED), "{refused:?}");
        assert!(lab.metric(&format!("refused_streams_total{{reason=\"{reason}\"}}")).await >= 1);
    }
}

#[tokio::test]
async fn nonsense_datagrams_are_dropped_and_counted() {
    let lab = Lab::start().await;
    let peer = lab.connect("confused").await;
    for bytes in [&b""[..], b"\xff", b"\0\0\0", b"\x02\0\0\0\x01payload"] {
        peer.link.connection.send_datagram(bytes.to_vec().into()).unwrap();
    }
    lab.metric_becomes("dropped_datagrams_total{reason=\"malformed\"}", 4).await;
    let mut stream = peer.link.connection.open_uni().await.unwrap();
    // More than any message has: the gateway stops reading it, which fails the write.
    let _ = stream.write_all(&vec![0; 100_000]).await;
    let _ = stream.finish();
    lab.metric_becomes("dropped_datagrams_total{reason=\"bad_stream\"}", 1).await;
}

#[tokio::test]
async fn the_observer_answers_what_it_has_and_nothing_else() {
    let lab = Lab::start().await;
    assert_eq!(lab.http("/nothing").await.0, "HTTP/1.1 404 Not Found");
    let (status, body) = lab.http("/metrics").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(body.contains("# TYPE adit_gateway_dials counter") && body.ends_with("# EOF\n"), "{body}");
}
