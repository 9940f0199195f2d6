//! Back-pressure: rings fill, windows close and open again, and nothing is lost or held back.

use std::time::Duration;

use netstack::ring::{RING_BYTES, Rings};

use crate::{
    pair::{Pair, Setup, drain, fill, pattern},
    transfer::{Steps, exchange},
};

#[test]
fn a_stream_that_stalls_for_a_minute_closes_the_window_and_opens_it_again() {
    let mut pair = Pair::established(Setup::default());
    let request = pattern(1_000_000, 1);
    let mut sent = 0;
    let stall_ends = pair.now + Duration::from_secs(60);
    pair.run_until(|pair| {
        sent += pair.client.socket().send_slice(&request[sent..]).unwrap();
        pair.now >= stall_ends
    });
    let mut got = Vec::new();
    let resumed = pair.now;
    drain(pair.flow(), &mut got, usize::MAX / 2);
    assert!(got.len() > RING_BYTES - 65_536 && got.len() <= RING_BYTES, "{} bytes were taken meanwhile", got.len());
    pair.run_until(|pair| {
        sent += pair.client.socket().send_slice(&request[sent..]).unwrap();
        drain(pair.flow(), &mut got, usize::MAX / 2);
        got.len() == request.len()
    });
    assert!(got == request);
    assert!(pair.now.since(resumed) < Duration::from_millis(100), "the window's opening was announced at once");
}

#[test]
fn an_application_that_stalls_for_a_minute_stops_the_stream_and_goes_on() {
    let mut pair = Pair::established(Setup { client_buffer: 50_000, ..Setup::default() });
    let answer = pattern(1_000_000, 2);
    let mut sent = 0;
    let stall_ends = pair.now + Duration::from_secs(60);
    pair.run_until(|pair| {
        sent += fill(pair.flow(), &answer[sent..]);
        pair.now >= stall_ends
    });
    assert_eq!(sent, RING_BYTES + 50_000);
    assert!(!pair.flow().can_send());
    let mut got = Vec::new();
    pair.run_until(|pair| {
        sent += fill(pair.flow(), &answer[sent..]);
        while pair.client.socket().can_recv() {
            pair.client.socket().recv(|bytes| (bytes.len(), got.extend_from_slice(bytes))).unwrap();
        }
        got.len() == answer.len()
    });
    assert!(got == answer);
}

/// Linux may answer data with a window of zero and without taking it, when it is short of memory.
#[test]
fn a_peer_that_shrinks_its_window_over_data_in_flight_is_asked_again() {
    let mut pair = Pair::established(Setup::default());
    let mut closed = pair.last_sent.clone();
    closed[34..36].fill(0);
    pair.severed = true;
    fill(pair.flow(), b"in flight");
    pair.run_to(pair.now + Duration::from_millis(10));
    pair.inject(&closed);
    pair.run_to(pair.now + Duration::from_secs(3));
    pair.severed = false;
    let resumed = pair.now;
    pair.run_until(|pair| pair.client.socket().recv_queue() == 9);
    let waited = pair.now.since(resumed);
    assert!(waited < Duration::from_secs(10), "{waited:?}");
    let mut got = [0; 9];
    assert_eq!(pair.client.socket().recv_slice(&mut got), Ok(9));
    assert_eq!(&got, b"in flight");
}

#[test]
fn rings_of_any_size_carry_everything() {
    for bytes in [1, 2, 7, 100, 1000, 65_535] {
        let setup = Setup { rings: Rings::small(bytes), client_buffer: 777, ..Setup::default() };
        let mut pair = Pair::established(setup);
        exchange(&mut pair, &pattern(3000, 5), &pattern(3000, 6), Steps::WHOLE);
    }
}

/// The ring's size is chosen for it; see [`RING_BYTES`].
#[test]
fn a_peer_that_believes_the_first_window_were_scaled_cannot_write_beyond_the_ring() {
    let mut pair = Pair::established(Setup::default());
    let header = pair.last_sent.clone();
    for offset in [100_000u32, 200_000, RING_BYTES as u32 - 1000, RING_BYTES as u32, 500_000] {
        let mut beyond = header.clone();
        let sequence = u32::from_be_bytes(beyond[24..28].try_into().unwrap()).wrapping_add(offset);
        beyond[24..28].copy_from_slice(&sequence.to_be_bytes());
        beyond.extend([9; 1000]);
        let len = u16::try_from(beyond.len()).unwrap();
        beyond[2..4].copy_from_slice(&len.to_be_bytes());
        pair.inject(&beyond);
    }
    let mut rest = pattern(99_999, 7);
    rest.truncate(5000);
    pair.client.socket().send_slice(&rest).unwrap();
    let mut got = Vec::new();
    pair.run_until(|pair| {
        drain(pair.flow(), &mut got, usize::MAX / 2);
        got.len() >= 5000
    });
    assert!(got == rest);
}
