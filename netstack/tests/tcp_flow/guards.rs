//! One test for each thing that smoltcp does wrong and a flow must not.

use std::time::Duration;

use netstack::ring::Rings;
use smoltcp::socket::tcp::State;

use crate::pair::{Pair, Setup, drain, fill, pattern};

const FIN: u8 = 0x01;
const ACK: u8 = 0x10;

/// A segment with the header of one of the client's, `ahead` bytes further on, with these flags and payload.
fn segment(header: &[u8], ahead: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header[..40].to_vec();
    let sequence = u32::from_be_bytes(bytes[24..28].try_into().unwrap()).wrapping_add(ahead);
    bytes[24..28].copy_from_slice(&sequence.to_be_bytes());
    bytes[32..34].copy_from_slice(&[5 << 4, flags]);
    bytes.extend(payload);
    let len = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    bytes[2..4].copy_from_slice(&len);
    bytes
}

#[test]
fn a_fin_whose_segment_did_not_fit_is_not_the_end() {
    let mut pair = Pair::established(Setup { rings: Rings::small(100), ..Setup::default() });
    let payload = pattern(150, 1);
    let last = segment(&pair.last_sent, 0, FIN | ACK, &payload);
    pair.inject(&last);
    let mut got = Vec::new();
    drain(pair.flow(), &mut got, 1000);
    assert_eq!(got, payload[..100]);
    assert!(!pair.flow().peer_finished());
    pair.run_to(pair.now + Duration::from_millis(10));
    let rest = segment(&pair.last_sent, 100, FIN | ACK, &payload[100..]);
    pair.inject(&rest);
    drain(pair.flow(), &mut got, 1000);
    assert_eq!(got, payload);
    assert!(pair.flow().peer_finished());
}

#[test]
fn nothing_comes_behind_a_fin() {
    let mut pair = Pair::established(Setup::default());
    let last = segment(&pair.last_sent, 0, FIN | ACK, b"all");
    pair.inject(&last);
    pair.run_to(pair.now + Duration::from_millis(10));
    let beyond = segment(&pair.last_sent, 4, ACK, b"more");
    pair.inject(&beyond);
    let mut got = Vec::new();
    drain(pair.flow(), &mut got, 1000);
    assert_eq!(got, b"all");
    assert!(pair.flow().peer_finished());
}

#[test]
fn a_lost_fin_is_repeated_whatever_the_peer_repeats() {
    let mut pair = Pair::established(Setup::default());
    pair.severed = true;
    pair.flow().finish();
    pair.run_to(pair.now + Duration::from_millis(10));
    for _ in 0..5 {
        let repeated = segment(&pair.last_sent, 0, ACK, &[]);
        pair.inject(&repeated);
        pair.run_to(pair.now + Duration::from_millis(10));
    }
    pair.severed = false;
    pair.run_until(|pair| pair.client.socket().state() == State::CloseWait);
}

#[test]
fn every_byte_of_a_window_that_was_given_is_taken() {
    let mut pair = Pair::established(Setup::default());
    let header = pair.last_sent.clone();
    let start = u32::from_be_bytes(header[24..28].try_into().unwrap());
    // A window that ends at a multiple of the scale, then one whose end is rounded down.
    for step in [4, 1] {
        pair.client.socket().send_slice(&vec![0; step]).unwrap();
        pair.run_to(pair.now + Duration::from_millis(10));
    }
    let given = pair.window_ends.iter().map(|end| end.wrapping_sub(start)).max().unwrap();
    assert!(given > 262_000, "{given}");
    let rest: Vec<u32> = (5..given).collect();
    for piece in rest.chunks(60_000) {
        let bytes = segment(&header, piece[0], ACK, &vec![0; piece.len()]);
        pair.inject(&bytes);
    }
    let mut got = Vec::new();
    drain(pair.flow(), &mut got, usize::MAX / 2);
    assert_eq!(got.len(), given as usize);
}

#[test]
fn what_is_left_behind_both_fins_still_hears_of_windows() {
    let mut pair = Pair::established(Setup { client_buffer: 1000, ..Setup::default() });
    let answer = pattern(5000, 3);
    assert_eq!(fill(pair.flow(), &answer), 5000);
    pair.client.socket().close();
    pair.run_to(pair.now + Duration::from_millis(10));
    pair.flow().finish();
    pair.run_to(pair.now + Duration::from_secs(10));
    let (mut got, resumed) = (Vec::new(), pair.now);
    pair.run_until(|pair| {
        let socket = pair.client.socket();
        if socket.can_recv() {
            socket.recv(|bytes| (bytes.len(), got.extend_from_slice(bytes))).unwrap();
        }
        got.len() == answer.len()
    });
    assert!(got == answer);
    assert!(pair.now.since(resumed) < Duration::from_millis(100));
    pair.run_until(|pair| pair.flow().is_closed());
}
