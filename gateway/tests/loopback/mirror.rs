//! What a tap copies reaches every session that wants it, over a real link; the tap is the test's.

mod harness;
mod lag;
mod life;
mod refused;

use link::{
    error_code::MIRROR_ENDED,
    mirrored::FrameKind,
    rules::{LossReason, ReplicaState, RuleProtocol, Sample},
};

use self::harness::{MirrorLab, client, on, rule};

#[tokio::test]
async fn a_connection_arrives_as_it_was_with_its_header() {
    let mut lab = MirrorLab::start().await;
    let (mut peer, mut tap) = lab.mirrored("alice").await;
    let flow = tap.open(80).await;
    tap.send(flow, b"GET / HTTP/1.1\r\n\r\n").await;
    let large = vec![7; 100_000];
    tap.send(flow, &large).await;
    tap.gap(flow, LossReason::Ring, 5_000_000_000).await;
    tap.send(flow, b"bye").await;
    tap.finish(flow).await;

    let mut copy = peer.copy().await;
    let header = &copy.header;
    assert_eq!((header.rule, header.protocol, header.from_start), (1, RuleProtocol::Tcp, true));
    assert_eq!((header.client, header.server), (client(1), "10.0.0.9:80".parse().unwrap()));
    assert_eq!(header.replica, "web-1");
    let carried = copy.read_all().await;
    assert_eq!(carried.bytes, [b"GET / HTTP/1.1\r\n\r\n", &large[..], b"bye"].concat());
    assert_eq!(carried.gaps, [(100_018, LossReason::Ring, 5_000_000_000)]);
    assert_eq!(carried.end, Some(FrameKind::Finished));

    let replica = peer.reported(|replica| replica.counts.bytes == 100_021).await;
    assert_eq!((replica.name.as_str(), replica.state), ("web-1", ReplicaState::Tapped));
    assert_eq!((replica.counts.open, replica.counts.total, replica.counts.from_middle), (0, 1, 0));
    assert_eq!(replica.counts.lost[&LossReason::Ring].bytes, 5_000_000_000);
    assert_eq!(lab.lab.metric("mirrored_bytes_total").await, 100_021);
    assert_eq!(lab.lab.metric("unmirrored_bytes_total{reason=\"ring\"}").await, 5_000_000_000);
}

#[tokio::test]
async fn a_session_that_comes_later_gets_open_connections_from_their_middle() {
    let mut lab = MirrorLab::start().await;
    let (alice, mut tap) = lab.mirrored("alice").await;
    let (begun, unbegun) = (tap.open(80).await, tap.open(80).await);
    tap.send(begun, b"one").await;
    let mut first = alice.copy().await;
    first.read(3).await;

    let mut bob = lab.lab.connect("bob").await;
    let skipping = link::rules::Rule { skip_existing: true, ..rule(2, 80) };
    bob.tell(1, vec![rule(1, 80)]).await;
    assert_eq!(bob.applied(1).await, [on(1)], "the tap has the rule already");
    let mut carol = lab.lab.connect("carol").await;
    carol.tell(1, vec![skipping]).await;
    carol.applied(1).await;
    assert!(!lab.has_started_a_tap(), "one serves all");

    for flow in [begun, unbegun] {
        tap.send(flow, b"two").await;
        tap.finish(flow).await;
    }
    assert_eq!(first.read_all().await.bytes, b"two");
    let mut copies = [bob.copy().await, bob.copy().await];
    copies.sort_by_key(|copy| copy.header.client.port());
    assert_eq!(copies.each_ref().map(|copy| copy.header.from_start), [false, true]);
    for copy in &mut copies {
        assert_eq!(copy.read_all().await.bytes, b"two");
    }
    let left_out = carol.reported(|replica| replica.counts.lost.contains_key(&LossReason::Existing)).await.counts;
    assert_eq!((left_out.total, left_out.lost[&LossReason::Existing].flows), (0, 2));
    assert_eq!(bob.reported(|replica| replica.counts.total == 2).await.counts.from_middle, 1);
}

