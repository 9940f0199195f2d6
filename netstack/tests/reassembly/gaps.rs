//! Holes: who makes them, who waits for them and for how long.

use std::time::Duration;

use netstack::reassembly::GapReason;

use crate::tap::{ACK, End, FIN, PSH, Part, Tap, bytes, ring};

#[test]
fn what_the_ring_lost_is_a_gap_at_once() {
    let mut tap = Tap::new();
    tap.open(1, 100);
    tap.send(1, 100, ACK, b"abc");
    tap.reassembler.lost();
    tap.send(1, 110, ACK, b"xyz");
    tap.send(1, 103, ACK, b"too late");
    tap.send(1, 113, ACK | FIN, b".");
    let flow = tap.only();
    assert_eq!(flow.parts, [bytes(b"abc"), ring(7), bytes(b"xyz.")]);
    assert_eq!((flow.borrowed, flow.end), (7, Some(End::Finished)));
}

#[test]
fn a_hole_that_the_ring_did_not_make_waits_for_as_long_as_it_takes() {
    let mut tap = Tap::new();
    tap.open(1, 100);
    tap.send(1, 103, ACK | PSH, b"def");
    for _ in 0..100 {
        // a client's retransmissions back off to 120 s
        tap.wait(Duration::from_secs(2));
        assert!(tap.reassembler.is_unsettled(), "the target may know more");
        tap.settle(1, 0);
        assert!(!tap.reassembler.is_unsettled());
    }
    tap.send(1, 100, ACK, b"abc");
    let flow = tap.only();
    assert_eq!((&flow.parts, &flow.starts, &flow.pushes), (&vec![bytes(b"abcdef")], &vec![0, 3], &vec![6]));
}

#[test]
fn a_hole_that_was_there_before_the_ring_lost_something_has_patience() {
    let mut tap = Tap::new();
    tap.open(1, 100);
    tap.send(1, 103, ACK, b"def");
    tap.reassembler.lost();
    tap.send(1, 106, ACK, b"ghi");
    assert_eq!(tap.only().parts, []);
    tap.send(1, 100, ACK, b"abc");
    assert_eq!(tap.only().parts, [bytes(b"abcdefghi")]);
    // or, when it is over
    tap.send(1, 112, ACK, b"mno");
    tap.reassembler.lost();
    tap.wait(Duration::from_millis(999));
    assert_eq!(tap.only().parts.len(), 1);
    tap.wait(Duration::from_millis(1));
    assert_eq!(tap.only().parts, [bytes(b"abcdefghi"), ring(3), bytes(b"mno")]);
}

#[test]
fn a_hole_behind_a_hole_is_of_the_ring_when_that_lost_something_between() {
    let mut tap = Tap::new();
    tap.open(1, 100);
    tap.send(1, 103, ACK, b"def");
    tap.reassembler.lost();
    tap.send(1, 109, ACK, b"jkl");
    tap.send(1, 100, ACK, b"abc");
    assert_eq!(tap.only().parts, [bytes(b"abcdef"), ring(3), bytes(b"jkl")]);
}

#[test]
fn a_segment_in_order_after_a_loss_shows_that_nothing_was_lost_here() {
    let mut tap = Tap::new();
    tap.open(1, 100);
    for payload in [&b""[..], b"abc"] {
        tap.reassembler.lost();
        assert_eq!(tap.unsettled(), [1]);
        tap.send(1, 100, ACK, payload);
        assert_eq!(tap.unsettled(), [0u16; 0]);
    }
    tap.send(1, 106, ACK, b"ghi");
    tap.wait(Duration::from_secs(5));
    tap.send(1, 103, ACK, b"def");
    assert_eq!(tap.only().parts, [bytes(b"abcdefghi")]);
}

#[test]
fn a_fin_behind_what_the_ring_lost_ends_with_a_gap() {
    for flags in [ACK | FIN, ACK | FIN | PSH] {
        let mut tap = Tap::new();
        tap.open(1, u32::MAX - 5);
        tap.reassembler.lost();
        tap.send(1, 1000, flags, &[]);
        assert_eq!((&tap.only().parts, tap.only().end), (&vec![ring(1006)], Some(End::Finished)));
    }
}

#[test]
fn what_came_before_the_tap_is_not_waited_for() {
    let mut tap = Tap::new();
    // retransmissions of a client whose later segments have come already
    tap.send(1, 100, ACK, b"abc");
    tap.send(1, 200, ACK, b"def");
    tap.send(1, 300, ACK, b"ghi");
    assert_eq!(tap.only().parts, [bytes(b"abc")], "it may have been overtaken");
    tap.wait(Duration::from_secs(1));
    assert_eq!(tap.only().parts, [bytes(b"abc"), ring(97), bytes(b"def"), ring(97), bytes(b"ghi")]);
    // from here on it is as any other
    tap.send(1, 306, ACK, b"mno");
    tap.wait(Duration::from_secs(9));
    tap.send(1, 303, ACK, b"jkl");
    assert_eq!(tap.only().parts.last(), Some(&bytes(b"ghijklmno")));
}

#[test]
fn a_segment_from_elsewhere_is_nothing() {
    let mut tap = Tap::new();
    tap.open(1, 100);
    for seq in [0x5000_0000, 0x8000_0064, 0xa000_0000] {
        tap.send(1, seq, ACK, b"far");
    }
    tap.send(1, 100, ACK, b"abc");
    assert_eq!((tap.only().parts.as_slice(), tap.reassembler.held_bytes()), (&[bytes(b"abc")][..], 0));
    assert!(!tap.reassembler.is_unsettled());
}

#[test]
fn segments_that_say_other_than_before_lose() {
    let mut tap = Tap::new();
    tap.open(1, 100);
    tap.send(1, 100, ACK, b"abc");
    tap.send(1, 100, ACK, b"ABCDE");
    tap.send(1, 99, ACK, b"?!?!?!fg");
    assert_eq!(tap.only().parts, [bytes(b"abcDEfg")]);
}

#[test]
fn a_disputed_byte_is_a_gap_of_its_own_kind() {
    let mut tap = Tap::new();
    tap.open(1, 100);
    tap.send(1, 103, ACK, b"def");
    tap.send(1, 106, ACK, b"ghi");
    tap.send(1, 105, ACK, b"fXYz"); // whether it loses depends on what Linux has joined
    tap.send(1, 100, ACK, b"abc");
    let parts = [bytes(b"abcdef"), Part::Gap(3, GapReason::Conflict)];
    assert_eq!(tap.only().parts, parts);
}
