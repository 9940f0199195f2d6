//! FIN, RST, and what is none of them.

use std::time::Duration;

use crate::tap::{ACK, End, FIN, PSH, RST, Tap, bytes, ring};

#[test]
fn a_fin_ends_the_stream_behind_everything_before_it() {
    let mut tap = Tap::new();
    tap.open(1, 100);
    tap.send(1, 103, ACK | FIN, b"def");
    tap.send(1, 106, ACK | FIN, &[]);
    assert_eq!((tap.only().parts.len(), tap.only().end), (0, None), "it is ahead of a hole");
    tap.send(1, 100, ACK, b"abc");
    assert_eq!((&tap.only().parts, tap.only().end), (&vec![bytes(b"abcdef")], Some(End::Finished)));
    tap.send(1, 106, ACK | FIN, &[]);
    tap.send(1, 107, ACK, b"beyond");
    tap.send(1, 107, RST, &[]);
    assert_eq!((tap.seen.len(), tap.reassembler.held_bytes()), (1, 0));
}

#[test]
fn a_client_that_goes_on_behind_its_fin_is_followed_no_further() {
    for beyond in [(106, &b"!"[..]), (107, b"beyond"), (105, b"fbeyond")] {
        for fin_first in [true, false] {
            let mut tap = Tap::new();
            tap.open(1, 98);
            tap.send(1, 98, ACK, b"ab");
            if fin_first {
                tap.send(1, 103, ACK | FIN, b"def");
            }
            tap.send(1, beyond.0, ACK, beyond.1);
            tap.send(1, 103, ACK | FIN, b"def");
            tap.send(1, 100, ACK, b"abc");
            assert_eq!((&tap.only().parts, tap.only().end), (&vec![bytes(b"ab")], Some(End::Gone)));
        }
    }
    let mut tap = Tap::new();
    tap.open(1, 100);
    tap.send(1, 103, ACK | FIN, b"def");
    tap.send(1, 100, ACK, b"abcdefg");
    assert_eq!((&tap.only().parts, tap.only().end), (&vec![bytes(b"abcdefg")], Some(End::Gone)));
}

#[test]
fn a_fin_may_come_alone_or_again_with_old_data() {
    let mut tap = Tap::new();
    tap.open(1, 100);
    tap.send(1, 100, ACK, b"abc");
    tap.send(1, 100, ACK | FIN, b"abc");
    assert_eq!((&tap.only().parts, tap.only().end), (&vec![bytes(b"abc")], Some(End::Finished)));
}

#[test]
fn an_ended_flow_is_forgotten_in_time() {
    let mut tap = Tap::new();
    tap.open(1, 100);
    tap.send(1, 100, ACK | FIN, &[]);
    tap.wait(Duration::from_secs(31));
    assert_eq!(tap.reassembler.poll_at(), None);
}

#[test]
fn only_an_exact_reset_counts() {
    let mut tap = Tap::new();
    tap.open(1, 100);
    tap.send(1, 100, ACK, b"abc");
    for seq in [99, 102, 104, 5000, 100_000_000, 0x9000_0000] {
        tap.send(1, seq, RST | ACK, b"reason");
        assert_eq!(tap.only().end, None, "{seq}");
    }
    tap.send(1, 103, RST, &[]);
    assert_eq!((&tap.only().parts, tap.only().end), (&vec![bytes(b"abc")], Some(End::Reset)));
    tap.send(1, 103, ACK, b"late");
    assert_eq!(tap.seen.len(), 1);
}

#[test]
fn a_reset_behind_everything_held_counts_and_the_hole_stays_one() {
    let mut tap = Tap::new();
    tap.open(1, 100);
    tap.send(1, 110, ACK, b"held");
    tap.send(1, 112, RST, &[]);
    assert_eq!(tap.only().end, None);
    tap.send(1, 114, RST, &[]);
    // the target's application read nothing of it either
    assert_eq!((tap.only().parts.len(), tap.only().end), (0, Some(End::Reset)));
    assert_eq!(tap.reassembler.held_bytes(), 0);
}

#[test]
fn a_reset_after_a_loss_of_the_ring_shows_how_much_was_missed() {
    let mut tap = Tap::new();
    tap.open(1, 100);
    tap.reassembler.lost();
    tap.send(1, 150, RST, &[]);
    assert_eq!((&tap.only().parts, tap.only().end), (&vec![ring(50)], Some(End::Reset)));
}

#[test]
fn keep_alives_and_window_probes_are_no_data() {
    let mut tap = Tap::new();
    tap.open(1, 100);
    for _ in 0..3 {
        tap.send(1, 99, ACK, &[]);
        tap.send(1, 99, ACK, &[0]);
        tap.send(1, 100, ACK, &[]);
    }
    tap.send(1, 100, ACK, b"a"); // a probe with the next byte, which the target may drop
    tap.send(1, 100, ACK | PSH, b"abc");
    tap.send(1, 102, ACK, &[0]);
    assert_eq!(tap.only().parts, [bytes(b"abc")]);
}
