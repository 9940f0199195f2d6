//! What was pushed is taken or told as lost, in any order of both.

use link::mirrored::{FrameHeader, FrameKind};
use proptest::prelude::*;

use super::*;

fn frame(len: usize, kind: FrameKind) -> Bytes {
    let mut bytes = FrameHeader { kind, len }.encode().to_vec();
    bytes.resize(FrameHeader::BYTES + len, 7);
    bytes.into()
}

fn payload(len: usize) -> Loss {
    Loss { flows: 0, bytes: len as u64, datagrams: 1 }
}

/// Payload bytes, lost bytes and gaps of a stream, which must be whole frames.
fn read(mut stream: &[u8]) -> (u64, u64, u64) {
    let (mut carried, mut lost, mut gaps) = (0, 0, 0);
    while let Some((head, rest)) = stream.split_first_chunk() {
        let header = FrameHeader::decode(*head).unwrap();
        let (body, rest) = rest.split_at(header.len);
        match header.kind {
            FrameKind::Datagram => carried += header.len as u64,
            FrameKind::Gap => {
                lost += Gap::decode(body).unwrap().bytes;
                gaps += 1;
            }
            FrameKind::Gone => assert!(rest.is_empty()),
            FrameKind::Bytes { .. } | FrameKind::Finished | FrameKind::Reset => unreachable!("not pushed"),
        }
        stream = rest;
    }
    (carried, lost, gaps)
}

proptest! {
    #[test]
    fn what_was_pushed_is_what_was_taken_and_what_the_gaps_say(
        steps in prop::collection::vec((0usize..70_000, 0u8..5), 1..200), free in 1usize..400_000,
    ) {
        let (mut queue, mut stream, mut carried) = (Queue::default(), Vec::new(), 0);
        let mut pushed = 0;
        for (len, step) in steps {
            match step {
                0 => {
                    let mut batch = Vec::new();
                    let taken = queue.take(&mut batch);
                    prop_assert_eq!(batch.iter().map(Bytes::len).sum::<usize>(), taken.bytes);
                    carried += taken.payload.bytes;
                    stream.extend(batch.concat());
                    queue.written(taken);
                }
                1 => {
                    let gap = Gap { reason: LossReason::Ring, bytes: len as u64, datagrams: 0 };
                    queue.push_gap(&Bytes::copy_from_slice(&gap.frame()), gap);
                    pushed += len as u64;
                }
                _ => {
                    let frame = frame(len, FrameKind::Datagram);
                    if queue.has_room(frame.len(), free) {
                        queue.push(&frame, payload(len), 0);
                    } else {
                        queue.lose(LossReason::Lag, payload(len));
                    }
                    pushed += len as u64;
                }
            }
            prop_assert!(queue.held() <= free + 200 * 21);
        }
        queue.end(&frame(0, FrameKind::Gone));
        loop {
            let mut batch = Vec::new();
            let taken = queue.take(&mut batch);
            if batch.is_empty() {
                break;
            }
            carried += taken.payload.bytes;
            stream.extend(batch.concat());
            queue.written(taken);
        }
        prop_assert_eq!(queue.held(), 0);
        let (read_carried, lost, _) = read(&stream);
        prop_assert_eq!(read_carried, carried);
        prop_assert_eq!(carried + lost, pushed);
    }
}

#[test]
fn a_full_queue_drops_to_half_before_it_takes_bytes_again() {
    let (mut queue, mut batches) = (Queue::default(), Vec::new());
    let big = frame(10_000, FrameKind::Datagram);
    let push = |queue: &mut Queue| {
        let has_room = queue.has_room(big.len(), 100_000);
        if has_room {
            queue.push(&big, payload(10_000), 0);
        } else {
            queue.lose(LossReason::Lag, payload(10_000));
        }
        has_room
    };
    assert_eq!((0..20).filter(|_| push(&mut queue)).count(), 9);
    let taken = queue.take(&mut batches);
    assert_eq!((taken.bytes, queue.held()), (9 * 10_004, 9 * 10_004));
    assert!(!push(&mut queue), "what the writer has is held");
    queue.written(Taken { bytes: 4 * 10_004, payload: Loss::default() });
    assert!(!push(&mut queue), "5 of 9");
    queue.written(Taken { bytes: 10_004, payload: Loss::default() });
    assert!(push(&mut queue), "4 of 9");
    let mut batch = Vec::new();
    queue.take(&mut batch);
    assert_eq!(read(&batch.concat()), (10_000, 13 * 10_000, 1), "one gap of all that was lost, before the frame");
}

#[test]
fn small_frames_are_gathered_and_large_ones_share_their_buffer() {
    let mut queue = Queue::default();
    let small = frame(100, FrameKind::Datagram);
    let large = frame(10_000, FrameKind::Datagram);
    for bytes in [&small, &small, &large, &small] {
        queue.push(bytes, payload(bytes.len() - 4), 0);
    }
    let mut batch = Vec::new();
    let taken = queue.take(&mut batch);
    assert_eq!(batch.iter().map(Bytes::len).collect::<Vec<_>>(), [208, 10_004, 104]);
    assert_eq!(batch[1].as_ptr(), large.as_ptr());
    assert_eq!((taken.payload.bytes, taken.payload.datagrams), (10_300, 4));
}

#[test]
fn what_waits_beside_a_slow_session_keeps_no_more_than_itself() {
    let (middling, large) = (frame(10_000, FrameKind::Datagram), frame(60_000, FrameKind::Datagram));
    let shares = |frame: &Bytes, all_held| {
        let (mut queue, mut batch) = (Queue::default(), Vec::new());
        queue.push(frame, payload(frame.len() - 4), all_held);
        queue.take(&mut batch);
        batch[0].as_ptr() == frame.as_ptr()
    };
    assert!(shares(&middling, ALL_WAITING_BYTES) && !shares(&middling, ALL_WAITING_BYTES + 1));
    assert!(shares(&large, ALL_SLOW_BYTES) && !shares(&large, ALL_SLOW_BYTES + 1));
}
