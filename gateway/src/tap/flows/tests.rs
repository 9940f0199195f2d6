//! What becomes of a frame: bytes of its flow, a count, or nothing, whatever it says of itself.

use link::rules::Sample;
use proptest::prelude::*;

use super::*;

const SERVER: [u8; 4] = [10, 0, 0, 1];

fn flows() -> Flows {
    let mut flows = Flows::new(1);
    flows.local.replace(&[SERVER.into()].into());
    let every = |(port, protocol)| TappedPort { port, protocol, sample: Sample::ALL };
    let ports = [(80, RuleProtocol::Tcp), (53, RuleProtocol::Udp)].map(every);
    flows.apply(&ports, &mut Batch::default());
    flows
}

fn frame(bytes: &[u8], len: usize) -> Frame<'_> {
    let protocol = if bytes.get(9) == Some(&6) { RuleProtocol::Tcp } else { RuleProtocol::Udp };
    Frame { bytes, len, nanos: 1_000, after_loss: false, verified: true, protocol, datagram_bytes: None }
}

/// A packet over IPv4 from 10.0.0.2, from port 5,000.
fn packet(protocol: u8, port: u16, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0, 0, 0, 0, 7, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 2];
    bytes.extend_from_slice(&SERVER);
    bytes.extend_from_slice(&5_000_u16.to_be_bytes());
    bytes.extend_from_slice(&port.to_be_bytes());
    bytes.extend_from_slice(rest);
    let len = u16::try_from(bytes.len()).unwrap();
    bytes[2..4].copy_from_slice(&len.to_be_bytes());
    bytes
}

fn datagram(port: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len() + UDP_HEADER_BYTES).unwrap();
    packet(17, port, &[&len.to_be_bytes()[..], &[0, 0], payload].concat())
}

