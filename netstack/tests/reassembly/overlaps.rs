//! Segments behind a hole that overlap and say different things: what Linux would read, whatever it has joined meanwhile, or a gap.

use netstack::reassembly::GapReason;
use proptest::prelude::*;

use crate::{
    linux::Queue,
    tap::{ACK, Part, Tap},
};

/// Sends the segments (start, length, flags) behind a hole of a byte, then the byte. Each is filled with its own number.
fn read(segments: &[(u32, usize)]) -> Vec<Option<u8>> {
    let mut tap = Tap::new();
    tap.open(1, 100);
    for (number, &(start, len)) in (1..).zip(segments) {
        tap.send(1, 100 + start, ACK, &vec![number; len]);
    }
    tap.send(1, 100, ACK, &[0]);
    let mut read = Vec::new();
    for part in &tap.only().parts {
        match part {
            Part::Bytes(bytes) => read.extend(bytes.iter().copied().map(Some)),
            Part::Gap(bytes, reason) => {
                assert_eq!(*reason, GapReason::Conflict);
                read.extend(std::iter::repeat_n(None, usize::try_from(*bytes).unwrap()));
            }
        }
    }
    read
}

fn linux(segments: &[(u32, usize)], chance: u64) -> Vec<u8> {
    let mut queue = Queue::new(chance);
    for (number, &(start, len)) in (1..).zip(segments) {
        queue.add(start, &vec![number; len]);
    }
    queue.add(0, &[0]);
    queue.read
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn linux_reads_the_same_or_it_is_a_gap(
        segments in prop::collection::vec((1u32..24, 1usize..12), 1..8),
        chances in any::<[u64; 6]>(),
    ) {
        let read = read(&segments);
        for chance in [0, u64::MAX].into_iter().chain(chances) {
            let linux = linux(&segments, chance);
            prop_assert_eq!(read.len(), linux.len());
            for (ours, theirs) in read.iter().zip(linux) {
                prop_assert!(ours.is_none_or(|ours| ours == theirs), "{:x}, {:?}", chance, read);
            }
        }
    }
}

#[test]
fn what_does_not_depend_on_joining_is_never_a_gap() {
    let all = |segments: &[(u32, usize)], expected: &[u8]| {
        let read: Vec<u8> = read(segments).into_iter().map(|byte| byte.expect("no gap")).collect();
        assert_eq!(read, expected);
        assert_eq!(linux(segments, 0), expected);
    };
    all(&[(3, 2), (1, 6)], &[0, 2, 2, 2, 2, 2, 2]); // covers it
    all(&[(1, 6), (3, 2)], &[0, 1, 1, 1, 1, 1, 1]); // lies in it
    all(&[(1, 4), (3, 4)], &[0, 1, 1, 1, 1, 2, 2]); // starts in it
    all(&[(3, 4), (1, 4)], &[0, 2, 2, 2, 2, 1, 1]); // starts before it
    all(&[(1, 2), (1, 4)], &[0, 2, 2, 2, 2]); // begins with it, and goes on
    all(&[(1, 2), (4, 2), (2, 3)], &[0, 1, 1, 3, 3, 2]); // over the hole between two
}

#[test]
fn a_segment_in_order_wins_against_all_that_is_held() {
    let mut tap = Tap::new();
    tap.open(1, 100);
    tap.send(1, 103, ACK, b"defghi");
    tap.send(1, 100, ACK, b"ABCDEF");
    assert_eq!(tap.only().parts, [Part::Bytes(b"ABCDEFghi".to_vec())]);
}
