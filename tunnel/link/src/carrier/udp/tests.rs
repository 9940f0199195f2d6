//! When packets leave, and that none is missed after a receive that emptied the socket.

use std::{future::poll_fn, net::UdpSocket as StdSocket, time::Duration};

use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

/// A carrier, and a plain socket to talk to it.
fn pair(tasks: &TaskTracker) -> (Arc<UdpCarrier>, StdSocket) {
    let ours = UdpCarrier::listening(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let theirs = StdSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    (UdpCarrier::new(ours, tasks).unwrap(), theirs)
}

fn transmit(to: &StdSocket, contents: &'static [u8], segment_size: Option<usize>) -> Transmit<'static> {
    Transmit { destination: to.local_addr().unwrap(), ecn: None, contents, segment_size, src_ip: None }
}

fn received(from: &StdSocket) -> Vec<u8> {
    let mut buffer = [0; 4_096];
    let len = from.recv(&mut buffer).unwrap();
    buffer[..len].to_vec()
}

#[tokio::test]
async fn a_lone_packet_leaves_at_once() {
    let (carrier, peer) = pair(&TaskTracker::new());
    carrier.io.writable().await.unwrap();
    carrier.try_send(&transmit(&peer, b"alone", None)).unwrap();
    // Nothing has run since: no task, no flusher.
    assert_eq!(received(&peer), b"alone");
}

#[tokio::test]
async fn a_batch_waits_for_more_of_its_kind_and_leaves_with_it() {
    let (carrier, peer) = pair(&TaskTracker::new());
    carrier.try_send(&transmit(&peer, b"aabb", Some(2))).unwrap();
    carrier.try_send(&transmit(&peer, b"ccd", Some(2))).unwrap();
    assert_eq!(carrier.lock().bytes, b"aabbccd");
    tokio::time::timeout(PATIENCE, async {
        while !carrier.lock().bytes.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert_eq!([0; 4].map(|_| received(&peer)).concat(), b"aabbccd");
}

#[tokio::test]
async fn a_packet_behind_an_emptied_socket_is_noticed() {
    let (carrier, peer) = pair(&TaskTracker::new());
    for round in 0..3_u8 {
        peer.send_to(&[round], carrier.local_addr().unwrap()).unwrap();
        let mut buffer = [0; 64];
        let mut meta = [RecvMeta::default()];
        let count = tokio::time::timeout(
            PATIENCE,
            poll_fn(|cx| carrier.poll_recv(cx, &mut [IoSliceMut::new(&mut buffer)], &mut meta)),
        );
        assert_eq!(count.await.unwrap().unwrap(), 1);
        assert_eq!(buffer[0], round);
    }
}
