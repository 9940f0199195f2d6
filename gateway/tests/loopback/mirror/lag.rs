//! Who does not take a copy loses it alone, and is told exactly how much.

use link::rules::{LossReason, ReplicaReport, Rule};

use super::harness::{Carried, MirrorLab, rule};

const FRAME: usize = 60_000;
/// 90 MB: more than the windows of a link and the queue hold.
const FRAMES: u64 = 1_500;

/// Whether what was carried is what was sent, without the gaps.
fn is_right(carried: &Carried) -> bool {
    let mut sent = (0u64..).flat_map(|frame| std::iter::repeat_n(frame.to_le_bytes()[0], FRAME));
    let mut at = 0;
    for (end, _, lost) in carried.gaps.iter().copied().chain([(carried.bytes.len(), LossReason::Lag, 0)]) {
        if !carried.bytes[at..end].iter().all(|byte| sent.next() == Some(*byte)) {
            return false;
        }
        at = end;
        if lost > 0 {
            sent.nth(usize::try_from(lost - 1).unwrap());
        }
    }
    true
}

#[tokio::test]
async fn a_session_that_stopped_loses_its_own_copy_and_no_other_does() {
    let mut lab = MirrorLab::start().await;
    let (mut alice, mut tap) = lab.mirrored("alice").await;
    let mut bob = lab.lab.connect("bob").await;
    bob.tell(1, vec![rule(1, 80)]).await;
    bob.applied(1).await;
    let flow = tap.open(80).await;
    let (mut whole, mut his) = (Carried::default(), None);
    for step in 0..FRAMES / 10 {
        for frame in 0..10 {
            tap.send(flow, &[(step * 10 + frame).to_le_bytes()[0]; FRAME]).await;
        }
        // The tap goes no faster than he reads; she does not read at all.
        let copy = match &mut his {
            Some(copy) => copy,
            None => his.insert(bob.copy().await),
        };
        let part = copy.read(10 * FRAME as u64).await;
        assert!(part.gaps.is_empty(), "{:?}", part.gaps);
        whole.bytes.extend(part.bytes);
    }
    tap.finish(flow).await;
    assert!(is_right(&whole) && whole.bytes.len() as u64 == FRAMES * FRAME as u64);

    let hers = alice.copy().await.read_all().await;
    assert!(is_right(&hers));
    assert_eq!(hers.bytes.len() as u64 + hers.lost(), FRAMES * FRAME as u64);
    assert!(hers.gaps.iter().all(|gap| gap.1 == LossReason::Lag) && !hers.gaps.is_empty(), "{:?}", hers.gaps);
    assert!(hers.gaps.len() <= 2, "{:?}", hers.gaps);
    assert_eq!(lab.lab.metric("unmirrored_bytes_total{reason=\"lag\"}").await, hers.lost());
    let counts = alice.reported(|replica| replica.counts.open == 0 && replica.counts.total == 1).await.counts;
    assert_eq!((counts.bytes, counts.lost[&LossReason::Lag].bytes), (hers.bytes.len() as u64, hers.lost()));
}

#[tokio::test]
async fn a_flow_that_is_not_read_leaves_room_for_others() {
    let mut lab = MirrorLab::with(|config| config.limits.mirror_memory_bytes = 1 << 20).await;
    let (peer, mut tap) = lab.mirrored("alice").await;
    let stuck = tap.open(80).await;
    for frame in 0..FRAMES {
        tap.send(stuck, &[frame.to_le_bytes()[0]; FRAME]).await;
    }
    let mut stuck_copy = peer.copy().await;
    for _ in 0..100 {
        let flow = tap.open(80).await;
        tap.send(flow, &[1; 20_000]).await;
        tap.finish(flow).await;
        let carried = peer.copy().await.read_all().await;
        assert_eq!((carried.bytes.len(), carried.gaps), (20_000, Vec::new()));
    }
    tap.finish(stuck).await;
    let carried = stuck_copy.read_all().await;
    assert!(is_right(&carried) && !carried.gaps.is_empty());
    assert_eq!(carried.bytes.len() as u64 + carried.lost(), FRAMES * FRAME as u64);
}

#[tokio::test]
async fn what_waits_for_a_slow_session_when_its_rule_goes_off_is_counted() {
    let mut lab = MirrorLab::start().await;
    let (mut alice, mut tap) = lab.mirrored("alice").await;
    let stuck = tap.open(80).await;
    for frame in 0..FRAMES {
        tap.send(stuck, &[frame.to_le_bytes()[0]; FRAME]).await;
    }
    let _unread = alice.copy().await;
    // Behind all of that.
    let last = tap.open(80).await;
    tap.send(last, b"last").await;
    tap.finish(last).await;
    assert_eq!(alice.copy().await.read_all().await.bytes, b"last");
    alice.tell(2, Vec::new()).await;
    let sent = FRAMES * FRAME as u64 + 4;
    let all = |replica: &ReplicaReport| replica.counts.bytes + replica.counts.lost[&LossReason::Lag].bytes;
    alice.reported(|replica| replica.counts.lost.contains_key(&LossReason::Lag) && all(replica) == sent).await;
}

#[tokio::test]
async fn a_rate_bounds_a_rule_and_what_is_above_it_is_a_gap() {
    let mut lab = MirrorLab::start().await;
    let mut peer = lab.lab.connect("alice").await;
    peer.tell(1, vec![Rule { max_rate: Some(1_000_000), ..rule(1, 80) }]).await;
    let mut tap = lab.tap().await;
    tap.apply().await;
    peer.applied(1).await;
    let flow = tap.open(80).await;
    let begun = std::time::Instant::now();
    for frame in 0..100u64 {
        tap.send(flow, &[frame.to_le_bytes()[0]; FRAME]).await;
    }
    tap.finish(flow).await;
    let carried = peer.copy().await.read_all().await;
    let most = 250_000.0 + 1_000_000.0 * begun.elapsed().as_secs_f64();
    assert!((240_000.0..=most).contains(&(carried.bytes.len() as f64)), "{}", carried.bytes.len());
    assert!(is_right(&carried) && carried.gaps.iter().all(|gap| gap.1 == LossReason::Rate));
    assert_eq!(carried.bytes.len() as u64 + carried.lost(), 100 * FRAME as u64);
}

#[tokio::test]
async fn flows_above_the_limit_are_left_out_and_counted() {
    let mut lab = MirrorLab::with(|config| config.limits.mirrored_flows = 2).await;
    let (mut peer, mut tap) = lab.mirrored("alice").await;
    let mut flows = Vec::new();
    for _ in 0..3 {
        let flow = tap.open(80).await;
        tap.send(flow, b"1234").await;
        flows.push(flow);
    }
    for _ in 0..2 {
        peer.copy().await.read(4).await;
    }
    assert!(!peer.gets_a_copy().await);
    let counts = peer.reported(|replica| replica.counts.lost.contains_key(&LossReason::Lag)).await.counts;
    assert_eq!((counts.open, counts.lost[&LossReason::Lag].flows, counts.lost[&LossReason::Lag].bytes), (2, 1, 4));
    tap.finish(flows[0]).await;
    peer.reported(|replica| replica.counts.open == 1).await;
    let flow = tap.open(80).await;
    tap.send(flow, b"5").await;
    assert_eq!(peer.copy().await.read(1).await.bytes, b"5");
}
