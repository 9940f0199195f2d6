//! What happens to flows, names and the machine when something breaks: SIGKILL of either side, a blackout between them, a
//! reader that stops.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::{Duration, Instant},
};

use cli::demo::{pattern, plan};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tests::{
    emulator::Conditions,
    lab::{Lab, PATIENCE},
    observe::{NetworkState, Usage, is_alive},
    process,
    sockets::{accept, dial, echo_stream, echoes, listen, receive_pattern},
    wait,
};

#[test]
fn a_killed_session_leaves_the_machine_as_it_was() {
    let lab = Lab::new();
    let _gateway = lab.start_gateway();
    let before = NetworkState::of(&lab.host);
    for _ in 0..3 {
        lab.connect();
        assert!(lab.cluster_names_resolve());
        let pid = lab.status().summary.pid;
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).expect("killed");
        wait::until("the session is gone", PATIENCE, || !is_alive(pid));
        // The kernel takes the device down behind the process.
        wait::until("ordinary names resolve", PATIENCE, || lab.ordinary_names_resolve());
        assert!(!lab.cluster_names_resolve());
        let left = before.difference(&NetworkState::of(&lab.host));
        assert!(harmless(&left), "{left}");
        let asked = process::output(&mut lab.adit(&["status"]));
        let told = String::from_utf8_lossy(&asked.stderr).into_owned();
        assert!(told.contains(&format!("killed or crashed (pid {pid})")), "{told}");
    }
    lab.connect();
    assert!(lab.cluster_names_resolve());
    process::run(&mut lab.adit(&["quit"]));
    assert_eq!(before.difference(&NetworkState::of(&lab.host)), "");
}

