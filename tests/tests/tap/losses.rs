//! What a tap could not copy is said, exactly.

use std::{
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use cli::demo::pattern;
use link::{mirrored::FrameKind, rules::RuleProtocol};
use nix::sys::signal::Signal;
use tests::{
    sockets::{PATIENCE, accept, dial, listen, receive_pattern, send_pattern, udp},
    tap::{Tap, Target, ip, port},
    wait,
};

const PORT: u16 = 8_080;

/// Sends the pattern for as long as `go_on`; how much, and the connection, which is open.
fn send_while(mut stream: TcpStream, go_on: &AtomicBool) -> (u64, TcpStream) {
    let mut sent = 0;
    while go_on.load(Ordering::Relaxed) {
        let chunk = pattern::slice(sent, 256 << 10);
        std::io::Write::write_all(&mut stream, &chunk).expect("the target reads");
        sent += chunk.len() as u64;
    }
    (sent, stream)
}

fn pause(pause: Duration) {
    let until = Instant::now() + pause;
    while Instant::now() < until {
        thread::park_timeout(pause);
    }
}

#[test]
fn what_passes_while_the_tap_is_stopped_is_a_gap_of_the_right_length() {
    under_load(|tap| {
        tap.signal(Signal::SIGSTOP);
        pause(Duration::from_secs(5));
        tap.signal(Signal::SIGCONT);
    });
}

#[test]
fn what_passes_while_the_gateway_takes_nothing_is_a_gap_of_the_right_length() {
    under_load(|tap| {
        let taken = tap.take_nothing();
        pause(Duration::from_secs(3));
        drop(taken);
    });
}

#[test]
fn each_of_many_losses_is_told() {
    under_load(|tap| {
        for _ in 0..40 {
            tap.signal(Signal::SIGSTOP);
            pause(Duration::from_millis(60));
            tap.signal(Signal::SIGCONT);
            pause(Duration::from_millis(15));
        }
    });
}

/// Three connections at full speed, and something that holds the tap up. When they rest, what was copied and what is missing are all that was
/// sent, although they stay open and nothing tells the tap so but the target's sockets.
#[track_caller]
fn under_load(hold_up: impl FnOnce(&Tap)) {
    let target = Target::new();
    let mut tap = Tap::start(&target);
    tap.apply(&[port(PORT, RuleProtocol::Tcp)]);
    let listener = listen(&target.target, ip(Target::ADDRESSES[0]), PORT);
    let go_on = Arc::new(AtomicBool::new(true));
    let flows: Vec<_> = (0..3)
        .map(|_| {
            let near = dial(&target.client, ip(Target::ADDRESSES[0]), PORT).expect("a connection");
            let client = near.local_addr().expect("an address");
            let mut far = accept(&listener);
            let flag = Arc::clone(&go_on);
            let sender = thread::spawn(move || send_while(near, &flag));
            let receiver = thread::spawn(move || receive_pattern(&mut far).expect("read to its end"));
            (client, sender, receiver)
        })
        .collect();
    pause(Duration::from_millis(300));
    hold_up(&tap);
    pause(Duration::from_millis(500));
    go_on.store(false, Ordering::Relaxed);
    for (client, sender, receiver) in flows {
        let (sent, near) = sender.join().expect("no panic");
        tap.wait("all of it is copied or missing", |copies| {
            let flow = copies.of(client)?;
            (flow.bytes + flow.missing() == sent).then_some(())
        });
        drop(near);
        let received = receiver.join().expect("no panic");
        assert_eq!((received.bytes(), received.first_difference()), (sent, None), "the target itself");
        let copied = tap.ended(client);
        assert_eq!((copied.bytes + copied.missing, copied.end), (sent, FrameKind::Finished), "{copied:?}");
        assert!(copied.missing > 0 && copied.is_pattern, "{copied:?}");
    }
    assert!(tap.stats().ring_drops > 0);
}

#[test]
fn a_gateway_that_ends_while_it_takes_nothing_ends_the_tap() {
    let target = Target::new();
    let mut tap = Tap::start(&target);
    tap.apply(&[port(PORT, RuleProtocol::Tcp)]);
    let listener = listen(&target.target, ip(Target::ADDRESSES[0]), PORT);
    let mut near = dial(&target.client, ip(Target::ADDRESSES[0]), PORT).expect("a connection");
    let mut far = accept(&listener);
    let taken = tap.take_nothing();
    let receiver = thread::spawn(move || receive_pattern(&mut far).expect("read to its end"));
    // Far more than the stream and the rings have room for: the tap waits for its gateway, and the target for nobody.
    let bytes = 200 << 20;
    send_pattern(&mut near, bytes).expect("sent");
    drop(near);
    assert_eq!(receiver.join().expect("no panic").bytes(), bytes);
    tap.close();
    drop(taken);
    assert_eq!(tap.exit(Duration::from_secs(5)).code(), Some(0));
}

#[test]
fn a_connection_that_ended_while_the_tap_was_stopped_ends_and_one_that_idles_gets_its_gap() {
    let target = Target::new();
    let mut tap = Tap::start(&target);
    tap.apply(&[port(PORT, RuleProtocol::Tcp)]);
    let listener = listen(&target.target, ip(Target::ADDRESSES[0]), PORT);
    let connect = || {
        let near = dial(&target.client, ip(Target::ADDRESSES[0]), PORT).expect("a connection");
        let far = accept(&listener);
        (near.local_addr().expect("an address"), near, far)
    };
    let ((ends, mut near_ends, mut far_ends), (idles, mut near_idles, mut far_idles)) = (connect(), connect());
    let first = 1_000;
    for (near, far) in [(&mut near_ends, &mut far_ends), (&mut near_idles, &mut far_idles)] {
        exchange(near, far, first);
    }
    tap.wait("both are copied", |copies| {
        [ends, idles].iter().all(|client| copies.of(*client).is_some_and(|flow| flow.bytes == first)).then_some(())
    });
    tap.signal(Signal::SIGSTOP);
    let bytes = 400 << 20;
    exchange(&mut near_ends, &mut far_ends, bytes);
    exchange(&mut near_idles, &mut far_idles, bytes);
    drop((near_ends, far_ends));
    tap.signal(Signal::SIGCONT);
    tap.wait("the one that ended is gone", |copies| copies.of(ends)?.end.map(|_| ()));
    tap.wait("the one that idles has its gap", |copies| {
        let flow = copies.of(idles)?;
        (flow.bytes + flow.missing() == first + bytes && flow.missing() > 0).then_some(())
    });
    assert!(tap.copies().of(idles).expect("copied").end.is_none());
}

#[test]
fn connections_that_began_while_the_tap_was_stopped_are_missing_as_far_as_they_are() {
    let target = Target::new();
    let mut tap = Tap::start(&target);
    let listener = listen(&target.target, ip(Target::ADDRESSES[0]), PORT);
    let connect = |bytes| {
        let mut near = dial(&target.client, ip(Target::ADDRESSES[0]), PORT).expect("a connection");
        let mut far = accept(&listener);
        exchange(&mut near, &mut far, bytes);
        (near, far)
    };
    let before: Vec<_> = (0..3).map(|_| connect(1_000)).collect();
    tap.apply(&[port(PORT, RuleProtocol::Tcp), port(PORT, RuleProtocol::Udp)]);
    tap.signal(Signal::SIGSTOP);
    let filler = fill_rings(&target, &listener);
    let bytes = 300_000;
    let mut during: Vec<_> = (0..20).map(|_| connect(bytes)).collect();
    tap.signal(Signal::SIGCONT);
    let mut sent = FILL_BYTES + 20 * bytes;
    wait::until("those that rest are counted", PATIENCE, || counted(&tap) == sent);
    // Half of them go on, and of those before one.
    for (near, far) in during.iter_mut().take(10) {
        exchange(near, far, 5_000);
        sent += 5_000;
    }
    let mut before = before;
    let (near, far) = &mut before[0];
    exchange(near, far, 7);
    sent += 7;
    wait::until("and those that go on", PATIENCE, || counted(&tap) == sent);
    drop((before, during, filler));
    tap.stats();
    tap.stats();
    assert_eq!(counted(&tap), sent);
}

#[test]
fn connections_that_end_while_the_ring_loses_are_missing_as_far_as_they_are() {
    let target = Target::new();
    let mut tap = Tap::start(&target);
    let listener = listen(&target.target, ip(Target::ADDRESSES[0]), PORT);
    tap.apply(&[port(PORT, RuleProtocol::Tcp), port(PORT, RuleProtocol::Udp)]);
    tap.signal(Signal::SIGSTOP);
    let filler = fill_rings(&target, &listener);
    tap.signal(Signal::SIGCONT);
    wait::until("it knows of a loss", PATIENCE, || tap.stats().ring_drops > 0);
    let (mut sent, sizes) = (FILL_BYTES, [1, 700, 30_000, 900_000]);
    // Too short a stop for those that end to be too many for the kernel to tell of.
    for _ in 0..10 {
        tap.signal(Signal::SIGSTOP);
        for bytes in sizes.into_iter().cycle().take(20) {
            let mut near = dial(&target.client, ip(Target::ADDRESSES[0]), PORT).expect("a connection");
            let mut far = accept(&listener);
            exchange(&mut near, &mut far, bytes);
            sent += bytes;
        }
        let sender = udp(&target.client, ip(Target::ADDRESSES[0]), PORT);
        for _ in 0..9_000 {
            while sender.send(&[0; 100]).is_err() {}
        }
        for bytes in sizes {
            let mut near = dial(&target.client, ip(Target::ADDRESSES[0]), PORT).expect("a connection");
            let mut far = accept(&listener);
            exchange(&mut near, &mut far, bytes);
            sent += bytes;
        }
        tap.signal(Signal::SIGCONT);
    }
    drop(filler);
    wait::until(format!("{sent} bytes are counted, not {}", counted(&tap)), PATIENCE, || counted(&tap) == sent);
}

/// TCP bytes of which the tap told anything.
fn counted(tap: &Tap) -> u64 {
    let copies = tap.copies();
    let missed = copies.stats.0.ports.iter().map(|port| port.lost_bytes).sum::<u64>();
    let tcp = copies.flows.iter().filter(|flow| flow.opened.protocol == RuleProtocol::Tcp);
    missed + tcp.map(|flow| flow.bytes + flow.missing()).sum::<u64>()
}

const FILL_BYTES: u64 = 200 << 20;

/// Sends more than the rings hold: many bytes on one connection, and many short frames.
/// The connection is to stay open until its socket has been asked, since its end is lost.
fn fill_rings(target: &Target, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let mut near = dial(&target.client, ip(Target::ADDRESSES[0]), PORT).expect("a connection");
    let mut far = accept(listener);
    exchange(&mut near, &mut far, FILL_BYTES);
    let sender = udp(&target.client, ip(Target::ADDRESSES[0]), PORT);
    for _ in 0..12_000 {
        while sender.send(&[0; 100]).is_err() {}
    }
    (near, far)
}

fn exchange(near: &mut TcpStream, far: &mut TcpStream, bytes: u64) {
    thread::scope(|scope| {
        scope.spawn(|| send_pattern(near, bytes).expect("sent"));
        let mut rest = bytes;
        let mut buffer = vec![0; 256 << 10];
        while rest > 0 {
            rest -= std::io::Read::read(far, &mut buffer).expect("received") as u64;
        }
    });
}

#[test]
fn datagrams_that_the_ring_lost_are_said_to_be_missing() {
    let target = Target::new();
    let mut tap = Tap::start(&target);
    tap.apply(&[port(PORT, RuleProtocol::Tcp), port(PORT, RuleProtocol::Udp), port(PORT + 1, RuleProtocol::Udp)]);
    let sender = udp(&target.client, ip(Target::ADDRESSES[0]), PORT);
    let client = sender.local_addr().expect("an address");
    sender.send(b"first").expect("sent");
    tap.wait("the first", |copies| copies.of(client).map(|_| ()));
    tap.signal(Signal::SIGSTOP);
    // More than the ring has short slots. Nobody listens, so the kernel answers some of them.
    let sent = 20_000_u64;
    for _ in 0..sent {
        while sender.send(&pattern::slice(0, 200)).is_err() {}
    }
    tap.signal(Signal::SIGCONT);
    let stats = tap.stats();
    sender.send(b"last").or_else(|_| sender.send(b"last")).expect("sent");
    tap.wait("the last, behind a gap", |copies| copies.of(client).filter(|flow| flow.gaps.len() == 1).map(|_| ()));
    let lost: Vec<u64> = stats.ports.iter().map(|port| port.lost_datagrams).collect();
    assert_eq!(lost, [0, stats.ring_drops, stats.ring_drops], "for either of the two ports");
    let copied = tap.copies().of(client).expect("copied").datagrams.len() as u64;
    assert!(stats.ring_drops > 0 && copied + stats.ring_drops >= sent, "{copied} {stats:?}");
}
