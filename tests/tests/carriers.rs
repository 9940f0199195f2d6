//! What holds on `udp`, the carrier of the other suites, holds on `tcp`; and links that are worse than a LAN lose nothing.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::Duration,
};

use cli::demo::plan;
use tests::{
    emulator::Conditions,
    lab::Lab,
    process::Process,
    sockets::{accept, dial, dial_error, listen, receive_pattern, reset, send_pattern, udp},
};

fn over_tcp() -> (Lab, Process) {
    Lab::new().join_with(&["--carrier", "tcp"])
}

fn pair(lab: &Lab) -> (TcpStream, TcpStream) {
    let listener = listen(&lab.cluster, plan::SPARE.v4.into(), 0);
    let port = listener.local_addr().expect("an address").port();
    let near = dial(&lab.host, plan::SPARE.v4.into(), port).expect("a connection");
    (near, accept(&listener))
}

/// Both ends send and receive at once, finish in order, and compare.
fn exchange(lab: &Lab, bytes: u64) {
    let (near, far) = pair(lab);
    let sides = [near, far].map(|stream| {
        let mut reader = stream.try_clone().expect("a second handle");
        let receiving = thread::spawn(move || receive_pattern(&mut reader).expect("received").report());
        let sending = thread::spawn(move || {
            send_pattern(&mut &stream, bytes).expect("sent");
            stream.shutdown(Shutdown::Write).expect("half-closed");
        });
        (sending, receiving)
    });
    for (sending, receiving) in sides {
        sending.join().expect("no panic");
        assert_eq!(receiving.join().expect("no panic"), format!("{bytes} intact"));
    }
}

fn names_pings_and_datagrams_work(lab: &Lab) {
    assert!(lab.on_host("dig +short web.shop.svc.cluster.local").contains("10.96.0.20"));
    lab.on_host("ping -c 1 -W 5 10.96.0.20");
    let socket = udp(&lab.host, plan::ECHO.v4.into(), plan::ECHO_PORT);
    let mut answer = vec![0; 70_000];
    for length in [0, 1, 1_400, 8_000, 65_000] {
        let sent = vec![length as u8; length];
        socket.send(&sent).expect("sent");
        let received = socket.recv(&mut answer).unwrap_or_else(|error| panic!("{length}: {error}"));
        assert!(answer[..received] == sent, "{length}: {received} bytes");
    }
}

#[test]
fn the_tcp_carrier_carries_everything() {
    let (lab, _gateway) = over_tcp();
    names_pings_and_datagrams_work(&lab);
    exchange(&lab, 256 << 20);
}

#[test]
fn the_tcp_carrier_keeps_ends_and_resets() {
    let (lab, _gateway) = over_tcp();
    let (mut near, mut far) = pair(&lab);
    near.shutdown(Shutdown::Write).expect("half-closed");
    assert_eq!(far.read(&mut [0; 1]).expect("an orderly end"), 0);
    far.write_all(b"answer").expect("sent");
    near.read_exact(&mut [0; 6]).expect("the answer");

    let (mut near, far) = pair(&lab);
    reset(far);
    assert_eq!(near.read(&mut [0; 1]).expect_err("a reset").kind(), ErrorKind::ConnectionReset);
    let (near, mut far) = pair(&lab);
    reset(near);
    assert_eq!(far.read(&mut [0; 1]).expect_err("a reset").kind(), ErrorKind::ConnectionReset);

    let (error, _) = dial_error(&lab.host, plan::WEB.v4.into(), plan::CLOSED_PORT);
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_network_without_udp_is_crossed_over_tcp() {
    let conditions = Conditions { blocks_udp: true, ..Conditions::path(1_000_000_000, Duration::from_millis(10)) };
    let (lab, _gateway) = Lab::with_link(conditions).join();
    assert_eq!(lab.status().summary.link.carrier.as_deref(), Some("tcp"));
    names_pings_and_datagrams_work(&lab);
}

#[test]
fn a_network_with_udp_is_crossed_over_udp() {
    let (lab, _gateway) = Lab::with_link(Conditions::path(1_000_000_000, Duration::from_millis(10))).join();
    assert_eq!(lab.status().summary.link.carrier.as_deref(), Some("udp"));
}

#[test]
fn a_link_that_loses_doubles_and_reorders_changes_no_byte() {
    for carrier in ["udp", "tcp"] {
        let conditions = Conditions {
            loss: 0.02,
            duplicate: 0.02,
            reorder: 0.05,
            reorder_by: Duration::from_millis(3),
            ..Conditions::path(200_000_000, Duration::from_millis(20))
        };
        let (lab, _gateway) = Lab::with_link(conditions).join_with(&["--carrier", carrier]);
        exchange(&lab, 8 << 20);
        assert!(lab.on_host("curl -sS http://web.shop/").starts_with("web.shop greets"));
        let counters = lab.link().forward_counters();
        assert!(counters.lost > 0 && counters.duplicated > 0 && counters.reordered > 0, "{carrier}: {counters:?}");
    }
}

#[test]
fn a_narrow_link_serves_small_requests_beside_a_large_one() {
    let (lab, _gateway) = Lab::with_link(Conditions::path(20_000_000, Duration::from_millis(30))).join();
    let (mut near, mut far) = pair(&lab);
    thread::spawn(move || send_pattern(&mut far, 1 << 30));
    near.read_exact(&mut vec![0; 1 << 20]).expect("the large one is under way");
    let draining = thread::spawn(move || receive_pattern(&mut near).is_ok());
    for _ in 0..5 {
        let page = lab.on_host("curl -sS --max-time 5 http://web.shop/");
        assert!(page.starts_with("web.shop greets"));
    }
    drop((lab, draining));
}
