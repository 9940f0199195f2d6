//! Segments that no honest kernel sends, in every state: no panic, and the flow still ends.

use std::time::Duration;

use proptest::{prelude::*, sample::Index};

use crate::pair::{Pair, Setup, drain, fill};

/// Something that happens to a flow.
#[derive(Debug, Clone)]
enum Event {
    /// The client's last segment once more, changed.
    Segment {
        flags: u8,
        sequence: u32,
        acknowledged: u32,
        window: u16,
        payload: usize,
        options: Vec<u8>,
    },
    Wait {
        milliseconds: u64,
    },
    ClientSends(usize),
    ClientCloses,
    ClientAborts,
    Accept,
    Fill(usize),
    Drain(usize),
    Finish,
    Reset,
}

/// Distances that matter: next to a number, at a window's end, half the space away, and anywhere.
fn distance() -> impl Strategy<Value = u32> {
    prop_oneof![
        3 => Just(0),
        3 => prop::sample::select(vec![1, u32::MAX, 2, 1000, 65_535, 262_140, 262_141, 524_280, 1 << 31, (1 << 31) - 1]),
        1 => any::<u32>(),
    ]
}

fn segment() -> impl Strategy<Value = Event> {
    let flags =
        prop_oneof![2 => Just(0x10u8), 1 => any::<u8>(), 2 => prop::sample::select(vec![0x02, 0x04, 0x11, 0x12, 0x14])];
    let payload = prop_oneof![Just(0usize), 1usize..2000, Just(60_000)];
    let options =
        prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(any::<u8>(), 4), 1 => Just(vec![3, 3, 14, 0])];
    (flags, distance(), distance(), any::<u16>(), payload, options).prop_map(
        |(flags, sequence, acknowledged, window, payload, options)| Event::Segment {
            flags,
            sequence,
            acknowledged,
            window,
            payload,
            options,
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => segment(),
        3 => (0u64..5000).prop_map(|milliseconds| Event::Wait { milliseconds }),
        2 => (0usize..100_000).prop_map(Event::ClientSends),
        1 => Just(Event::ClientCloses),
        1 => Just(Event::ClientAborts),
        2 => Just(Event::Accept),
        2 => (0usize..300_000).prop_map(Event::Fill),
        2 => (0usize..300_000).prop_map(Event::Drain),
        1 => Just(Event::Finish),
        1 => Just(Event::Reset),
    ]
}

fn apply(pair: &mut Pair, event: &Event) {
    match event {
        Event::Segment { flags, sequence, acknowledged, window, payload, options } => {
            let mut bytes = pair.last_sent[..40].to_vec();
            add(&mut bytes[24..28], *sequence);
            add(&mut bytes[28..32], *acknowledged);
            bytes[32] = u8::try_from((20 + options.len()) / 4 * 16).unwrap();
            bytes[33] = *flags;
            bytes[34..36].copy_from_slice(&window.to_be_bytes());
            bytes.extend(options);
            bytes.resize(bytes.len() + payload, 5);
            let len = u16::try_from(bytes.len()).unwrap();
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            let _ = pair.inject(&bytes);
        }
        Event::Wait { milliseconds } => pair.run_to(pair.now + Duration::from_millis(*milliseconds)),
        Event::ClientSends(len) => drop(pair.client.socket().send_slice(&vec![1; *len])),
        Event::ClientCloses => pair.client.socket().close(),
        Event::ClientAborts => pair.client.socket().abort(),
        Event::Accept => pair.flow().accept(),
        Event::Fill(len) => drop(fill(pair.flow(), &vec![2; *len])),
        Event::Drain(len) => drain(pair.flow(), &mut Vec::new(), *len),
        Event::Finish => pair.flow().finish(),
        Event::Reset => pair.flow().reset(),
    }
}

fn add(field: &mut [u8], distance: u32) {
    let value = u32::from_be_bytes(field.try_into().unwrap()).wrapping_add(distance);
    field.copy_from_slice(&value.to_be_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn no_segment_in_no_state_makes_a_flow_panic_or_stay(
        established: bool,
        events in prop::collection::vec(event(), 1..60),
        wait_at in any::<Index>(),
    ) {
        let mut pair = if established {
            Pair::established(Setup::default())
        } else {
            let mut pair = Pair::new(Setup::default());
            pair.run_until(|pair| pair.has_flow());
            pair
        };
        let wait_at = wait_at.index(events.len());
        for (place, event) in events.iter().enumerate() {
            apply(&mut pair, event);
            if place == wait_at {
                pair.run_to(pair.now + Duration::from_secs(300));
            }
        }
        pair.flow().reset();
        pair.run_to(pair.now + Duration::from_secs(1));
        let mut rest = Vec::new();
        drain(pair.flow(), &mut rest, usize::MAX / 2);
        prop_assert!(pair.flow().is_closed());
        let now = pair.now;
        prop_assert_eq!(pair.flow().poll_at(now), None);
    }
}