#[tokio::test]
async fn each_rule_takes_its_own_sample_and_counts_the_rest() {
    let mut lab = MirrorLab::start().await;
    let mut alice = lab.lab.connect("alice").await;
    let half = Sample::millionths(500_000);
    alice.tell(1, vec![link::rules::Rule { sample: half, ..rule(1, 80) }]).await;
    let mut tap = lab.tap().await;
    assert_eq!(tap.apply().await[0].sample, half);
    alice.applied(1).await;
    let mut bob = lab.lab.connect("bob").await;
    bob.tell(1, vec![rule(1, 80)]).await;
    assert_eq!(tap.apply().await[0].sample, Sample::ALL, "the largest sample");
    bob.applied(1).await;
    for number in [499_999, 500_000] {
        let flow = tap.open_as(80, true, number).await;
        tap.send(flow, b"12345").await;
        tap.gap(flow, LossReason::Ring, 1_000).await;
        tap.finish(flow).await;
    }
    for _ in 0..2 {
        bob.copy().await.read_all().await;
    }
    assert_eq!(alice.copy().await.header.client, client(1));
    assert!(!alice.gets_a_copy().await);
    let counts = alice.reported(|replica| replica.counts.lost.contains_key(&LossReason::Sample)).await.counts;
    let lost = counts.lost[&LossReason::Sample];
    assert_eq!((counts.total, lost.flows, lost.bytes), (1, 1, 1_005), "what is missing in it included");
    assert_eq!(counts.lost[&LossReason::Ring].bytes, 1_000, "of the flow that it has");
}

#[tokio::test]
async fn a_rule_that_is_off_is_silent_at_once() {
    let mut lab = MirrorLab::start().await;
    let (mut alice, mut tap) = lab.mirrored("alice").await;
    let mut bob = lab.lab.connect("bob").await;
    bob.tell(1, vec![rule(1, 80)]).await;
    bob.applied(1).await;
    let flow = tap.open(80).await;
    tap.send(flow, b"one").await;
    let (mut hers, mut his) = (alice.copy().await, bob.copy().await);
    hers.read(3).await;
    his.read(3).await;

    alice.tell(2, Vec::new()).await;
    assert_eq!(alice.applied(2).await, []);
    let bytes = lab.lab.metric("mirrored_bytes_total").await;
    tap.send(flow, b"two").await;
    let another = tap.open(80).await;
    tap.send(another, b"three").await;
    assert_eq!(his.read(3).await.bytes, b"two");
    assert_eq!(bob.copy().await.read(5).await.bytes, b"three");
    assert_eq!(hers.reset().await, MIRROR_ENDED.into_inner());
    assert!(!alice.gets_a_copy().await);
    assert_eq!(lab.lab.metric("mirrored_bytes_total").await, bytes + 8, "only his");
}

#[tokio::test]
async fn a_thousand_toggles_leave_nothing_behind() {
    let mut lab = MirrorLab::start().await;
    let (mut alice, mut tap) = lab.mirrored("alice").await;
    let flow = tap.open(80).await;
    tap.send(flow, b"x").await;
    alice.copy().await.read(1).await;
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    for toggle in 0..500 {
        alice.tell(2 + 2 * toggle, Vec::new()).await;
        assert_eq!(alice.applied(2 + 2 * toggle).await, []);
        assert!(tap.apply().await.is_empty());
        alice.tell(3 + 2 * toggle, vec![rule(1, 80)]).await;
        assert_eq!(tap.apply().await.len(), 1);
        assert_eq!(alice.applied(3 + 2 * toggle).await, [on(1)]);
        tap.send(flow, b"y").await;
        let mut copy = alice.copy().await;
        assert!(!copy.header.from_start);
        copy.read(1).await;
    }
    assert!(!lab.has_started_a_tap());
    assert_eq!(lab.lab.metric("mirrored_flows").await, 1);
    assert_eq!((lab.lab.metric("mirror_rules").await, lab.lab.metric("mirror_taps").await), (1, 1));
    assert!(descriptors() <= before + 2, "{} of {before}", descriptors());
}
