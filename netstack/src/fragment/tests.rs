//! Any order gives the same bytes; overlaps, lies and patience have an end.

use proptest::prelude::*;

use super::*;

/// The fragments of a UDP datagram with `payload`, cut at multiples of 8.
fn fragments(ipv6: bool, payload: &[u8], cuts: &[usize], id: u32) -> Vec<Vec<u8>> {
    let mut edges: Vec<usize> =
        cuts.iter().map(|cut| cut / 8 * 8).filter(|&cut| 0 < cut && cut < payload.len()).collect();
    edges.extend([0, payload.len()]);
    edges.sort_unstable();
    edges.dedup();
    edges.windows(2).map(|edge| fragment(ipv6, payload, edge[0]..edge[1], id)).collect()
}

fn fragment(ipv6: bool, payload: &[u8], range: std::ops::Range<usize>, id: u32) -> Vec<u8> {
    raw_fragment(ipv6, range.start, range.end < payload.len(), &payload[range], id)
}

fn raw_fragment(ipv6: bool, offset: usize, more: bool, data: &[u8], id: u32) -> Vec<u8> {
    let mut bytes = if ipv6 {
        let mut header = vec![0x60, 0, 0, 0];
        header.extend(u16::try_from(data.len() + 16).unwrap().to_be_bytes());
        header.extend([60, 64]);
        header.extend("fd00::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
        header.extend("fd01::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
        header.extend([44, 0, 1, 4, 0, 0, 0, 0]); // destination options: padding
        header.extend([17, 0]);
        header.extend((u16::try_from(offset).unwrap() | u16::from(more)).to_be_bytes());
        header.extend(id.to_be_bytes());
        header
    } else {
        let mut header = vec![0x46, 0];
        header.extend(u16::try_from(data.len() + 24).unwrap().to_be_bytes());
        header.extend(u16::try_from(id).unwrap().to_be_bytes());
        header.extend((u16::try_from(offset / 8).unwrap() | if more { 0x2000 } else { 0 }).to_be_bytes());
        header.extend([64, 17, 0, 0, 10, 0, 0, 1, 10, 96, 0, 1, 1, 1, 1, 0]); // options: padding
        header
    };
    bytes.extend_from_slice(data);
    bytes
}

fn add(reassembler: &mut Reassembler, bytes: &[u8], drops: &mut DropCounters) -> Option<Vec<u8>> {
    reassembler.add(&Packet::parse(bytes).unwrap(), Moment::ORIGIN, drops)
}

proptest! {
    #[test]
    fn fragments_in_any_order_and_repeated_give_the_datagram(
        ipv6: bool,
        payload in prop::collection::vec(any::<u8>(), 9..3000),
        cuts in prop::collection::vec(8usize..3000, 1..12),
        order in any::<prop::sample::Index>(),
        repeat in any::<prop::sample::Index>(),
    ) {
        let mut parts = fragments(ipv6, &payload, &cuts, 5);
        prop_assume!(parts.len() > 1);
        let repeated = parts[repeat.index(parts.len())].clone();
        let turn = order.index(parts.len());
        parts.rotate_left(turn);
        parts.insert(1, repeated);
        let mut reassembler = Reassembler::new();
        let mut drops = DropCounters::new();
        let mut whole = None;
        for part in &parts {
            prop_assert!(whole.is_none(), "complete before the last");
            whole = add(&mut reassembler, part, &mut drops);
            if whole.is_some() { break; }
        }
        let whole = whole.expect("every fragment has come");
        let packet = Packet::parse(&whole).unwrap();
        prop_assert_eq!(packet.fragment(), None);
        prop_assert_eq!(packet.payload(), payload.as_slice());
        prop_assert_eq!(packet.bytes().len(), whole.len());
        prop_assert_eq!(reassembler.bytes(), 0);
        prop_assert_eq!(drops.iter().count(), 0);
    }

    #[test]
    fn any_fragments_are_taken_without_a_panic_and_within_bounds(
        parts in prop::collection::vec((any::<bool>(), 0usize..8192, any::<bool>(), 0usize..40, 0u32..3), 0..300),
    ) {
        let mut reassembler = Reassembler::new();
        let mut drops = DropCounters::new();
        for (ipv6, offset, more, len, id) in parts {
            let bytes = raw_fragment(ipv6, offset * 8, more, &vec![7; len * 8], id);
            if let Some(whole) = add(&mut reassembler, &bytes, &mut drops) {
                prop_assert!(Packet::parse(&whole).is_ok());
            }
            prop_assert!(reassembler.bytes() <= MAX_BYTES);
        }
    }
}

#[test]
fn an_overlap_spoils_the_whole_datagram() {
    for ipv6 in [false, true] {
        let payload = [1; 64];
        let (mut reassembler, mut drops) = (Reassembler::new(), DropCounters::new());
        assert_eq!(add(&mut reassembler, &fragment(ipv6, &payload, 0..32, 1), &mut drops), None);
        let other = [2; 64];
        assert_eq!(add(&mut reassembler, &fragment(ipv6, &other, 24..48, 1), &mut drops), None);
        assert_eq!(drops.of(DropReason::FragmentOverlap), 1);
        for range in [0..32, 32..64] {
            assert_eq!(add(&mut reassembler, &fragment(ipv6, &payload, range, 1), &mut drops), None, "it stays spoilt");
        }
        assert_eq!((reassembler.bytes(), drops.iter().count()), (0, 1));
    }
}

#[test]
fn the_largest_datagrams_come_through() {
    for (ipv6, len) in [(false, 65_535 - 24), (true, 65_535 - 8)] {
        let payload = vec![3; len];
        let (mut reassembler, mut drops) = (Reassembler::new(), DropCounters::new());
        assert_eq!(add(&mut reassembler, &fragment(ipv6, &payload, 0..60_000, 9), &mut drops), None);
        let whole = add(&mut reassembler, &fragment(ipv6, &payload, 60_000..len, 9), &mut drops).unwrap();
        assert_eq!(Packet::parse(&whole).unwrap().payload(), payload);
        // and a byte more does not
        let payload = vec![3; len + 1];
        assert_eq!(add(&mut reassembler, &fragment(ipv6, &payload, 0..60_000, 9), &mut drops), None);
        assert_eq!(add(&mut reassembler, &fragment(ipv6, &payload, 60_000..len + 1, 9), &mut drops), None);
        assert_eq!(drops.of(DropReason::FragmentMalformed), 1);
    }
}

#[test]
fn what_waits_too_long_or_is_too_much_goes() {
    let (mut reassembler, mut drops) = (Reassembler::new(), DropCounters::new());
    let payload = [4; 64];
    assert_eq!(add(&mut reassembler, &fragment(true, &payload, 0..32, 1), &mut drops), None);
    assert_eq!(reassembler.next_expiry(), Some(Moment::ORIGIN + TIMEOUT));
    reassembler.expire(Moment::ORIGIN + TIMEOUT, &mut drops);
    assert_eq!((reassembler.bytes(), drops.of(DropReason::FragmentTimeout)), (0, 1));
    for id in 0..=MAX_DATAGRAMS as u32 {
        assert_eq!(add(&mut reassembler, &fragment(true, &payload, 0..32, id), &mut drops), None);
    }
    assert_eq!((reassembler.waiting.len(), drops.of(DropReason::FragmentsFull)), (MAX_DATAGRAMS, 1));
    assert_eq!(add(&mut reassembler, &fragment(true, &payload, 32..64, 0), &mut drops), None, "the oldest went");
    assert!(add(&mut reassembler, &fragment(true, &payload, 32..64, 9), &mut drops).is_some());
}

#[test]
fn a_datagram_in_44_fragments_comes_through_among_others_and_after_losses() {
    let payload: Vec<u8> = (0..65_000u32).map(|at| (at % 251) as u8).collect();
    let (mut reassembler, mut drops) = (Reassembler::new(), DropCounters::new());
    let parts = |id| fragments(false, &payload, &(1..44).map(|cut| cut * 1480).collect::<Vec<_>>(), id);
    for round in 0..200 {
        // one of three loses a fragment; the other two come whole, in turns
        let lossy = parts(3 * round);
        for part in lossy.iter().take(43) {
            assert_eq!(add(&mut reassembler, part, &mut drops), None);
        }
        let mut whole = Vec::new();
        for (one, other) in parts(3 * round + 1).iter().zip(&parts(3 * round + 2)) {
            whole.extend(add(&mut reassembler, one, &mut drops));
            whole.extend(add(&mut reassembler, other, &mut drops));
        }
        assert_eq!((lossy.len(), whole.len()), (44, 2));
        assert!(whole.iter().all(|bytes| Packet::parse_captured(bytes).unwrap().payload() == payload));
        assert!(reassembler.bytes() <= MAX_BYTES);
    }
}
