//! What a tap could not copy is said, exactly.

use std::{net::TcpStream, thread};

use cli::demo::pattern;
use link::rules::RuleProtocol;
use nix::sys::signal::Signal;
use tests::{
    sockets::{accept, dial, listen, send_pattern, udp},
    tap::{Tap, Target, ip, port},
};

const PORT: u16 = 8_080;

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
    let fill = |near: &mut TcpStream, far: &mut TcpStream, bytes: u64| {
        thread::scope(|scope| {
            scope.spawn(|| send_pattern(near, bytes).expect("sent"));
            let mut rest = bytes;
            let mut buffer = vec![0; 256 << 10];
            while rest > 0 {
                rest -= std::io::Read::read(far, &mut buffer).expect("received") as u64;
            }
        });
    };
    let first = 1_000;
    for (near, far) in [(&mut near_ends, &mut far_ends), (&mut near_idles, &mut far_idles)] {
        fill(near, far, first);
    }
    tap.wait("both are copied", |copies| {
        [ends, idles].iter().all(|client| copies.of(*client).is_some_and(|flow| flow.bytes == first)).then_some(())
    });
    tap.signal(Signal::SIGSTOP);
    let bytes = 400 << 20;
    fill(&mut near_ends, &mut far_ends, bytes);
    fill(&mut near_idles, &mut far_idles, bytes);
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
fn datagrams_that_the_ring_lost_are_said_to_be_missing() {
    let target = Target::new();
    let mut tap = Tap::start(&target);
    tap.apply(&[port(PORT, RuleProtocol::Udp)]);
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
    assert_eq!(stats.ports[0].lost_datagrams, stats.ring_drops);
    let copied = tap.copies().of(client).expect("copied").datagrams.len() as u64;
    assert!(stats.ring_drops > 0 && copied + stats.ring_drops >= sent, "{copied} {stats:?}");
}
