//! Which carrier wins, and what a dial that fails says.

use std::net::UdpSocket;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{
    listen::Listener,
    testing::{SERVER_NAME, linked, tls},
};

fn dialer(gateway: SocketAddr, tls: Arc<rustls::ClientConfig>, choice: CarrierChoice) -> Dialer {
    Dialer { gateway, tls, server_name: SERVER_NAME, mark: None, choice, tasks: TaskTracker::new() }
}

#[tokio::test]
async fn udp_is_preferred_where_both_work() {
    let (link, arrived, _listener) = linked(CarrierChoice::Auto).await;
    assert_eq!(link.carrier, Carrier::Udp);
    drop(arrived);
}

#[tokio::test]
async fn tcp_is_used_where_udp_is_swallowed() {
    let (client, server) = tls();
    let tasks = TaskTracker::new();
    let mut listener = Listener::bind("127.0.0.1:0".parse().unwrap(), server, &[7; 64], &tasks).await.unwrap();
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = proxy.local_addr().unwrap();
    let _swallows = UdpSocket::bind(address).unwrap();
    let gateway = listener.local_addr();
    tasks.spawn(async move {
        let (mut near, _) = proxy.accept().await.unwrap();
        let mut far = TcpStream::connect(gateway).await.unwrap();
        let _ = copy_bidirectional(&mut near, &mut far).await;
    });
    let dialer = dialer(address, client, CarrierChoice::Auto);
    let (link, arrived) = tokio::join!(dialer.dial(), listener.accept());
    assert_eq!(link.unwrap().carrier, Carrier::Tcp);
    assert_eq!(arrived.unwrap().carrier, Carrier::Tcp);
}

#[tokio::test]
async fn a_closed_port_is_told_at_once() {
    let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for choice in [CarrierChoice::Auto, CarrierChoice::Udp, CarrierChoice::Tcp] {
        let error = dialer(address, tls().0, choice).dial().await.unwrap_err();
        assert!(matches!(error, DialError::Refused { .. }), "{choice:?}: {error}");
    }
}

/// A TCP server that reads a little, answers with `answer`, and hangs up.
async fn stranger(answer: &'static [u8], tasks: &TaskTracker) -> SocketAddr {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    tasks.spawn(async move {
        let (mut stream, _) = server.accept().await.unwrap();
        let _ = stream.read(&mut [0; 64]).await;
        let _ = stream.write_all(answer).await;
    });
    address
}

#[tokio::test]
async fn a_server_of_something_else_is_told_apart() {
    let tasks = TaskTracker::new();
    let address = stranger(b"HTTP/1.1 400 Bad Request\r\n\r\n", &tasks).await;
    let error = dialer(address, tls().0, CarrierChoice::Auto).dial().await.unwrap_err();
    assert!(matches!(error, DialError::NotAGateway { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_hangs_up_without_a_word_may_be_a_gateway_that_ends() {
    let tasks = TaskTracker::new();
    let address = stranger(b"", &tasks).await;
    let error = dialer(address, tls().0, CarrierChoice::Tcp).dial().await.unwrap_err();
    assert!(matches!(error, DialError::HungUp { .. }), "{error:?}");
}

#[tokio::test]
async fn a_link_whose_tcp_connection_breaks_is_closed_on_both_sides() {
    let (client, server) = tls();
    let tasks = TaskTracker::new();
    let mut listener = Listener::bind("127.0.0.1:0".parse().unwrap(), server, &[7; 64], &tasks).await.unwrap();
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = proxy.local_addr().unwrap();
    let gateway = listener.local_addr();
    let proxying = tasks.spawn(async move {
        let (mut near, _) = proxy.accept().await.unwrap();
        let mut far = TcpStream::connect(gateway).await.unwrap();
        let _ = copy_bidirectional(&mut near, &mut far).await;
    });
    let dialer = dialer(address, client, CarrierChoice::Tcp);
    let (link, arrived) = tokio::join!(dialer.dial(), listener.accept());
    let (link, arrived) = (link.unwrap(), arrived.unwrap());
    proxying.abort();
    let both = async { tokio::join!(link.connection.closed(), arrived.connection.closed()) };
    timeout(Duration::from_secs(5), both).await.expect("long before the idle timeout");
}

#[tokio::test]
async fn another_authority_is_told() {
    let (_, server) = tls();
    let tasks = TaskTracker::new();
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), server, &[7; 64], &tasks).await.unwrap();
    let error = dialer(listener.local_addr(), tls().0, CarrierChoice::Auto).dial().await.unwrap_err();
    assert!(matches!(error, DialError::Handshake { .. }), "{error}");
}
