//! What the target's sockets settle: gaps past 4 GiB, holes at an end, flows that are over.

use std::time::Duration;

use netstack::reassembly::GapReason;

use crate::tap::{ACK, End, FIN, Part, SYN, Tap, bytes, ring};

const GIB: u64 = 1 << 30;

/// The sequence number of the byte at `offset`.
fn seq(offset: u64) -> u32 {
    100u32.wrapping_add(u32::try_from(offset & 0xffff_ffff).unwrap())
}

/// A stream of which the first three bytes were seen, and then nothing for as long as it takes.
fn blinded() -> Tap {
    let mut tap = Tap::new();
    tap.open(1, 100);
    tap.send(1, 100, ACK, b"abc");
    tap.wait(Duration::from_secs(5));
    tap.reassembler.lost();
    tap
}

#[test]
fn a_gap_has_its_size_whatever_sequence_numbers_show() {
    for lost in [GIB / 2, GIB, 3 * GIB / 2, 2 * GIB, 3 * GIB, 4 * GIB - 1, 4 * GIB + 7, 15 * GIB] {
        let mut tap = blinded();
        tap.send(1, seq(3 + lost), ACK, b"first");
        tap.send(1, seq(8 + lost), ACK, b"second");
        assert!(tap.reassembler.is_unsettled());
        assert_eq!(tap.unsettled(), [1]);
        tap.settle(1, 14 + lost);
        tap.send(1, seq(14 + lost), ACK | FIN, b"third");
        let flow = tap.only();
        assert_eq!((flow.len(), flow.end), (19 + lost, Some(End::Finished)), "{lost}");
        // what came while it was not known where it belongs is missing, and counted
        assert!(flow.gaps() >= lost && flow.gaps() <= lost + 11, "{lost}");
        assert!(flow.parts.last().is_some_and(|part| matches!(part, Part::Bytes(bytes) if bytes.ends_with(b"third"))));
    }
}

#[test]
fn what_comes_between_question_and_answer_is_neither_lost_nor_doubled() {
    for lost in [5, GIB / 2, 3 * GIB, 4 * GIB + 7, 9 * GIB] {
        let mut tap = blinded();
        tap.send(1, seq(3 + lost), ACK, b"first");
        let asked = tap.ask();
        tap.wait(Duration::from_millis(5));
        tap.send(1, seq(8 + lost), ACK, b"second");
        tap.answer(1, 8 + lost, false, asked);
        tap.send(1, seq(14 + lost), ACK | FIN, b"third");
        let flow = tap.only();
        assert_eq!((flow.len(), flow.end), (19 + lost, Some(End::Finished)), "{lost}");
        assert!(flow.gaps() >= lost && flow.gaps() <= lost + 11, "{lost}");
    }
}

#[test]
fn without_an_answer_a_stream_that_lost_its_track_is_gone() {
    let mut tap = blinded();
    tap.send(1, seq(3 + 3 * GIB), ACK, b"where is this");
    tap.wait(Duration::from_secs(9));
    assert_eq!((&tap.only().parts, tap.only().end), (&vec![bytes(b"abc")], None), "the answer may come late");
    tap.wait(Duration::from_secs(1));
    assert_eq!((&tap.only().parts, tap.only().end), (&vec![bytes(b"abc")], Some(End::Gone)));
    tap.send(1, seq(9 + 3 * GIB), ACK, b"somewhere");
    assert_eq!((tap.seen.len(), tap.seen[1].from_start), (2, false));
}

#[test]
fn a_retransmission_after_a_silence_is_settled_as_one() {
    let mut tap = blinded();
    tap.send(1, 100, ACK, b"abc");
    tap.settle(1, 3);
    tap.send(1, 103, ACK, b"def");
    assert_eq!(tap.only().parts, [bytes(b"abcdef")]);
}

#[test]
fn a_hole_that_the_target_does_not_have_becomes_a_gap() {
    let mut tap = Tap::new();
    tap.open(1, 100);
    tap.send(1, 103, ACK, b"def");
    tap.send(1, 109, ACK, b"jkl");
    tap.wait(Duration::from_secs(1));
    tap.settle(1, 6);
    assert_eq!(tap.only().parts, [ring(3), bytes(b"def")], "what it has, and no more");
    tap.send(1, 106, ACK, b"ghi");
    assert_eq!(tap.only().parts, [ring(3), bytes(b"defghijkl")]);
}