#[test]
fn a_session_that_ends_by_itself_says_why_until_it_is_read() {
    let lab = Lab::new();
    let _gateway = lab.start_gateway();
    let before = NetworkState::of(&lab.host);
    lab.connect();
    let summary = lab.status().summary;
    lab.on_host(&format!("ip link del {}", summary.network.device.expect("a device")));
    wait::until("the session is gone", PATIENCE, || !is_alive(summary.pid));
    assert_eq!(before.difference(&NetworkState::of(&lab.host)), "");
    let ask = |arguments: &[&str]| {
        let output = process::output(&mut lab.adit(arguments));
        assert_eq!(output.status.code(), Some(3));
        (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (_, told) = ask(&["status"]);
    assert!(told.contains("TUN device") && told.contains("ago") && told.contains("session.log"), "{told}");
    let (json, _) = ask(&["status", "-o", "json"]);
    assert!(json.contains(r#""state":"not_connected""#) && json.contains("ended_unix"), "{json}");
    let (_, told) = ask(&["quit"]);
    assert!(told.contains("TUN device"), "{told}");
    let (_, told) = ask(&["status"]);
    assert!(!told.contains("TUN device"), "{told}");
}

/// Rules that look up a table which died with the device change nothing; the next session or `adit quit` takes them.
fn harmless(difference: &str) -> bool {
    difference.lines().all(|line| line.starts_with("+ ip -4 rule") || line.starts_with("+ ip -6 rule"))
}

#[test]
fn a_killed_gateway_resets_open_flows_and_is_found_again() {
    let lab = Lab::new();
    let gateway = lab.start_gateway();
    lab.connect();
    let mut stream = echo_stream(&lab.host);
    assert!(echoes(&mut stream));
    gateway.kill();
    let killed = Instant::now();
    let error = stream.read(&mut [0; 16]).expect_err("not an orderly end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
    assert!(lab.ordinary_names_resolve());

    let _gateway = lab.start_gateway();
    wait::until("a new flow works", Duration::from_secs(2), || {
        dial(&lab.host, plan::ECHO.v4.into(), plan::ECHO_PORT).is_ok_and(|mut stream| echoes(&mut stream))
    });
    assert!(lab.cluster_names_resolve());
    assert!(lab.status().summary.link.reconnects >= 1);
}

#[test]
fn a_killed_gateway_resets_a_flow_whose_program_does_not_read() {
    let lab = Lab::new();
    let gateway = lab.start_gateway();
    lab.connect();
    let mut stream = dial(&lab.host, plan::WEB.v4.into(), plan::HTTP_PORT).expect("a connection");
    stream.write_all(b"GET /bytes/1000000000 HTTP/1.1\r\nhost: web\r\n\r\n").expect("a request");
    let arrived = || lab.status().traffic.bytes_from_cluster;
    let mut before = arrived();
    wait::until("nothing more fits anywhere", PATIENCE, || {
        thread::sleep(Duration::from_millis(200));
        let now = arrived();
        std::mem::replace(&mut before, now) == now && now > 0
    });
    gateway.kill();
    let error =
        wait::until_some("the flow is reset", Duration::from_secs(8), || stream.take_error().expect("a socket"));
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
}

#[test]
fn a_blackout_of_ten_seconds_loses_nothing() {
    let lab = Lab::with_link(Conditions::path(1_000_000_000, Duration::from_millis(10)));
    let _gateway = lab.start_gateway();
    lab.connect();
    let mut idle = echo_stream(&lab.host);
    assert!(echoes(&mut idle));
    // A flow that keeps sending: it stalls when its buffers are full, and goes on when the link does.
    let mut busy = dial(&lab.host, plan::ECHO.v4.into(), plan::SINK_PORT).expect("a connection");
    busy.set_write_timeout(Some(Duration::from_secs(60))).expect("set");
    let sending = thread::spawn(move || {
        let mut sent = 0;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(14) {
            let chunk = pattern::slice(sent, 64 * 1024);
            busy.write_all(&chunk).expect("sent");
            sent += chunk.len() as u64;
        }
        busy.shutdown(Shutdown::Write).expect("half-closed");
        let mut answer = String::new();
        busy.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
        busy.read_to_string(&mut answer).expect("an answer");
        (sent, answer)
    });

    lab.link().blackout(true);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        let asked = Instant::now();
        assert!(lab.ordinary_names_resolve());
        // A pause between questions, not a wait: the blackout has its length.
        thread::sleep(Duration::from_millis(250).saturating_sub(asked.elapsed()));
    }
    lab.link().blackout(false);
    idle.set_read_timeout(Some(Duration::from_secs(15))).expect("set");
    assert!(echoes(&mut idle), "the idle flow goes on");
    let (sent, answer) = sending.join().expect("no panic");
    assert_eq!(answer, format!("{sent} intact\n"));
    assert!(lab.cluster_names_resolve());
}

#[test]
fn a_reader_that_stops_for_a_minute_costs_little_and_loses_nothing() {
    const BYTES: u64 = 256 << 20;
    const STOPPED: Duration = Duration::from_secs(60);
    let lab = Lab::new();
    let gateway = lab.start_gateway();
    lab.connect();
    let session = lab.status().summary.pid;
    let resident = |pid| Usage::of(pid).expect("it runs").resident_bytes;
    let before = [resident(session), resident(gateway.id())];

    // One flow whose host stops reading, and one whose service does.
    let listener = listen(&lab.cluster, plan::SPARE.v4.into(), 0);
    let port = listener.local_addr().expect("an address").port();
    let flow = || (dial(&lab.host, plan::SPARE.v4.into(), port).expect("a connection"), accept(&listener));
    let ((mut down_near, down_far), (up_near, mut up_far)) = (flow(), flow());
    let patiently = |mut stream: TcpStream| {
        stream.set_write_timeout(Some(STOPPED * 3)).expect("set");
        thread::spawn(move || tests::sockets::send_pattern(&mut stream, BYTES))
    };
    let sending = [patiently(down_far), patiently(up_near)];
    let began = Instant::now();
    while began.elapsed() < STOPPED {
        for (pid, before) in [session, gateway.id()].into_iter().zip(before) {
            let grown = resident(pid).saturating_sub(before);
            assert!(grown < 64 << 20, "{grown} bytes more in process {pid}");
        }
        // Other flows do not stop with them.
        let mut other = echo_stream(&lab.host);
        assert!(echoes(&mut other));
        thread::sleep(Duration::from_millis(500));
    }
    let going_on = thread::spawn(move || receive_pattern(&mut down_near).expect("received").report());
    assert_eq!(receive_pattern(&mut up_far).expect("received").report(), format!("{BYTES} intact"));
    assert_eq!(going_on.join().expect("no panic"), format!("{BYTES} intact"));
    for sending in sending {
        sending.join().expect("no panic").expect("sent");
    }
}
