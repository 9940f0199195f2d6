//! Taps and replicas that come and go, and a gateway that ends.

use gateway::tap::protocol::{FromTap, ListeningPort};
use link::{
    error_code::CloseCode,
    mirrored::FrameKind,
    rules::{LossReason, ReplicaState, Rule, RuleOutcome, RuleProtocol, RuleState},
};
use tokio::io::AsyncWriteExt;

use super::harness::{MirrorLab, add_replica, on, rule};

#[tokio::test]
async fn a_tap_that_dies_is_started_again_and_its_connections_end() {
    let mut lab = MirrorLab::start().await;
    let (mut peer, mut tap) = lab.mirrored("alice").await;
    let flow = tap.open(80).await;
    tap.send(flow, b"one").await;
    let mut copy = peer.copy().await;
    copy.read(3).await;
    drop(tap);
    assert_eq!(copy.read_all().await.end, Some(FrameKind::Gone));

    let mut tap = lab.tap().await;
    assert_eq!(tap.apply().await.len(), 1, "the rules are told again");
    let flow = tap.open_as(80, false, 0).await;
    tap.send(flow, b"three").await;
    let mut copy = peer.copy().await;
    assert!(!copy.header.from_start);
    assert_eq!(copy.read(5).await.bytes, b"three");
    let replica = peer.reported(|replica| replica.counts.bytes == 8 && replica.state == ReplicaState::Tapped).await;
    assert_eq!((replica.counts.open, replica.counts.total, replica.counts.from_middle), (1, 2, 1));
    assert_eq!(replica.counts.lost[&LossReason::Absent].flows, 1);
    assert_eq!(lab.lab.metric("mirror_tap_starts_total").await, 2);
}

#[tokio::test]
async fn a_tap_that_sends_nonsense_or_fails_is_ended_and_the_session_told() {
    let mut lab = MirrorLab::start().await;
    let (mut peer, mut tap) = lab.mirrored("alice").await;
    tap.stream.write_all(&[0, 0, 0, 0, 0, 0, 0, 7, 0x66, 0, 0, 0]).await.unwrap();
    let is_failed = |words: &'static str| move |state: &ReplicaState| matches!(state, ReplicaState::Failed { reason } if reason.contains(words));
    let nonsense = is_failed("nonsense about flow 7");
    tap.ended().await;
    let mut tap = lab.tap().await;
    tap.say(&FromTap::Failed { reason: "no right to capture: grant CAP_NET_RAW".to_owned() }).await;
    tap.ended().await;
    let denied = is_failed("grant CAP_NET_RAW");
    // As long as nothing better is known, reports say why.
    peer.reported(|replica| denied(&replica.state) || nonsense(&replica.state)).await;
    let mut tap = lab.tap().await;
    tap.apply().await;
    peer.reported(|replica| replica.state == ReplicaState::Tapped).await;
}

#[tokio::test]
async fn a_rule_whose_only_tap_fails_is_acknowledged_as_failed() {
    let mut lab = MirrorLab::start().await;
    let mut peer = lab.lab.connect("alice").await;
    peer.tell(1, vec![rule(1, 80)]).await;
    let mut tap = lab.tap().await;
    tap.say(&FromTap::Failed { reason: "no AF_PACKET".to_owned() }).await;
    let state = RuleState::Failed { reason: "no AF_PACKET".to_owned() };
    assert_eq!(peer.applied(1).await, [RuleOutcome { id: 1, state }]);
}

#[tokio::test]
async fn a_tap_that_does_not_answer_is_starting_and_then_silent() {
    let mut lab = MirrorLab::start().await;
    let mut peer = lab.lab.connect("alice").await;
    peer.tell(1, vec![rule(1, 80)]).await;
    let mut tap = lab.tap().await;
    assert_eq!(peer.applied(1).await, [on(1)], "after two seconds");
    peer.reported(|replica| replica.state == ReplicaState::Starting).await;
    peer.reported(|replica| replica.state == ReplicaState::Silent).await;
    let nobody = ListeningPort { port: 80, protocol: RuleProtocol::Tcp };
    tap.apply_with(vec![nobody]).await;
    let replica = peer.reported(|replica| replica.state == ReplicaState::Tapped).await;
    assert!(replica.nobody_listens);
}

