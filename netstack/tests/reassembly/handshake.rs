//! What opens a flow, and from where.

use std::time::Duration;

use proptest::prelude::*;

use crate::tap::{ACK, End, FIN, PSH, RST, SYN, Tap, bytes, client, ring};

#[test]
fn a_flow_opens_with_the_third_segment_of_the_handshake() {
    let mut tap = Tap::new();
    tap.send(1, 99, SYN, &[]);
    tap.send(1, 99, SYN, &[]);
    assert!(tap.seen.is_empty());
    tap.send(1, 100, ACK, &[]);
    assert_eq!((tap.only().from_start, tap.only().client), (true, client(1)));
    tap.send(1, 100, ACK | PSH, b"hello");
    assert_eq!(tap.only().parts, [bytes(b"hello")]);
}

#[test]
fn data_before_the_third_segment_opens_it_too() {
    let mut tap = Tap::new();
    tap.send(1, 99, SYN, &[]);
    tap.send(1, 105, ACK, b"second");
    tap.send(1, 100, ACK, b"first");
    tap.send(1, 100, ACK, &[]);
    assert_eq!((tap.only().from_start, &tap.only().parts), (true, &vec![bytes(b"firstsecond")]));
}

#[test]
fn a_flow_of_which_only_data_was_seen_opens_from_its_middle() {
    let mut tap = Tap::new();
    tap.send(1, 500, ACK, &[]);
    tap.send(1, 500, RST, &[]);
    tap.send(1, 500, ACK | FIN, &[]);
    tap.send(1, 499, ACK, &[0]);
    assert!(tap.seen.is_empty(), "none of these carries a byte of a stream for certain");
    tap.send(1, 500, ACK | PSH, b"x");
    tap.send(1, 490, ACK, b"0123456789xy");
    tap.send(1, 502, ACK | FIN, b"z");
    let flow = tap.only();
    assert_eq!((flow.from_start, &flow.parts, flow.end), (false, &vec![bytes(b"xyz")], Some(End::Finished)));
}

#[test]
fn segments_without_an_acknowledgment_are_nothing() {
    let mut tap = Tap::new();
    tap.send(1, 99, SYN, &[]);
    tap.send(1, 100, PSH, b"early");
    tap.send(1, 99, SYN | ACK, &[]);
    assert!(tap.seen.is_empty());
    tap.send(1, 100, ACK, &[]);
    tap.send(1, 100, 0, b"early");
    tap.send(1, 100, ACK, b"right");
    assert_eq!(tap.only().parts, [bytes(b"right")]);
}

#[test]
fn a_refused_connection_leaves_nothing() {
    let mut tap = Tap::new();
    tap.send(1, 99, SYN, &[]);
    tap.send(1, 100, RST, &[]);
    assert_eq!(tap.reassembler.poll_at(), None);
    tap.send(1, 99, SYN, &[]);
    tap.wait(Duration::from_secs(65));
    assert_eq!(tap.reassembler.poll_at(), None);
}

#[test]
fn a_client_that_begins_anew_is_followed_from_either_beginning() {
    for first in [100, 9000] {
        let mut tap = Tap::new();
        tap.send(1, 99, SYN, &[]);
        tap.send(1, 8999, SYN, &[]);
        tap.send(1, first, ACK | PSH, b"data");
        assert_eq!((tap.only().from_start, &tap.only().parts), (true, &vec![bytes(b"data")]));
    }
}

#[test]
fn data_of_the_syn_counts_unless_it_is_sent_again() {
    let mut tap = Tap::new();
    tap.send(1, 99, SYN, b"request");
    tap.send(1, 107, ACK, &[]);
    assert_eq!((&tap.only().parts, tap.only().starts.len()), (&vec![bytes(b"request")], 1));
    // a server without Fast Open has dropped it, and takes what comes then
    for third in [&b""[..], b"other"] {
        let mut tap = Tap::new();
        tap.send(1, 99, SYN, b"request");
        tap.send(1, 100, ACK, third);
        tap.send(1, 100, ACK, b"other");
        assert_eq!(tap.only().parts, [bytes(b"other")]);
    }
}

#[test]
fn a_late_copy_of_the_syn_changes_nothing() {
    let mut tap = Tap::new();
    tap.open(1, 100);
    tap.send(1, 100, ACK, b"data");
    tap.send(1, 99, SYN, &[]);
    tap.send(1, 100, ACK, b"data");
    tap.send(1, 104, ACK | FIN, b"!");
    tap.send(1, 99, SYN, &[]);
    tap.send(1, 106, ACK, &[]);
    tap.send(1, 104, ACK | FIN, b"!");
    assert_eq!((&tap.only().parts, tap.only().end), (&vec![bytes(b"data!")], Some(End::Finished)));
}

#[test]
fn a_new_connection_under_an_old_name_ends_the_old() {
    let mut tap = Tap::new();
    tap.open(1, 100);
    tap.send(1, 100, ACK, b"old");
    tap.send(1, 104, SYN, &[]);
    tap.send(1, 105, ACK, b"of the old");
    tap.send(1, 9_999_999, SYN, &[]);
    assert_eq!(tap.only().end, None, "a SYN alone is challenged by the target, and one within the stream is none");
    tap.send(1, 103, ACK, b"er");
    tap.send(1, 10_000_000, ACK, &[]);
    tap.send(1, 10_000_000, ACK, b"new");
    let [old, new] = &tap.seen[..] else { panic!("{:?}", tap.seen) };
    assert_eq!((&old.parts, old.end), (&vec![bytes(b"olderof the old")], Some(End::Gone)));
    assert_eq!((new.from_start, &new.parts, new.end), (true, &vec![bytes(b"new")], None));
    assert_ne!(old.id, new.id);
}

#[test]
fn a_name_is_free_at_once_when_its_connection_has_ended() {
    let mut tap = Tap::new();
    for round in 0..5 {
        tap.open(1, 1000 * round);
        tap.send(1, 1000 * round, ACK | FIN, b"x");
    }
    assert!(
        tap.seen.iter().all(|flow| flow.from_start && flow.parts == [bytes(b"x")] && flow.end == Some(End::Finished))
    );
    assert_eq!(tap.seen.len(), 5);
}

#[test]
fn a_handshake_whose_end_the_ring_lost_opens_with_a_gap() {
    let mut tap = Tap::new();
    tap.send(1, 99, SYN, &[]);
    tap.reassembler.lost();
    tap.send(1, 200_100, ACK, b"later");
    assert_eq!((tap.only().from_start, &tap.only().parts), (true, &vec![ring(200_000), bytes(b"later")]));
}

proptest! {
    #[test]
    fn numbers_are_unique_among_live_flows(steps in prop::collection::vec((1u16..6, 0u32..3), 0..200)) {
        // `Tap` checks it.
        let mut tap = Tap::new();
        for (port, what) in steps {
            match what {
                0 => tap.open(port, 100),
                1 => tap.send(port, 100, ACK | FIN, &[]),
                _ => tap.send(port, 777, ACK, b"middle"),
            }
        }
    }
}
