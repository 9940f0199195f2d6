//! Peers that keep silent, and peers that come after the end.

use tokio::net::TcpStream;

use super::*;
use crate::{
    carrier::CarrierChoice,
    dial::{DialError, Dialer},
    testing::{SERVER_NAME, tls},
};

#[tokio::test]
async fn who_comes_after_the_end_is_refused_at_once_and_who_is_there_stays() {
    for choice in [CarrierChoice::Udp, CarrierChoice::Tcp] {
        let (client, server) = tls();
        let tasks = TaskTracker::new();
        let mut listener = Listener::bind("127.0.0.1:0".parse().unwrap(), server, &[7; 64], &tasks).await.unwrap();
        let gateway = listener.local_addr();
        let dialer = Dialer { gateway, tls: client, server_name: SERVER_NAME, mark: None, choice, tasks };
        let (link, arrived) = tokio::join!(dialer.dial(), listener.accept());
        let (link, arrived) = (link.unwrap(), arrived.unwrap());
        listener.stop();
        let late = timeout(Duration::from_secs(2), dialer.dial()).await.expect("an answer at once");
        // A TCP connection that the kernel took just before is closed.
        assert!(matches!(late, Err(DialError::Refused { .. } | DialError::HungUp { .. })), "{choice:?}: {late:?}");
        let mut stream = arrived.connection.open_uni().await.unwrap();
        stream.write_all(b"still here").await.unwrap();
        link.connection.accept_uni().await.unwrap();
    }
}

#[tokio::test]
async fn tcp_peers_that_keep_silent_do_not_keep_udp_out() {
    let (client, server) = tls();
    let tasks = TaskTracker::new();
    let mut listener = Listener::bind("127.0.0.1:0".parse().unwrap(), server, &[7; 64], &tasks).await.unwrap();
    let gateway = listener.local_addr();
    let mut silent = Vec::new();
    for _ in 0..MAX_HANDSHAKES {
        silent.push(TcpStream::connect(gateway).await.unwrap());
    }
    let dialer =
        Dialer { gateway, tls: client, server_name: SERVER_NAME, mark: None, choice: CarrierChoice::Udp, tasks };
    let link = dialer.dial().await.unwrap();
    assert_eq!(link.carrier, Carrier::Udp);
    assert_eq!(listener.accept().await.unwrap().carrier, Carrier::Udp);
    drop(silent);
}

/// With so many ports taken, one in forty that are free for TCP is not for UDP.
#[tokio::test]
async fn any_port_is_one_that_is_free_for_udp_as_well() {
    let any = "127.0.0.1:0".parse().unwrap();
    let _taken: Vec<_> = (0..700).map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let tasks = TaskTracker::new();
    for _ in 0..300 {
        let listener = Listener::bind(any, tls().1, &[7; 64], &tasks).await.unwrap();
        assert!(listener.endpoint.get().is_some(), "{}", listener.local_addr());
    }
}

#[tokio::test]
async fn a_udp_port_that_is_taken_is_taken_over_once_it_is_free() {
    let (client, server) = tls();
    let tasks = TaskTracker::new();
    let draining = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let gateway = draining.local_addr().unwrap();
    let mut listener = Listener::bind(gateway, server, &[7; 64], &tasks).await.unwrap();
    let dialer = |choice| {
        let (tls, tasks) = (Arc::clone(&client), tasks.clone());
        Dialer { gateway, tls, server_name: SERVER_NAME, mark: None, choice, tasks }
    };
    let (link, arrived) = (dialer(CarrierChoice::Auto), listener.accept());
    assert_eq!(tokio::join!(link.dial(), arrived).0.unwrap().carrier, Carrier::Tcp);
    drop(draining);
    let over_udp = dialer(CarrierChoice::Udp);
    let took_over = async { while over_udp.dial().await.is_err() {} };
    timeout(Duration::from_secs(10), took_over).await.expect("the port is free");
}
