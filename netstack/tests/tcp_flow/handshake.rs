//! From the first SYN to an open connection, or to none.

use std::time::Duration;

use netstack::{
    ring::Rings,
    tcp_flow::{Ingress, UNANSWERED_TIMEOUT},
};
use smoltcp::socket::tcp::State;

use crate::{
    pair::{Pair, Setup},
    transfer::{Steps, exchange},
};

fn held(setup: Setup) -> Pair {
    let mut pair = Pair::new(setup);
    pair.run_until(|pair| pair.has_flow());
    pair
}

#[test]
fn a_held_syn_stays_silent_until_the_dial_succeeds() {
    for ipv6 in [false, true] {
        let mut pair = held(Setup { ipv6, ..Setup::default() });
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
    let mut pair = held(Setup::default());
    pair.flow().refuse();
    let start = pair.now;
    pair.run_until(|pair| pair.client.socket().state() == State::Closed);
    assert!(pair.now.since(start) < Duration::from_millis(10));
    assert!(pair.flow().is_closed() && pair.flow().is_reset());
}

#[test]
fn a_client_that_tries_again_meets_the_dial_under_way() {
    let mut pair = held(Setup::default());
    pair.reconnect();
    pair.run_to(pair.now + Duration::from_secs(1));
    assert!(pair.flow().is_held());
    pair.flow().accept();
    exchange(&mut pair, b"request", b"answer", Steps::WHOLE);
}

#[test]
fn a_new_connection_supersedes_one_that_the_client_forgot() {
    let mut pair = Pair::established(Setup::default());
    pair.reconnect();
    let syn = pair.client.poll(pair.now).remove(0);
    assert_eq!(pair.inject(&syn), Some(Ingress::Superseded));
}

#[test]
fn a_syn_with_data_opens_and_its_data_is_left_to_be_sent_again() {
    let mut pair = held(Setup::default());
    let mut syn = pair.last_sent.clone();
    syn.extend(b"early");
    let len = u16::try_from(syn.len()).unwrap().to_be_bytes();
    syn[2..4].copy_from_slice(&len);
    assert_eq!(pair.inject(&syn), Some(Ingress::Taken));
    pair.flow().accept();
    exchange(&mut pair, b"early data", b"answer", Steps::WHOLE);
}

/// smoltcp reads none but hop-by-hop options.
#[test]
fn extension_headers_in_front_of_a_segment_are_no_obstacle() {
    let mut pair = held(Setup { ipv6: true, ..Setup::default() });
    pair.flow().accept();
    pair.run_until(|pair| pair.client.socket().may_send());
    pair.run_until(|pair| pair.flow().can_send());
    let mut segment = pair.last_sent.clone();
    segment[6] = 60;
    segment.splice(40..40, [6, 0, 1, 4, 0, 0, 0, 0]);
    segment.extend(b"behind options");
    let len = u16::try_from(segment.len() - 40).unwrap().to_be_bytes();
    segment[4..6].copy_from_slice(&len);
    assert_eq!(pair.inject(&segment), Some(Ingress::Taken));
    assert_eq!(pair.flow().recv(|bytes| (bytes.len(), bytes.to_vec())), Some(b"behind options".to_vec()));
}

#[test]
fn a_client_that_gives_up_ends_the_flow() {
    let mut pair = held(Setup::default());
    let mut reset = pair.last_sent.clone();
    let sequence = u32::from_be_bytes(reset[24..28].try_into().unwrap()) + 1;
    reset[24..28].copy_from_slice(&sequence.to_be_bytes());
    reset[33] = 0x04;
    assert_eq!(pair.inject(&reset), Some(Ingress::Taken));
    assert!(pair.flow().is_reset() && !pair.flow().is_held());
    assert!(pair.is_quiet() || pair.flow().is_closed());
}

#[test]
fn a_service_that_closes_at_once_is_no_error() {
    let mut pair = held(Setup::default());
    pair.flow().accept();
    pair.flow().finish();
    exchange(&mut pair, b"too late", b"", Steps::WHOLE);
}

#[test]
fn a_client_that_is_gone_is_given_up() {
    let mut pair = held(Setup::default());
    pair.severed = true;
    pair.flow().accept();
    let end = pair.now + UNANSWERED_TIMEOUT;
    pair.run_to(end + Duration::from_secs(1));
    assert!(pair.flow().is_closed() && pair.flow().is_reset());
}

#[test]
fn an_idle_flow_asks_for_no_timer() {
    let mut pair = Pair::established(Setup::default());
    assert!(pair.is_quiet());
}

#[test]
fn rings_are_recycled_with_another_connection() {
    let mut rings = Rings::new();
    for _ in 0..3 {
        let mut pair = Pair::established(Setup { rings, ..Setup::default() });
        exchange(&mut pair, b"request", b"answer", Steps::WHOLE);
        rings = pair.into_rings();
    }
    let mut pair = held(Setup { rings, ..Setup::default() });
    pair.run_to(pair.now + Duration::from_secs(60));
    assert_eq!(pair.emitted, 0, "the recycled socket holds its SYN, too");
}
