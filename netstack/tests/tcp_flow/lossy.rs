//! The model test: whatever the link does to packets, the bytes are the same, and every flow ends.

use netstack::ring::Rings;
use proptest::prelude::*;

use crate::{
    pair::{Conditions, Pair, Setup, pattern},
    transfer::{Steps, exchange},
};

/// More loss would now and then leave a byte unanswered for so long that the flow rightly gives up.
fn conditions() -> impl Strategy<Value = Conditions> {
    (0u32..60, 0u32..100, 0u32..500).prop_map(|(lost, doubled, late)| Conditions { lost, doubled, late })
}

fn rings() -> impl Strategy<Value = Option<u16>> {
    prop_oneof![Just(None), (1u16..2000).prop_map(Some), (2000u16..=65_535).prop_map(Some)]
}

fn steps() -> impl Strategy<Value = Steps> {
    prop_oneof![Just(Steps::WHOLE), (1usize..5000, 1usize..5000).prop_map(|(write, read)| Steps { write, read })]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn bytes_are_the_same_over_any_link(
        ipv6: bool,
        conditions in conditions(),
        rings in rings(),
        mtu in prop_oneof![Just(65_535u16), Just(1500), 1280u16..9000],
        client_buffer in 1usize..300_000,
        seed: u64,
        (up, down) in (0usize..100_000, 0usize..100_000),
        steps in steps(),
    ) {
        let smallest = rings.map_or(client_buffer, |bytes| client_buffer.min(bytes.into())).min(steps.write).min(steps.read);
        // A tiny window costs a packet a byte, and each lost one a second: enough of them, but not a day of them.
        let (up, down) = (up.min(smallest * 100), down.min(smallest * 100));
        let rings = rings.map_or_else(Rings::new, Rings::small);
        let setup = Setup { ipv6, rings, mtu, client_buffer, conditions, seed };
        let mut pair = Pair::established(setup);
        exchange(&mut pair, &pattern(up, 1), &pattern(down, 2), steps);
    }
}
