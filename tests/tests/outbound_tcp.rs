//! TCP from the host to the cluster: what `connect` says, half-close and reset in both directions, and whole transfers.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Shutdown, TcpStream},
    thread,
    time::{Duration, Instant},
};

use cli::demo::plan;
use tests::{
    lab::Lab,
    sockets::{accept, dial, dial_error, dial_within, listen, receive_pattern, reset, send_pattern},
};

/// "As fast as the dial", with what a machine busy with other tests adds.
const AT_ONCE: Duration = Duration::from_millis(500);
/// More than every buffer on the way.
const LARGE_BYTES: u64 = 64 << 20;

/// A connection from the host, and its other end at a server of the test's own in the cluster.
fn pair(lab: &Lab, address: IpAddr) -> (TcpStream, TcpStream) {
    let listener = listen(&lab.cluster, address, 0);
    let port = listener.local_addr().expect("an address").port();
    let near = dial(&lab.host, address, port).expect("a connection");
    (near, accept(&listener))
}

/// Both families of an address nobody else uses.
fn pairs(lab: &Lab) -> [(TcpStream, TcpStream); 2] {
    plan::SPARE.both().map(|address| pair(lab, address))
}

fn answer_of_the_sink(mut stream: TcpStream) -> String {
    stream.shutdown(Shutdown::Write).expect("half-closed");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn a_closed_port_is_refused_as_fast_as_the_dial() {
    let (lab, _gateway) = Lab::joined();
    for address in plan::WEB.both() {
        let (error, after) = dial_error(&lab.host, address, plan::CLOSED_PORT);
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{address}: {error}");
        assert!(after < AT_ONCE, "{address}: {after:?}");
    }
}

#[test]
fn a_filtered_port_is_silent_and_never_accepted() {
    let (lab, _gateway) = Lab::joined();
    for address in plan::WEB.both() {
        let connected = dial_within(&lab.host, address, plan::FILTERED_PORT, Duration::from_secs(3));
        assert_eq!(connected.expect_err("nobody answers").kind(), ErrorKind::TimedOut, "{address}");
    }
    let connected = dial_within(&lab.host, plan::BLACK_HOLE.v4.into(), 80, Duration::from_secs(3));
    assert_eq!(connected.expect_err("nobody answers").kind(), ErrorKind::TimedOut);
}

#[test]
fn an_address_without_a_route_says_so() {
    let (lab, _gateway) = Lab::joined();
    for address in [plan::UNREACHABLE, plan::UNROUTED].into_iter().flat_map(plan::Dual::both) {
        let (error, after) = dial_error(&lab.host, address, 80);
        let kinds = [ErrorKind::HostUnreachable, ErrorKind::NetworkUnreachable];
        assert!(kinds.contains(&error.kind()), "{address}: {error}");
        assert!(after < AT_ONCE, "{address}: {after:?}");
    }
    let (error, _) = dial_error(&lab.host, plan::ABSENT_POD.v4.into(), 80);
    assert_eq!(error.kind(), ErrorKind::HostUnreachable);
}

#[test]
fn a_prohibited_address_is_neither_accepted_nor_silent() {
    let (lab, _gateway) = Lab::joined();
    for address in plan::PROHIBITED.both() {
        let (error, after) = dial_error(&lab.host, address, 80);
        let kinds = [ErrorKind::HostUnreachable, ErrorKind::NetworkUnreachable, ErrorKind::PermissionDenied];
        assert!(kinds.contains(&error.kind()), "{address}: {error}");
        assert!(after < AT_ONCE, "{address}: {after:?}");
    }
}

#[test]
fn a_service_hears_the_end_and_still_answers() {
    let (lab, _gateway) = Lab::joined();
    for address in plan::ECHO.both() {
        let mut stream = dial(&lab.host, address, plan::SINK_PORT).expect("a connection");
        send_pattern(&mut stream, 3_000_000).expect("sent");
        assert_eq!(answer_of_the_sink(stream), "3000000 intact\n");
    }
}

#[test]
fn the_host_hears_the_end_and_still_sends() {
    let (lab, _gateway) = Lab::joined();
    for (mut near, mut far) in pairs(&lab) {
        let service = thread::spawn(move || {
            send_pattern(&mut far, 3_000_000).expect("sent");
            far.shutdown(Shutdown::Write).expect("half-closed");
            receive_pattern(&mut far).expect("received").report()
        });
        assert_eq!(receive_pattern(&mut near).expect("received").report(), "3000000 intact");
        send_pattern(&mut near, 3_200_000).expect("sent");
        drop(near);
        assert_eq!(service.join().expect("no panic"), "3200000 intact");
    }
}

#[test]
fn a_connection_without_a_byte_ends_in_order() {
    let (lab, _gateway) = Lab::joined();
    let stream = dial(&lab.host, plan::ECHO.v4.into(), plan::SINK_PORT).expect("a connection");
    assert_eq!(answer_of_the_sink(stream), "0 intact\n");
}

#[test]
fn a_reset_by_the_service_reaches_the_host() {
    let (lab, _gateway) = Lab::joined();
    for (mut near, mut far) in pairs(&lab) {
        near.write_all(b"request").expect("sent");
        far.read_exact(&mut [0; 7]).expect("the request");
        reset(far);
        let error = near.read(&mut [0; 16]).expect_err("a reset is no end");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn a_reset_by_the_host_reaches_an_idle_and_a_writing_service() {
    let (lab, _gateway) = Lab::joined();
    for (near, mut far) in pairs(&lab) {
        reset(near);
        let error = far.read(&mut [0; 16]).expect_err("a reset is no end");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    for (mut near, mut far) in pairs(&lab) {
        let writing = thread::spawn(move || send_pattern(&mut far, u64::MAX));
        near.read_exact(&mut [0; 100_000]).expect("the first bytes");
        reset(near);
        let error = writing.join().expect("no panic").expect_err("writing ends with the reset");
        assert!([ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind()), "{error}");
    }
}

#[test]
fn one_byte_writes_arrive_one_by_one() {
    let (lab, _gateway) = Lab::joined();
    let mut stream = dial(&lab.host, plan::ECHO.v4.into(), plan::ECHO_PORT).expect("a connection");
    let mut answer = [0];
    for byte in 0..=255_u8 {
        stream.write_all(&[byte]).expect("sent");
        stream.read_exact(&mut answer).expect("echoed");
        assert_eq!(answer, [byte]);
    }
}

#[test]
fn many_one_byte_writes_arrive_in_order() {
    let (lab, _gateway) = Lab::joined();
    let mut stream = dial(&lab.host, plan::ECHO.v4.into(), plan::SINK_PORT).expect("a connection");
    for offset in 0..64 * 1024 {
        stream.write_all(&cli::demo::pattern::slice(offset, 1)).expect("sent");
    }
    assert_eq!(answer_of_the_sink(stream), "65536 intact\n");
}

#[test]
fn both_directions_of_a_connection_are_full_at_once() {
    let (lab, _gateway) = Lab::joined();
    let (near, far) = pair(&lab, plan::SPARE.v4.into());
    let both_ways = |stream: TcpStream| {
        let mut reader = stream.try_clone().expect("a second handle");
        let receiving = thread::spawn(move || receive_pattern(&mut reader).expect("received").report());
        send_pattern(&mut &stream, LARGE_BYTES).expect("sent");
        stream.shutdown(Shutdown::Write).expect("half-closed");
        receiving
    };
    let at_far = thread::spawn(move || both_ways(far).join().expect("no panic"));
    assert_eq!(both_ways(near).join().expect("no panic"), format!("{LARGE_BYTES} intact"));
    assert_eq!(at_far.join().expect("no panic"), format!("{LARGE_BYTES} intact"));
}

#[test]
fn a_gibibyte_each_way_is_intact() {
    let (lab, _gateway) = Lab::joined();
    let bytes = 1_u64 << 30;
    let began = Instant::now();
    let mut stream = dial(&lab.host, plan::ECHO.v4.into(), plan::SINK_PORT).expect("a connection");
    send_pattern(&mut stream, bytes).expect("sent");
    assert_eq!(answer_of_the_sink(stream), format!("{bytes} intact\n"));
    let up = began.elapsed();

    let began = Instant::now();
    let (mut near, mut far) = pair(&lab, plan::SPARE.v6.into());
    let sending = thread::spawn(move || send_pattern(&mut far, bytes));
    assert_eq!(receive_pattern(&mut near).expect("received").report(), format!("{bytes} intact"));
    sending.join().expect("no panic").expect("sent");
    println!("1 GiB up in {up:.1?}, down in {:.1?}", began.elapsed());
}

#[test]
fn a_thousand_connections_are_open_at_once_and_each_echoes() {
    let (lab, _gateway) = Lab::joined();
    let address = plan::ECHO.v4.into();
    let mut streams: Vec<TcpStream> =
        (0..1_000).map(|_| dial(&lab.host, address, plan::ECHO_PORT).expect("a connection")).collect();
    for round in 0..2_u32 {
        for (number, stream) in streams.iter_mut().enumerate() {
            stream.write_all(format!("{round:04}{number:04}").as_bytes()).expect("sent");
        }
        for (number, stream) in streams.iter_mut().enumerate() {
            let mut echo = [0; 8];
            stream.read_exact(&mut echo).expect("echoed");
            assert_eq!(echo, format!("{round:04}{number:04}").as_bytes());
        }
    }
}
