//! Whole streams, cut, reordered, repeated, lost on the way and by the ring: the same bytes, or gaps that add up.

use std::time::Duration;

use netstack::reassembly::Limits;
use proptest::prelude::*;

use crate::tap::{ACK, End, FIN, PSH, Tap};

/// A frame that reaches the target: which part of the stream, and what becomes of it on the way into the tap.
#[derive(Debug, Clone, Copy)]
struct Frame {
    start: usize,
    end: usize,
    /// The ring has no room for it.
    lost: bool,
}

#[derive(Debug, Clone)]
struct Plan {
    stream: Vec<u8>,
    first: u32,
    frames: Vec<Frame>,
}

/// What the target has received in order, as it counts.
struct Target {
    have: Vec<bool>,
    next: usize,
    ended: bool,
}

impl Target {
    fn new(len: usize) -> Self {
        Self { have: vec![false; len], next: 0, ended: len == 0 }
    }

    fn receive(&mut self, frame: Frame) {
        self.have[frame.start..frame.end].fill(true);
        while self.next < self.have.len() && self.have[self.next] {
            self.next += 1;
        }
        self.ended = self.next == self.have.len();
    }
}

/// A client that sends until the target has everything: in order at first, with losses, and then what is missing, and more, cut anew.
fn plans(max_len: usize, ring_losses: bool) -> impl Strategy<Value = Plan> {
    let cuts = prop::collection::vec((1usize..3000, any::<[u8; 4]>()), 1..60);
    let again = prop::collection::vec((any::<prop::sample::Index>(), 1usize..4000, any::<bool>()), 0..60);
    (1..max_len, prop_oneof![any::<u32>(), (0u32..60_000).prop_map(|back| back.wrapping_neg())], cuts, again).prop_map(
        move |(len, first, cuts, again)| {
            let stream: Vec<u8> = (0..len).map(|at| (at % 251) as u8 ^ (at / 251) as u8).collect();
            let lost = |byte: u8| ring_losses && byte < 30;
            let mut frames = Vec::new();
            let mut start = 0;
            for (cut, [on_the_way, twice, ring, late]) in cuts.iter().copied().cycle() {
                let end = len.min(start + cut);
                let frame = Frame { start, end, lost: lost(ring) };
                if on_the_way >= 30 {
                    let back = if late < 80 { usize::from(late) % 8 } else { 0 };
                    frames.insert(frames.len().saturating_sub(back), frame);
                }
                if twice < 20 {
                    frames.push(frame);
                }
                start = end;
                if start == len {
                    break;
                }
            }
            for (at, cut, ring) in again {
                let start = at.index(len);
                frames.push(Frame { start, end: len.min(start + cut), lost: ring_losses && ring });
            }
            let mut target = Target::new(len);
            frames.iter().for_each(|&frame| target.receive(frame));
            while !target.ended {
                let start = target.next;
                let frame = Frame { start, end: len.min(start + 1460), lost: ring_losses && start.is_multiple_of(3) };
                target.receive(frame);
                frames.push(frame);
            }
            // From there on the client sends nothing any more.
            let mut target = Target::new(len);
            let needed = frames.iter().position(|&frame| {
                target.receive(frame);
                target.ended
            });
            frames.truncate(needed.unwrap_or(0) + 1);
            Plan { stream, first, frames }
        },
    )
}