/// What is written for some frames.
fn written(flows: &mut Flows, frames: &[Frame<'_>]) -> Vec<u8> {
    let mut batch = Batch::default();
    for frame in frames {
        flows.frame(frame, Moment::ORIGIN, &mut batch);
    }
    batch.slices().iter().flat_map(|slice| slice.to_vec()).collect()
}

proptest! {
    #[test]
    fn frames_that_lie_are_counted_or_passed_over(
        head in prop::collection::vec(any::<u8>(), 0..60),
        mut good in prop_oneof![Just(datagram(53, b"payload")), Just(packet(6, 80, &[0; 40]))],
        lies in prop::collection::vec((0usize..48, any::<u8>()), 0..4),
        cut in 0usize..60,
        verified: bool,
    ) {
        for (at, byte) in lies {
            if let Some(place) = good.get_mut(at) {
                *place = byte;
            }
        }
        let mut flows = flows();
        let kept = &good[..cut.min(good.len())];
        let frames = [frame(&head, head.len()), frame(&good, good.len()), frame(kept, good.len())];
        let frames = frames.map(|frame| Frame { verified, ..frame });
        written(&mut flows, &frames);
        prop_assert_eq!(flows.stats().frames, 3);
        flows.timeout(Moment::from_micros(1 << 40), &mut Batch::default());
    }
}

#[test]
fn a_datagram_of_another_port_is_passed_over_and_a_wrong_checksum_is_not_copied() {
    let mut flows = flows();
    let (wanted, other) = (datagram(53, b"wanted"), datagram(54, b"other"));
    let bytes = written(&mut flows, &[frame(&wanted, wanted.len()), frame(&other, other.len())]);
    assert!(bytes.ends_with(b"wanted"));
    let mut wrong = wanted;
    wrong[26] = 1;
    let unverified = Frame { verified: false, ..frame(&wrong, wrong.len()) };
    assert!(written(&mut flows, &[unverified]).is_empty());
    assert_eq!((flows.stats().malformed, flows.stats().udp_flows), (1, 1));
}

#[test]
fn a_frame_that_its_slot_cut_off_is_a_loss_of_the_ring() {
    let mut flows = flows();
    let mut endless = datagram(53, &[1; 100]);
    endless[2..4].fill(0);
    assert!(written(&mut flows, &[frame(&endless[..60], endless.len()), frame(&endless, 70_000)]).is_empty());
    let stats = flows.stats();
    assert_eq!((stats.too_long, stats.losses, stats.malformed), (2, 2, 0));
}

#[test]
fn what_the_ring_lost_of_datagrams_is_counted_for_every_port_that_may_have_been_meant() {
    let mut flows = flows();
    let counted = |flows: &Flows| -> Vec<(u16, u64)> {
        flows.stats().ports.iter().map(|port| (port.port, port.lost_datagrams)).collect()
    };
    flows.lost(RuleProtocol::Tcp, 5);
    flows.lost(RuleProtocol::Udp, 7);
    assert_eq!(counted(&flows), [(53, 7), (80, 0)], "each protocol has rings of its own");
    let every = |(port, protocol)| TappedPort { port, protocol, sample: Sample::ALL };
    let ports = [(53, RuleProtocol::Udp), (54, RuleProtocol::Udp)].map(every);
    flows.apply(&ports, &mut Batch::default());
    assert_eq!(counted(&flows), [(53, 7), (54, 0)], "another rule changes nothing of what was counted");
    flows.lost(RuleProtocol::Udp, 2);
    assert_eq!(counted(&flows), [(53, 9), (54, 2)]);
    flows.apply(&ports[1..], &mut Batch::default());
    assert_eq!((counted(&flows), flows.stats().ring_drops), (vec![(54, 2)], 14));
}

#[test]
fn fragments_of_a_wanted_port_are_joined_and_others_do_not_push_them_out() {
    let mut flows = flows();
    let whole = datagram(53, &[7; 100]);
    let mut first = whole[..20 + 64].to_vec();
    first[2..4].copy_from_slice(&84_u16.to_be_bytes());
    first[6] = 0x20;
    let mut second = [&whole[..20], &whole[84..]].concat();
    let len = u16::try_from(second.len()).unwrap();
    second[2..4].copy_from_slice(&len.to_be_bytes());
    second[7] = 8;
    let turned = [frame(&second, second.len()), frame(&first, first.len())];
    assert!(written(&mut flows, &turned).ends_with(&[7; 100]));
    let strays: Vec<Vec<u8>> = (0..200_u16)
        .map(|id| {
            let mut stray = second.clone();
            stray[4..6].copy_from_slice(&(id + 100).to_be_bytes());
            stray
        })
        .collect();
    let mut frames = vec![frame(&first, first.len())];
    frames.extend(strays.iter().map(|stray| frame(stray, stray.len())));
    frames.push(frame(&second, second.len()));
    assert!(written(&mut flows, &frames).ends_with(&[7; 100]));
    assert_eq!((flows.stats().malformed, flows.stats().fragments_dropped), (0, 0));
}

#[test]
fn datagrams_that_were_sent_as_one_frame_are_several() {
    let mut flows = flows();
    for (payload, bytes, pieces) in [(100, 30, 4), (90, 30, 3), (30, 30, 1), (29, 30, 1), (0, 30, 1), (2_000, 1, 1)] {
        let joined = datagram(53, &vec![7; payload]);
        let frame = Frame { datagram_bytes: NonZeroU16::new(bytes), ..frame(&joined, joined.len()) };
        written(&mut flows, &[Frame { datagram_bytes: None, ..frame }]);
        let heads = written(&mut flows, &[frame]).len() - payload;
        assert_eq!(heads, pieces * crate::tap::protocol::RECORD_HEADER_BYTES, "{payload} of {bytes}");
    }
}

const CLIENTS_BYTES: usize = 65_000;

/// Fragments of a datagram of [`CLIENTS_BYTES`] that this client sends, as on a link of 1,500 bytes.
fn fragments_of(client: u8) -> Vec<Vec<u8>> {
    let whole = datagram(53, &vec![client; CLIENTS_BYTES]);
    let parts: Vec<&[u8]> = whole[20..].chunks(1_480).collect();
    let fragment = |(n, part): (usize, &&[u8])| {
        let mut fragment = [&whole[..20], part].concat();
        let len = u16::try_from(fragment.len()).unwrap();
        fragment[2..4].copy_from_slice(&len.to_be_bytes());
        let more = if n + 1 < parts.len() { 0x2000 } else { 0 };
        fragment[6..8].copy_from_slice(&(u16::try_from(n * 185).unwrap() | more).to_be_bytes());
        fragment[15] = client;
        fragment
    };
    parts.iter().enumerate().map(fragment).collect()
}

/// How many datagrams are copied, and how many are said to be missing, when so many clients' fragments come mixed and some time passes.
fn copied_and_missing(clients: u8, reversed: bool) -> (u64, u64) {
    let mut flows = flows();
    let mut sent: Vec<Vec<Vec<u8>>> = (1..=clients).map(fragments_of).collect();
    if reversed {
        sent.iter_mut().for_each(|fragments| fragments.reverse());
    }
    let mixed = (0..sent[0].len()).flat_map(|n| sent.iter().map(move |fragments| &fragments[n]));
    let frames: Vec<Frame<'_>> = mixed.map(|fragment| frame(fragment, fragment.len())).collect();
    let mut bytes = bytes::BytesMut::from(&written(&mut flows, &frames)[..]);
    let mut batch = Batch::default();
    flows.timeout(Moment::from_micros(20_000_000), &mut batch);
    batch.slices().iter().for_each(|slice| bytes.extend_from_slice(slice));
    let (mut decoder, mut copied, mut missing) = (crate::tap::protocol::Decoder::new(), 0, 0);
    while let Some(record) = decoder.take(&mut bytes).unwrap() {
        let crate::tap::protocol::Record::Flow(_, crate::tap::protocol::FromFlow::Frame { header, bytes }) = record
        else {
            continue;
        };
        match header.kind {
            FrameKind::Datagram => copied += 1,
            FrameKind::Gap => {
                let gap = Gap::decode(&bytes[link::mirrored::FrameHeader::BYTES..]).unwrap();
                assert_eq!((gap.reason, gap.bytes), (LossReason::Reassembly, gap.datagrams * CLIENTS_BYTES as u64));
                missing += gap.datagrams;
            }
            FrameKind::Bytes { .. } | FrameKind::Finished | FrameKind::Reset | FrameKind::Gone => {}
        }
    }
    (copied, missing)
}

#[test]
fn datagrams_in_fragments_come_from_many_clients_at_once_and_what_has_no_room_is_said_to_be_missing() {
    assert_eq!(copied_and_missing(20, false), (20, 0));
    for (clients, reversed) in [(60, false), (100, false), (20, true)] {
        let (copied, missing) = copied_and_missing(clients, reversed);
        assert_eq!(copied + missing, u64::from(clients), "{copied} of {clients}");
        assert!(copied > 0 && missing > 0, "{copied} of {clients}");
    }
}

#[test]
fn a_datagram_that_the_target_did_not_get_whole_is_not_said_to_be_missing() {
    let mut flows = flows();
    let fragments = fragments_of(2);
    let frames: Vec<Frame<'_>> = fragments[..40].iter().map(|fragment| frame(fragment, fragment.len())).collect();
    assert!(written(&mut flows, &frames).is_empty());
    let mut batch = Batch::default();
    flows.timeout(Moment::from_micros(20_000_000), &mut batch);
    assert!(batch.is_empty());
    assert_eq!(flows.stats().fragments_dropped, 1);
}