#[tokio::test]
async fn replicas_join_and_leave_while_a_rule_is_on() {
    let mut lab = MirrorLab::start().await;
    let (mut peer, mut first) = lab.mirrored("alice").await;
    let flow = first.open(80).await;
    first.send(flow, b"one").await;
    let mut copy = peer.copy().await;
    copy.read(3).await;

    add_replica(lab.lab.home.0.path(), "web-2");
    let mut second = lab.tap().await;
    second.apply().await;
    let flow = second.open(80).await;
    second.send(flow, b"two").await;
    assert_eq!(peer.copy().await.header.replica, "web-2");

    std::fs::remove_file(lab.lab.home.0.path().join("web-1")).unwrap();
    assert_eq!(copy.read_all().await.end, Some(FrameKind::Gone));
    first.ended().await;
    let replica = peer.reported(|replica| replica.state == ReplicaState::Gone).await;
    assert_eq!((replica.name.as_str(), replica.counts.bytes), ("web-1", 3), "its counts stay");

    std::fs::remove_file(lab.lab.home.0.path().join("web-2")).unwrap();
    second.ended().await;
    loop {
        let report = peer.report().await;
        if report.rules[0].state == Some(RuleState::NoReplica) {
            break;
        }
    }
    add_replica(lab.lab.home.0.path(), "web-1");
    let mut tap = lab.tap().await;
    tap.apply().await;
    peer.reported(|replica| replica.state == ReplicaState::Tapped && replica.counts.bytes == 3).await;
}

#[tokio::test]
async fn a_rule_may_name_one_replica() {
    let mut lab = MirrorLab::start().await;
    add_replica(lab.lab.home.0.path(), "web-2");
    let mut peer = lab.lab.connect("alice").await;
    peer.tell(1, vec![Rule { replica: Some("web-2".to_owned()), ..rule(1, 80) }]).await;
    let mut tap = lab.tap().await;
    tap.apply().await;
    assert_eq!(peer.applied(1).await, [on(1)]);
    let gateway::cluster::ReplicaPlace::Netns(path) = &tap.place else { panic!("{tap:?}") };
    assert!(path.ends_with("web-2"));
    assert!(!lab.has_started_a_tap());
    peer.tell(2, vec![Rule { replica: Some("web-9".to_owned()), ..rule(1, 80) }]).await;
    let replicas = vec!["web-1".to_owned(), "web-2".to_owned()];
    assert_eq!(peer.applied(2).await[0].state, RuleState::UnknownReplica { replicas });
    tap.ended().await;
}

#[tokio::test]
async fn taps_end_with_the_last_rule_and_with_a_session_that_leaves() {
    let mut lab = MirrorLab::start().await;
    let (mut alice, tap) = lab.mirrored("alice").await;
    alice.tell(2, Vec::new()).await;
    alice.applied(2).await;
    tap.ended().await;
    alice.tell(3, vec![rule(1, 80)]).await;
    let mut tap = lab.tap().await;
    tap.apply().await;
    alice.applied(3).await;
    let flow = tap.open(80).await;
    tap.send(flow, b"x").await;
    alice.copy().await;
    alice.link.close(CloseCode::Done, "bye").await;
    tap.ended().await;
    lab.lab.metric_becomes("mirrored_flows", 0).await;
    lab.lab.metric_becomes("mirror_rules", 0).await;
    lab.lab.metric_becomes("sessions", 0).await;
}

#[tokio::test]
async fn a_mirrored_flow_holds_no_drain() {
    let mut lab = MirrorLab::start().await;
    let (peer, mut tap) = lab.mirrored("alice").await;
    let flow = tap.open(80).await;
    tap.send(flow, b"x").await;
    let _copy = peer.copy().await;
    lab.lab.shutdown.drain.cancel();
    assert_eq!(peer.closed().await.0, CloseCode::Draining as u64);
    tap.ended().await;
    lab.lab.running.await.unwrap();
}
