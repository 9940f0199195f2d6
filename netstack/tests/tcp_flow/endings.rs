//! Half-close and reset, from either side, with bytes still on the way.

use std::time::Duration;

use netstack::tcp_flow::UNANSWERED_TIMEOUT;
use smoltcp::socket::tcp::State;

use crate::pair::{Pair, Setup, drain, fill, pattern};

fn client_got(pair: &mut Pair, into: &mut Vec<u8>) {
    while pair.client.socket().can_recv() {
        pair.client.socket().recv(|bytes| (bytes.len(), into.extend_from_slice(bytes))).unwrap();
    }
}

#[test]
fn the_application_finishes_first_and_still_receives() {
    let mut pair = Pair::established(Setup::default());
    pair.client.socket().send_slice(b"all of it").unwrap();
    pair.client.socket().close();
    let mut got = Vec::new();
    pair.run_until(|pair| {
        drain(pair.flow(), &mut got, 100);
        pair.flow().peer_finished()
    });
    assert_eq!(got, b"all of it");
    let answer = pattern(1_000_000, 1);
    let (mut sent, mut received) = (0, Vec::new());
    pair.run_until(|pair| {
        sent += fill(pair.flow(), &answer[sent..]);
        client_got(pair, &mut received);
        received.len() == answer.len()
    });
    assert!(received == answer);
    pair.flow().finish();
    pair.run_until(|pair| pair.flow().is_closed());
    assert!(!pair.flow().is_reset() && pair.flow().peer_finished());
}

#[test]
fn the_cluster_finishes_first_and_still_receives() {
    let mut pair = Pair::established(Setup::default());
    fill(pair.flow(), b"answer");
    pair.flow().finish();
    let mut received = Vec::new();
    pair.run_until(|pair| {
        client_got(pair, &mut received);
        pair.client.socket().state() == State::CloseWait
    });
    assert_eq!(received, b"answer");
    let request = pattern(1_000_000, 2);
    let (mut sent, mut got) = (0, Vec::new());
    pair.run_until(|pair| {
        sent += pair.client.socket().send_slice(&request[sent..]).unwrap();
        drain(pair.flow(), &mut got, usize::MAX / 2);
        got.len() == request.len()
    });
    assert!(got == request);
    assert!(!pair.flow().peer_finished() && !pair.flow().can_send());
    pair.client.socket().close();
    pair.run_until(|pair| pair.flow().is_closed());
    assert!(pair.flow().peer_finished());
}

#[test]
fn a_reset_from_the_cluster_reaches_the_application() {
    let mut pair = Pair::established(Setup::default());
    fill(pair.flow(), &[1; 1000]);
    pair.flow().reset();
    pair.run_until(|pair| pair.client.socket().state() == State::Closed);
    assert!(pair.flow().is_closed());
    assert_eq!(pair.flow().send(|_| (0, ())), None);
}

#[test]
fn a_reset_from_the_application_is_seen_at_once() {
    let mut pair = Pair::established(Setup::default());
    pair.client.socket().send_slice(b"unread").unwrap();
    pair.run_until(|pair| pair.flow().can_recv());
    pair.client.socket().abort();
    pair.run_until(|pair| pair.flow().is_reset());
    assert!(pair.is_quiet() && pair.flow().is_closed() && !pair.flow().peer_finished());
    assert_eq!(pair.flow().recv(|_| (0, ())), None, "what a reset overtook is void");
}

#[test]
fn what_was_received_outlives_both_fins() {
    let mut pair = Pair::established(Setup::default());
    let request = pattern(100_000, 3);
    pair.client.socket().send_slice(&request).unwrap();
    pair.flow().finish();
    pair.client.socket().close();
    // The stream takes nothing for a minute, longer than smoltcp's TIME-WAIT.
    pair.run_to(pair.now + Duration::from_secs(60));
    assert!(!pair.flow().peer_finished() && !pair.flow().is_closed());
    let mut got = Vec::new();
    drain(pair.flow(), &mut got, usize::MAX / 2);
    assert!(got == request);
    assert!(pair.flow().peer_finished());
    pair.run_until(|pair| pair.flow().is_closed());
}

#[test]
fn data_without_any_answer_is_given_up() {
    let mut pair = Pair::established(Setup::default());
    pair.severed = true;
    fill(pair.flow(), b"nobody is there");
    pair.run_to(pair.now + UNANSWERED_TIMEOUT / 2);
    assert!(!pair.flow().is_reset());
    pair.run_to(pair.now + UNANSWERED_TIMEOUT);
    assert!(pair.flow().is_closed() && pair.flow().is_reset());
}

#[test]
fn an_idle_half_closed_flow_stays() {
    let mut pair = Pair::established(Setup::default());
    pair.flow().finish();
    pair.run_to(pair.now + Duration::from_secs(24 * 3600));
    pair.client.socket().send_slice(b"a day later").unwrap();
    pair.run_until(|pair| pair.flow().can_recv());
    assert!(!pair.flow().is_reset());
}