#[test]
fn a_hole_that_the_target_has_too_waits_after_a_loss_of_the_ring() {
    let mut tap = Tap::new();
    tap.open(1, 100);
    tap.send(1, 103, ACK, b"def");
    tap.reassembler.lost();
    tap.settle(1, 0);
    tap.wait(Duration::from_secs(60));
    tap.send(1, 100, ACK, b"abc");
    assert_eq!(tap.only().parts, [bytes(b"abcdef")]);
}

#[test]
fn the_end_of_a_stream_that_the_ring_lost_is_known_to_the_target() {
    // the last bytes; those and the FIN; the FIN alone
    for (received, ended, parts) in [
        (10, false, vec![bytes(b"abc"), ring(7)]),
        (10, true, vec![bytes(b"abc"), ring(7)]),
        (3, true, vec![bytes(b"abc")]),
    ] {
        let mut tap = blinded();
        assert_eq!((tap.reassembler.is_unsettled(), tap.unsettled()), (true, vec![1]));
        let asked = tap.ask();
        tap.answer(1, received, ended, asked);
        assert!(!tap.reassembler.is_unsettled());
        assert_eq!((&tap.only().parts, tap.only().end), (&parts, ended.then_some(End::Finished)));
    }
}

#[test]
fn a_flow_without_a_socket_is_gone_with_what_is_known() {
    let mut tap = Tap::new();
    for port in 1..=4 {
        tap.open(port, 100);
    }
    tap.send(1, 103, ACK | FIN, b"def");
    tap.send(2, 103, ACK, b"def");
    let asked = tap.ask();
    // the target had these holes, too: its application read nothing behind them
    tap.gone(1, asked);
    tap.gone(2, asked);
    assert!(tap.seen[..2].iter().all(|flow| flow.parts.is_empty() && flow.end == Some(End::Gone)));
    tap.send(3, 103, ACK | FIN, b"def");
    tap.send(4, 103, ACK, b"def");
    tap.reassembler.lost();
    let asked = tap.ask();
    tap.gone(3, asked);
    tap.gone(4, asked);
    assert!(tap.seen[2..].iter().all(|flow| flow.parts == [ring(3), bytes(b"def")]));
    assert_eq!((tap.seen[2].end, tap.seen[3].end), (Some(End::Finished), Some(End::Gone)));
}

#[test]
fn an_answer_says_nothing_of_what_came_after_the_question() {
    let mut tap = Tap::new();
    let asked = tap.ask();
    tap.wait(Duration::from_millis(1));
    tap.open(1, 100);
    tap.gone(1, asked);
    tap.answer(1, 1 << 40, true, asked);
    assert_eq!((tap.only().parts.len(), tap.only().end), (0, None));
    let asked = tap.ask();
    tap.reassembler.lost();
    tap.answer(1, 0, false, asked);
    assert_eq!(tap.unsettled(), [1], "this loss came after it");
}

#[test]
fn a_flow_joined_in_its_middle_is_measured_from_where_it_rested() {
    let mut tap = Tap::new();
    tap.send(1, 1000, ACK, b"abc");
    assert_eq!((tap.reassembler.is_unsettled(), tap.unsettled()), (true, vec![1]));
    tap.settle(1, 70_003);
    assert!(!tap.reassembler.is_unsettled());
    tap.wait(Duration::from_secs(5));
    tap.settle(1, 70_003);
    tap.reassembler.lost();
    tap.settle(1, 70_010);
    assert_eq!(tap.only().parts, [bytes(b"abc"), ring(7)]);
    tap.send(1, 1010, ACK | FIN, b"def");
    assert_eq!(tap.only().parts, [bytes(b"abc"), ring(7), bytes(b"def")]);
}

#[test]
fn a_flow_joined_in_its_middle_that_never_rests_still_counts_its_wraps() {
    let mut tap = Tap::new();
    tap.send(1, 100, ACK, b"abc");
    tap.settle(1, 70_000); // a little less than it was when the question was answered
    tap.send(1, 103, ACK, b"def");
    tap.wait(Duration::from_secs(5));
    tap.reassembler.lost();
    let lost = 8 * GIB + 50;
    tap.send(1, seq(6 + lost), ACK, b"ghi");
    tap.settle(1, 70_009 + lost);
    tap.send(1, seq(9 + lost), ACK | FIN, b"jkl");
    assert_eq!((tap.only().len(), tap.only().gaps()), (12 + lost, lost));
}

#[test]
fn a_socket_that_has_less_than_was_seen_is_of_another_connection() {
    let mut tap = blinded();
    tap.send(1, seq(3 * GIB), ACK, b"of another");
    tap.settle(1, 1);
    assert_eq!(tap.only().end, Some(End::Gone));
    tap.send(1, seq(10 + 3 * GIB), ACK, b"goes on");
    assert_eq!(tap.seen[1].parts, [bytes(b"goes on")]);
}