impl Plan {
    fn send(&self, tap: &mut Tap, frame: Frame) {
        let seq = self.first.wrapping_add(u32::try_from(frame.start).unwrap());
        let fin = if frame.end == self.stream.len() { FIN | PSH } else { 0 };
        tap.send(1, seq, ACK | fin, &self.stream[frame.start..frame.end]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn a_clean_ring_gives_every_byte(plan in plans(60_000, false), pauses in any::<[u8; 16]>()) {
        let mut tap = Tap::new();
        tap.open(1, plan.first);
        for (number, &frame) in plan.frames.iter().enumerate() {
            // Among them longer than any patience.
            tap.wait(Duration::from_millis(u64::from(pauses[number % 16]) * 5));
            plan.send(&mut tap, frame);
        }
        let flow = tap.only();
        prop_assert_eq!((flow.gaps(), flow.end, flow.len()), (0, Some(End::Finished), plan.stream.len() as u64));
        flow.assert_part_of(&plan.stream);
        prop_assert_eq!(tap.reassembler.held_bytes(), 0);
    }

    #[test]
    fn with_a_ring_that_loses_the_rest_is_a_gap(
        plan in plans(60_000, true),
        pauses in any::<[u8; 16]>(),
        answers in any::<[u8; 8]>(),
        joined: bool,
    ) {
        let mut tap = Tap::new();
        let mut target = Target::new(plan.stream.len());
        if !joined {
            tap.open(1, plan.first);
        }
        let (mut blind, mut answered_at) = (false, tap.now);
        for (number, &frame) in plan.frames.iter().enumerate() {
            let pause = Duration::from_millis(u64::from(pauses[number % 16]) * 5);
            // Not every question is answered before the next frame, but before patience ends.
            let answered = answers[number % 8] < 40 || tap.now + pause > answered_at + Duration::from_millis(900);
            if answered {
                answered_at = tap.now;
                let asked = tap.ask();
                tap.answer(1, target.next as u64, target.ended, asked);
            }
            tap.wait(pause);
            target.receive(frame);
            if !frame.lost {
                if std::mem::take(&mut blind) {
                    tap.reassembler.lost();
                }
                plan.send(&mut tap, frame);
            }
            blind |= frame.lost;
        }
        if blind {
            tap.reassembler.lost();
        }
        let asked = tap.ask();
        tap.answer(1, target.next as u64, true, asked);
        let flow = tap.seen.first();
        if !joined {
            let flow = flow.expect("it was opened");
            prop_assert_eq!((flow.end, flow.len()), (Some(End::Finished), plan.stream.len() as u64));
            flow.assert_part_of(&plan.stream);
        } else if let Some(flow) = flow {
            let len = plan.stream.len();
            // A single byte without PSH may be that of a keep-alive.
            let opens = |frame: &&Frame| !frame.lost && (frame.end - frame.start > 1 || frame.end == len);
            let first = plan.frames.iter().find(opens).expect("one was seen").start;
            flow.assert_part_of(&plan.stream[first..]);
        }
    }

    #[test]
    fn with_little_memory_the_rest_is_a_gap(plan in plans(60_000, false), held in 200usize..20_000) {
        let mut tap = Tap::with(Limits { held_bytes: held, held_bytes_per_flow: held, ..Limits::DEFAULT });
        tap.open(1, plan.first);
        for &frame in &plan.frames {
            plan.send(&mut tap, frame);
        }
        let flow = tap.only();
        prop_assert_eq!((flow.end, flow.len()), (Some(End::Finished), plan.stream.len() as u64));
        flow.assert_part_of(&plan.stream);
    }

    #[test]
    fn any_segments_are_taken_within_bounds(
        steps in prop::collection::vec((0u16..4, any::<u8>(), 0u32..4000, 0usize..600, 0u8..20), 0..200),
    ) {
        let limits = Limits { flows: 3, held_bytes_per_flow: 2000, held_bytes: 3000, ..Limits::DEFAULT };
        let mut tap = Tap::with(limits);
        for (port, flags, seq, len, what) in steps {
            match what {
                0 => tap.reassembler.lost(),
                1 => tap.settle(port, u64::from(seq)),
                2 => tap.settle(port, u64::from(seq) << 32),
                3 => {
                    let asked = tap.ask();
                    tap.gone(port, asked);
                }
                4 => tap.wait(Duration::from_secs(u64::from(seq))),
                5 => tap.wait(Duration::from_millis(u64::from(seq))),
                6 => tap.send(port, seq.wrapping_mul(0x0100_0193), flags, &vec![1; len]),
                _ => tap.send(port, seq, flags & 0x1f | ACK, &vec![2; len]),
            }
        }
        tap.wait(Duration::from_secs(100_000));
        prop_assert_eq!((tap.reassembler.flows(), tap.reassembler.poll_at()), (0, None));
    }
}
