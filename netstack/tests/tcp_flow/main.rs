//! One TCP flow against a client, under a virtual clock: handshake, both ways of ending, windows.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic; clippy allows it in `#[test]` functions only")]

mod pair;

use std::time::Duration;

use netstack::{moment::Moment, ring::Rings};
use pair::{Pair, Setup, drain, fill, pattern};
use smoltcp::socket::tcp::State;

#[test]
fn a_held_syn_stays_silent_until_the_dial_succeeds() {
    for ipv6 in [false, true] {
        let mut pair = Pair::new(Setup { ipv6, ..Setup::default() });
        pair.run_until(|pair| pair.has_flow());
        pair.run_to(pair.now + Duration::from_secs(20));
        assert!(pair.flow().is_held());
        assert_eq!(pair.emitted, 0, "the client sent its SYN again several times");
        let now = pair.now;
        assert_eq!(pair.flow().poll_at(now), None);
        pair.flow().accept();
        pair.run_until(|pair| pair.client.socket().state() == State::Established);
    }
}

#[test]
fn a_refused_dial_resets_the_client_at_once() {
    let mut pair = Pair::new(Setup::default());
    pair.run_until(|pair| pair.has_flow());
    pair.flow().refuse();
    let start = pair.now;
    pair.run_until(|pair| pair.client.socket().state() == State::Closed);
    assert!(pair.now.since(start) < Duration::from_millis(10));
    assert!(pair.flow().is_closed());
}

#[test]
fn bytes_arrive_unchanged_both_ways() {
    for ipv6 in [false, true] {
        let mut pair = Pair::established(Setup { ipv6, ..Setup::default() });
        let (up, down) = (pattern(3_000_000, 1), pattern(2_000_000, 2));
        exchange(&mut pair, &up, &down);
        assert!(pair.flow().is_closed() && !pair.flow().is_reset());
    }
}

/// Sends `up` and `down`, finishes both ways, and compares.
fn exchange(pair: &mut Pair, up: &[u8], down: &[u8]) {
    let (mut sent_up, mut sent_down) = (0, 0);
    let (mut got_up, mut got_down) = (Vec::new(), Vec::new());
    let mut finished = false;
    pair.run_until(|pair| {
        sent_down += fill(pair.flow(), &down[sent_down..]);
        drain(pair.flow(), &mut got_up, usize::MAX / 2);
        if sent_down == down.len() && !finished {
            pair.flow().finish();
            finished = true;
        }
        let socket = pair.client.socket();
        if socket.can_send() {
            sent_up += socket.send_slice(&up[sent_up..]).unwrap();
        }
        while socket.can_recv() {
            socket.recv(|bytes| (bytes.len(), got_down.extend_from_slice(bytes))).unwrap();
        }
        if sent_up == up.len() {
            socket.close();
        }
        let over = !matches!(
            pair.client.socket().state(),
            State::Established | State::CloseWait | State::LastAck | State::FinWait1 | State::FinWait2 | State::Closing
        );
        over && pair.flow().peer_finished() && pair.flow().is_closed()
    });
    assert!(got_up == up, "what the application sent is not what arrived");
    assert!(got_down == down, "what the cluster sent is not what arrived");
}

#[test]
fn rings_are_recycled_with_another_connection() {
    let mut rings = Rings::new();
    for _ in 0..3 {
        let mut pair = Pair::established(Setup { rings, ..Setup::default() });
        exchange(&mut pair, b"request", b"answer");
        rings = pair.into_rings();
    }
    let mut pair = Pair::new(Setup { rings, ..Setup::default() });
    pair.run_until(|pair| pair.has_flow());
    pair.run_to(Moment::ORIGIN + Duration::from_secs(60));
    assert_eq!(pair.emitted, 0, "the recycled socket holds its SYN, too");
}

#[test]
fn an_idle_flow_asks_for_no_timer() {
    let mut pair = Pair::established(Setup::default());
    assert!(pair.is_quiet());
}

#[test]
fn a_segment_of_another_flow_is_not_taken_for_a_syn() {
    let mut pair = Pair::established(Setup::default());
    assert_eq!(pair.inject(&[0x45, 0, 0]), None);
}
