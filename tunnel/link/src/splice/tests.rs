//! A splice between real sockets and real streams on loopback.

use std::{net::SocketAddr, time::Duration};

use quinn::{RecvStream, SendStream};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::{carrier::CarrierChoice, dial::Link, listen::Listener, testing::linked};

/// Shared by all tests, and so large that none spends it.
static PLENTY: Budget = Budget::new(usize::MAX);
/// Spent from the beginning.
static NOTHING: Budget = Budget::new(0);

struct Flow {
    service: TcpStream,
    send: SendStream,
    recv: RecvStream,
    splice: JoinHandle<Ending>,
    link: Link,
    _listener: Listener,
}

async fn flow(choice: CarrierChoice, budget: &'static Budget) -> Flow {
    let (link, arrived, listener) = linked(choice).await;
    let services = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = services.local_addr().unwrap();
    let (mut send, recv) = link.connection.open_bi().await.unwrap();
    send.write_all(b"x").await.unwrap();
    let (gateway_send, mut gateway_recv) = arrived.connection.accept_bi().await.unwrap();
    assert_eq!(gateway_recv.read_u8().await.unwrap(), b'x');
    let (socket, accepted) = tokio::join!(TcpStream::connect(address), services.accept());
    let service = accepted.unwrap().0;
    #[expect(clippy::disallowed_methods, reason = "a test's task ends with its runtime")]
    let spliced = tokio::spawn(async move {
        let over = async { drop(arrived.connection.closed().await) };
        splice(socket.unwrap(), gateway_send, gateway_recv, budget, over, |_| {}).await
    });
    Flow { service, send, recv, splice: spliced, link, _listener: listener }
}

async fn on_both<F: Future<Output = ()>>(test: impl Fn(Flow) -> F) {
    for choice in [CarrierChoice::Udp, CarrierChoice::Tcp] {
        let run = async { test(flow(choice, &PLENTY).await).await };
        timeout(Duration::from_secs(30), run).await.unwrap();
    }
}

#[tokio::test]
async fn the_answer_arrives_after_the_streams_fin() {
    on_both(|mut flow| async move {
        let question = vec![7; 3_000_000];
        let mut got = Vec::new();
        let write = async {
            flow.send.write_all(&question).await.unwrap();
            flow.send.finish().unwrap();
        };
        let ((), read) = tokio::join!(write, flow.service.read_to_end(&mut got));
        assert_eq!(read.unwrap(), question.len());
        assert!(got == question);
        flow.service.write_all(b"answer").await.unwrap();
        flow.service.shutdown().await.unwrap();
        assert_eq!(flow.recv.read_to_end(64).await.unwrap(), b"answer");
        assert_eq!(flow.splice.await.unwrap(), Ending::Finished);
    })
    .await;
}

#[tokio::test]
async fn the_sockets_fin_leaves_the_other_half_open() {
    on_both(|mut flow| async move {
        flow.service.write_all(b"banner").await.unwrap();
        flow.service.shutdown().await.unwrap();
        assert_eq!(flow.recv.read_to_end(64).await.unwrap(), b"banner");
        flow.send.write_all(&[1; 100_000]).await.unwrap();
        flow.send.finish().unwrap();
        let mut got = Vec::new();
        flow.service.read_to_end(&mut got).await.unwrap();
        assert_eq!(got.len(), 100_000);
        assert_eq!(flow.splice.await.unwrap(), Ending::Finished);
    })
    .await;
}

#[tokio::test]
async fn a_reset_socket_resets_the_stream() {
    on_both(|mut flow| async move {
        SockRef::from(&flow.service).set_linger(Some(Duration::ZERO)).unwrap();
        drop(flow.service);
        let error = flow.recv.read_to_end(64).await.unwrap_err();
        assert!(matches!(error, quinn::ReadToEndError::Read(ReadError::Reset(code)) if code == FLOW_RESET), "{error}");
        assert_eq!(flow.splice.await.unwrap(), Ending::ResetBySocket);
    })
    .await;
}

#[tokio::test]
async fn a_reset_stream_resets_the_socket() {
    on_both(|mut flow| async move {
        flow.send.reset(FLOW_RESET).unwrap();
        let error = flow.service.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(flow.splice.await.unwrap(), Ending::ResetByStream);
    })
    .await;
}