#[test]
fn an_answer_that_makes_no_sense_harms_nothing() {
    for bytes_received in [0, 1, 2, u64::MAX, u64::MAX / 2, 1 << 62] {
        for ended in [false, true] {
            let mut tap = Tap::new();
            tap.open(1, 100);
            tap.send(1, 100, ACK, b"abc");
            tap.send(1, 106, ACK, b"ghi");
            tap.reassembler.lost();
            let asked = tap.ask();
            tap.answer(1, bytes_received - u64::from(ended && bytes_received == u64::MAX), ended, asked);
            tap.send(1, 103, ACK, b"def");
            assert!(tap.seen[0].parts.iter().all(|part| !matches!(part, Part::Gap(_, GapReason::Held))));
        }
    }
}

/// Answers one question about one connection; what is newly known to be missing of it.
fn missed(tap: &mut Tap, port: u16, received: u64, ended: bool) -> u64 {
    let asked = tap.ask();
    tap.wait(Duration::from_millis(1));
    tap.answer(port, received, ended, asked)
}

#[test]
fn what_came_before_a_connection_was_seen_is_missing_unless_it_was_there_before() {
    let mut tap = Tap::new();
    tap.was_there(1, 1_000);
    tap.reassembler.lost();
    for port in [1, 2] {
        tap.send(port, 5_000, ACK, b"abc");
    }
    // each has received two bytes more than what was seen, or than it had before
    assert_eq!((missed(&mut tap, 1, 1_005, false), missed(&mut tap, 2, 5, false)), (2, 2));
    assert_eq!((missed(&mut tap, 1, 1_005, false), missed(&mut tap, 2, 5, false)), (0, 0), "told once");
    tap.send(2, 5_003, ACK, b"def");
    assert_eq!(missed(&mut tap, 2, 9, false), 1, "what was under way at the question before");
    tap.send(2, 5_006, ACK | FIN, b"ghi");
    assert_eq!(missed(&mut tap, 2, 13, true), 1, "also when it has ended");
    assert!(tap.seen.iter().all(|flow| flow.gaps() == 0));
}

#[test]
fn a_connection_that_was_never_seen_is_missing_as_a_whole() {
    let mut tap = Tap::new();
    tap.was_there(1, 1_000);
    tap.reassembler.lost();
    assert_eq!((missed(&mut tap, 1, 1_000, false), missed(&mut tap, 2, 70, false)), (0, 70));
    // its SYN alone was seen: then it is a flow with a gap
    tap.send(3, 99, SYN, &[]);
    assert_eq!(missed(&mut tap, 3, 50, false), 0);
    assert_eq!((&tap.only().parts, tap.only().from_start), (&vec![ring(50)], true));
    tap.send(2, 171, ACK, b"abc");
    assert_eq!(missed(&mut tap, 2, 73, false), 0, "the rest of it is seen");
    tap.send(3, 150, ACK | FIN, b"abc");
    assert_eq!((missed(&mut tap, 3, 53, true), tap.seen[0].len()), (0, 53));
}

#[test]
fn what_was_told_of_a_connection_that_had_to_go_is_not_missing() {
    let mut tap = blinded();
    tap.send(1, seq(3 + 3 * GIB), ACK, b"where is this");
    tap.wait(Duration::from_secs(10));
    assert_eq!(tap.only().end, Some(End::Gone));
    assert_eq!(missed(&mut tap, 1, 3 + 3 * GIB + 13, false), 3 * GIB + 13);
}

#[test]
fn a_socket_that_ended_tells_what_was_not_seen_of_its_connection() {
    let mut tap = Tap::new();
    tap.was_there(4, 1_000);
    for port in [1, 2] {
        tap.open(port, 100);
        tap.send(port, 100, ACK, b"abc");
    }
    tap.reassembler.lost();
    tap.send(5, 500, ACK | FIN, b"abc");
    tap.send(2, 110, ACK, b"xyz");
    // the end of one, a hole and the end of another, all of a third, one that was there before, the beginning of one that has ended
    let missed: Vec<u64> =
        [(1, 50), (2, 13), (3, 70), (4, 1_007), (5, 20)].map(|(port, bytes)| tap.buried(port, bytes)).into();
    assert_eq!(missed, [0, 0, 70, 7, 17]);
    assert_eq!(tap.seen[0].parts, [bytes(b"abc"), ring(47)]);
    assert_eq!(tap.seen[1].parts, [bytes(b"abc"), ring(7), bytes(b"xyz")]);
    assert!(tap.seen[..2].iter().all(|flow| flow.end == Some(End::Gone)));
}
