//! UDP from the host to the cluster.

use std::{
    io::ErrorKind,
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use cli::demo::plan;
use socket2::SockRef;
use tests::{lab::Lab, process, sockets::udp, wait};

/// Long enough for a datagram that comes to have come.
const SILENCE: Duration = Duration::from_secs(1);

#[test]
fn datagrams_of_every_size_echo_unchanged() {
    let (lab, _gateway) = Lab::joined();
    for address in plan::ECHO.both() {
        let socket = udp(&lab.host, address, plan::ECHO_PORT);
        let mut answer = vec![0; 70_000];
        for length in [0, 1, 1_200, 1_400, 1_472, 1_500, 8_000, 65_000] {
            let sent: Vec<u8> = (0..length).map(|index: usize| index as u8).collect();
            socket.send(&sent).unwrap_or_else(|error| panic!("{address} {length}: {error}"));
            let received = socket.recv(&mut answer).unwrap_or_else(|error| panic!("{address} {length}: {error}"));
            assert!(answer[..received] == sent, "{address} {length}: {received} bytes");
        }
    }
}

#[test]
fn twenty_thousand_small_datagrams_a_second_lose_none() {
    const A_SECOND: u32 = 20_000;
    const COUNT: u32 = 2 * A_SECOND;
    let (lab, _gateway) = Lab::joined();
    let sink = lab.cluster.run(|| UdpSocket::bind((plan::SPARE.v4, 0))).expect("bound");
    SockRef::from(&sink).set_recv_buffer_size(8 << 20).expect("set");
    sink.set_read_timeout(Some(SILENCE * 3)).expect("set");
    let port = sink.local_addr().expect("an address").port();
    let source = udp(&lab.host, plan::SPARE.v4.into(), port);

    let receiving = thread::spawn(move || {
        let mut seen = vec![false; COUNT as usize];
        let mut datagram = [0; 256];
        while let Ok(length) = sink.recv(&mut datagram) {
            assert_eq!(length, 200);
            let number = u32::from_be_bytes(datagram[..4].try_into().expect("four bytes"));
            assert!(!std::mem::replace(&mut seen[number as usize], true), "{number} came twice");
            if number == COUNT - 1 {
                break;
            }
        }
        seen.iter().filter(|seen| !**seen).count()
    });
    let began = Instant::now();
    let mut datagram = [0; 200];
    for number in 0..COUNT {
        while f64::from(number) > began.elapsed().as_secs_f64() * f64::from(A_SECOND) {
            std::hint::spin_loop();
        }
        datagram[..4].copy_from_slice(&number.to_be_bytes());
        source.send(&datagram).expect("sent");
    }
    assert_eq!(receiving.join().expect("no panic"), 0, "datagrams lost of {COUNT}");
}

#[test]
fn a_closed_port_is_refused() {
    let (lab, _gateway) = Lab::joined();
    for address in plan::WEB.both() {
        let socket = udp(&lab.host, address, plan::CLOSED_PORT);
        socket.send(b"anyone?").expect("sent");
        let error = socket.recv(&mut [0; 16]).expect_err("nobody is there");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{address}: {error}");
    }
}

#[test]
fn a_filtered_port_is_silent() {
    let (lab, _gateway) = Lab::joined();
    let socket = udp(&lab.host, plan::ECHO.v4.into(), plan::FILTERED_PORT);
    socket.set_read_timeout(Some(SILENCE)).expect("set");
    socket.send(b"anyone?").expect("sent");
    assert_eq!(socket.recv(&mut [0; 16]).expect_err("nobody answers").kind(), ErrorKind::WouldBlock);
}

#[test]
fn flows_to_one_service_are_kept_apart() {
    let (lab, _gateway) = Lab::joined();
    let sockets: Vec<UdpSocket> = (0..200).map(|_| udp(&lab.host, plan::ECHO.v4.into(), plan::ECHO_PORT)).collect();
    for (number, socket) in sockets.iter().enumerate() {
        socket.send(&number.to_be_bytes()).expect("sent");
    }
    for (number, socket) in sockets.iter().enumerate() {
        let mut answer = [0; 64];
        let length = socket.recv(&mut answer).expect("an echo");
        assert_eq!(answer[..length], number.to_be_bytes());
    }
}

#[test]
fn one_socket_talks_to_many_services() {
    let (lab, _gateway) = Lab::joined();
    let socket = lab.host.run(|| UdpSocket::bind("0.0.0.0:0")).expect("a socket");
    socket.set_read_timeout(Some(SILENCE * 5)).expect("set");
    let services = [plan::ECHO.v4, plan::PEERS[0].v4, plan::PEERS[1].v4, plan::PEERS[2].v4];
    for service in services {
        socket.send_to(service.to_string().as_bytes(), (service, plan::ECHO_PORT)).expect("sent");
    }
    for _ in services {
        let mut answer = [0; 64];
        let (length, from) = socket.recv_from(&mut answer).expect("an echo");
        assert_eq!(from.port(), plan::ECHO_PORT);
        assert_eq!(answer[..length], *from.ip().to_string().as_bytes());
    }
}

#[test]
fn a_service_that_speaks_late_still_reaches_the_host() {
    let (lab, _gateway) = Lab::joined();
    let service = lab.cluster.run(|| UdpSocket::bind((plan::SPARE.v6, 0))).expect("bound");
    let port = service.local_addr().expect("an address").port();
    let socket = udp(&lab.host, plan::SPARE.v6.into(), port);
    socket.send(b"subscribe").expect("sent");
    let (_, from) = service.recv_from(&mut [0; 16]).expect("received");
    for number in 0..10_u8 {
        service.send_to(&[number], from).expect("sent");
        let mut answer = [0; 1];
        socket.recv(&mut answer).expect("received");
        assert_eq!(answer, [number]);
    }
}

#[test]
fn datagrams_that_come_in_fragments_are_put_together() {
    let (lab, _gateway) = Lab::joined();
    // A narrower route for one address in the table that leads to the cluster, so that the host's kernel fragments.
    for (family, address) in ["-4", "-6"].into_iter().zip(plan::ECHO.both()) {
        lab.on_host(&format!(
            "ip {family} route show table all | grep -E '^(10.96.0.0/16|fd00:10:96::/112) ' | head -1 | while read -r _ rest; do \
             ip {family} route add {address} $rest mtu lock 1400; done"
        ));
        let route = lab.on_host(&format!("ip {family} route get {address}"));
        assert!(route.contains("mtu lock 1400"), "{route}");
        let socket = udp(&lab.host, address, plan::ECHO_PORT);
        let mut answer = vec![0; 70_000];
        for length in [1_000, 1_373, 3_000, 8_000, 65_000] {
            let sent: Vec<u8> = (0..length).map(|index: usize| (index / 7) as u8).collect();
            socket.send(&sent).unwrap_or_else(|error| panic!("{address} {length}: {error}"));
            let received = socket.recv(&mut answer).unwrap_or_else(|error| panic!("{address} {length}: {error}"));
            assert!(answer[..received] == sent, "{address} {length}: {received} bytes");
        }
    }
}

#[test]
fn the_cluster_nameserver_can_be_asked_by_its_address() {
    let (lab, _gateway) = Lab::joined();
    let asked = format!("dig +short @{} web.shop.svc.cluster.local", plan::CLUSTER_DNS.v4);
    assert_eq!(lab.on_host(&asked), "10.96.0.20\n");
    wait::until("the question is in the log", SILENCE, || !lab.cluster_questions.questions().is_empty());
    process::run(lab.host.command("dig").args(["+tcp", "+short", "@fd00:10:96::10", "web.shop.svc.cluster.local"]));
}