#[tokio::test]
async fn a_stop_after_the_streams_fin_still_resets_the_socket() {
    on_both(|mut flow| async move {
        flow.send.finish().unwrap();
        assert_eq!(flow.service.read(&mut [0; 8]).await.unwrap(), 0);
        flow.recv.stop(FLOW_RESET).unwrap();
        assert_eq!(flow.splice.await.unwrap(), Ending::ResetByStream);
        // The service has read our FIN, so its kernel reports the reset as a broken pipe.
        let error = flow.service.take_error().unwrap().unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    })
    .await;
}

#[tokio::test]
async fn a_lost_link_resets_the_socket() {
    on_both(|mut flow| async move {
        flow.send.write_all(b"some").await.unwrap();
        flow.service.read_exact(&mut [0; 4]).await.unwrap();
        flow.link.connection.close(0u32.into(), b"gone");
        let error = flow.service.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(flow.splice.await.unwrap(), Ending::ResetByStream);
    })
    .await;
}

#[tokio::test]
async fn a_reset_reaches_a_service_that_does_not_read() {
    on_both(|mut flow| async move {
        // Until the socket, and the splice behind it, take no more.
        while let Ok(written) = timeout(Duration::from_millis(200), flow.send.write(&[1; 65_536])).await {
            written.unwrap();
        }
        flow.send.reset(FLOW_RESET).unwrap();
        flow.recv.stop(FLOW_RESET).unwrap();
        assert_eq!(flow.splice.await.unwrap(), Ending::ResetByStream);
        drop(flow.service);
    })
    .await;
}

#[tokio::test]
async fn a_lost_link_reaches_a_service_that_does_not_read() {
    on_both(|mut flow| async move {
        while let Ok(written) = timeout(Duration::from_millis(200), flow.send.write(&[1; 65_536])).await {
            written.unwrap();
        }
        flow.link.connection.close(0u32.into(), b"gone");
        assert_eq!(flow.splice.await.unwrap(), Ending::ResetByStream);
        drop((flow.service, flow.recv));
    })
    .await;
}

#[tokio::test]
async fn a_service_that_has_finished_and_reads_late_gets_every_byte() {
    on_both(|mut flow| async move {
        flow.service.shutdown().await.unwrap();
        assert_eq!(flow.recv.read_to_end(64).await.unwrap(), b"");
        let mut sent = 0;
        while let Ok(written) = timeout(Duration::from_millis(200), flow.send.write(&[1; 65_536])).await {
            sent += written.unwrap();
        }
        flow.send.finish().unwrap();
        let mut got = Vec::new();
        flow.service.read_to_end(&mut got).await.unwrap();
        assert_eq!(got.len(), sent);
        assert_eq!(flow.splice.await.unwrap(), Ending::Finished);
    })
    .await;
}

#[tokio::test]
async fn a_lost_link_reaches_a_service_that_has_finished_and_does_not_read() {
    on_both(|mut flow| async move {
        flow.service.shutdown().await.unwrap();
        assert_eq!(flow.recv.read_to_end(64).await.unwrap(), b"");
        while let Ok(written) = timeout(Duration::from_millis(200), flow.send.write(&[1; 65_536])).await {
            written.unwrap();
        }
        flow.link.connection.close(0u32.into(), b"gone");
        assert_eq!(flow.splice.await.unwrap(), Ending::ResetByStream);
        drop(flow.service);
    })
    .await;
}

#[tokio::test]
async fn without_a_budget_all_bytes_arrive_and_little_is_held() {
    let mut flow = flow(CarrierChoice::Tcp, &NOTHING).await;
    let sent = vec![7; 3_000_000];
    let (mut got, mut answered) = (Vec::new(), vec![0; sent.len()]);
    while let Ok(written) = timeout(Duration::from_millis(200), flow.send.write(&[7; 65_536])).await {
        written.unwrap();
    }
    assert!(NOTHING.held() <= SPARING_BYTES, "{}", NOTHING.held());
    flow.send.finish().unwrap();
    flow.service.read_to_end(&mut got).await.unwrap();
    assert!(got.len() > sent.len() && got.iter().all(|byte| *byte == 7));
    let (written, read) = tokio::join!(flow.service.write_all(&sent), flow.recv.read_exact(&mut answered));
    written.unwrap();
    read.unwrap();
    assert!(answered == sent);
    drop(flow.service);
    assert_eq!(flow.splice.await.unwrap(), Ending::Finished);
    assert_eq!(NOTHING.held(), 0);
}
