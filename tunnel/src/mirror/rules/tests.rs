//! Rules across what gateways say of them: in force, refused, off, and told again on the next link.

use std::pin::pin;

use futures_util::poll;
use link::rules::{
    LossReason, MirrorReport, ReplicaReport, ReplicaState, RuleOutcome, RuleProtocol, RuleReport, RuleState,
};

use super::*;
use crate::control::{
    mirror_message::{Existing, Listener},
    mirror_status::Hole,
};

fn rule(target: &str, port: u16) -> NewRule {
    NewRule {
        target: target.to_owned(),
        port,
        protocol: RuleProtocol::Tcp,
        listener: Listener::Print,
        replica: None,
        sample: link::rules::Sample::ALL,
        max_rate: None,
        existing: Existing::Http,
        proxy_protocol: false,
    }
}

fn outcome(id: u32, state: RuleState) -> RuleOutcome {
    RuleOutcome { id, state }
}

#[tokio::test]
async fn a_rule_is_in_force_when_the_gateway_says_so() {
    let rules = HostRules::default();
    let (ids, generation) = rules.add(vec![rule("shop/deploy/web", 8080)]).unwrap();
    // Without a link there is nothing to wait for.
    rules.settled(generation).await;
    assert!(matches!(rules.replies(&ids)[0].standing, Standing::Waiting { .. }));
    let link = rules.link_up(None);
    let set = rules.snapshot();
    assert_eq!((set.generation, set.rules.len(), set.rules[0].id), (generation, 1, ids[0]));
    let (settled, ()) = tokio::join!(rules.settled(generation), async {
        // Neither another generation nor a former link says anything.
        rules.applied(link, generation - 1, &[outcome(ids[0], RuleState::On)]);
        rules.applied(LinkNumber(link.0 - 1), generation, &[outcome(ids[0], RuleState::On)]);
        assert!(matches!(rules.replies(&ids)[0].standing, Standing::Waiting { .. }));
        rules.applied(link, generation, &[outcome(ids[0], RuleState::On), outcome(99, RuleState::On)]);
    });
    let () = settled;
    assert_eq!(rules.replies(&ids)[0].standing, Standing::On);
}

#[tokio::test]
async fn a_rule_is_at_work_when_no_tap_of_it_has_yet_to_begin() {
    let rules = HostRules::default();
    let (ids, generation) = rules.add(vec![rule("shop/deploy/web", 8080)]).unwrap();
    rules.at_work(&ids).await;
    let link = rules.link_up(None);
    rules.applied(link, generation, &[outcome(ids[0], RuleState::On)]);
    let report = |states: [ReplicaState; 2]| {
        let replica = |(state, name): (_, &str)| ReplicaReport { name: name.to_owned(), state, ..Default::default() };
        let replicas = states.into_iter().zip(["web-1", "web-2"]).map(replica).collect();
        rules.reported(link, MirrorReport { rules: vec![RuleReport { id: ids[0], state: None, replicas }] });
    };
    let failed = || ReplicaState::Failed { reason: "no right to it".to_owned() };
    let mut at_work = pin!(rules.at_work(&ids));
    for (first, second) in [
        (ReplicaState::Starting, failed()),
        (ReplicaState::Tapped, ReplicaState::Starting),
        (ReplicaState::Silent, ReplicaState::Tapped),
    ] {
        report([first, second]);
        assert!(poll!(&mut at_work).is_pending());
    }
    report([ReplicaState::Tapped, failed()]);
    at_work.await;
    // Switched off and on, it is to begin anew.
    rules.switch(false, &Selector::All);
    let (_, generation) = rules.switch(true, &Selector::All);
    rules.applied(link, generation, &[outcome(ids[0], RuleState::On)]);
    assert!(poll!(pin!(rules.at_work(&ids))).is_pending());
}

#[test]
fn what_was_copied_until_a_rule_was_off_is_counted_once() {
    let rules = HostRules::default();
    let link = rules.link_up(None);
    let (ids, generation) = rules.add(vec![rule("shop/deploy/web", 8080)]).unwrap();
    rules.applied(link, generation, &[outcome(ids[0], RuleState::On)]);
    let report = |total| {
        let counts = link::rules::MirrorCounts { total, ..Default::default() };
        let replica = ReplicaReport { name: "web-1".to_owned(), counts, ..Default::default() };
        let state = Some(RuleState::On);
        rules.reported(link, MirrorReport { rules: vec![RuleReport { id: ids[0], state, replicas: vec![replica] }] });
    };
    report(1);
    let (_, generation) = rules.switch(false, &Selector::All);
    // What came since, up to the acknowledgement.
    report(2);
    report(3);
    rules.applied(link, generation, &[]);
    assert_eq!(rules.statuses()[0].standing, Standing::Off);
    let (_, generation) = rules.switch(true, &Selector::All);
    rules.applied(link, generation, &[outcome(ids[0], RuleState::On)]);
    report(4);
    assert_eq!(rules.statuses()[0].replicas[0].connections.all, 7);
}

#[tokio::test]
async fn rules_survive_a_link_and_the_hole_is_told() {
    let rules = HostRules::default();
    let (ids, generation) = rules.add(vec![rule("shop/deploy/web", 8080)]).unwrap();
    let first = rules.link_up(None);
    rules.applied(first, generation, &[outcome(ids[0], RuleState::On)]);
    let counts = link::rules::MirrorCounts { total: 2, bytes: 7, ..Default::default() };
    let replica = ReplicaReport { name: "web-1".to_owned(), counts, nobody_listens: true, ..Default::default() };
    let report = MirrorReport { rules: vec![RuleReport { id: ids[0], state: None, replicas: vec![replica] }] };
    rules.reported(first, report.clone());
    assert!(rules.replies(&ids)[0].nobody_listens);
    rules.link_down(first);
    assert!(matches!(rules.statuses()[0].holes[..], [Hole { until_unix: None, .. }]));
    assert!(matches!(rules.statuses()[0].standing, Standing::Waiting { .. }));
    let second = rules.link_up(None);
    rules.link_down(first);
    rules.applied(second, generation, &[outcome(ids[0], RuleState::On)]);
    rules.reported(second, report);
    let status = &rules.statuses()[0];
    assert!(matches!(status.holes[..], [Hole { until_unix: Some(_), .. }]));
    assert_eq!((status.replicas[0].connections.all, status.replicas[0].bytes), (4, 14));
    assert!(!status.replicas[0].lost.contains_key(&LossReason::Ring));
}

#[tokio::test]
async fn a_gateway_that_knows_no_mirror_is_told_as_such() {
    let rules = HostRules::default();
    rules.link_up(Some("upgrade the gateway".to_owned()));
    let (ids, generation) = rules.add(vec![rule("shop/deploy/web", 8080)]).unwrap();
    rules.settled(generation).await;
    assert_eq!(rules.replies(&ids)[0].standing, Standing::Failed { reason: "upgrade the gateway".to_owned() });
}

#[test]
fn a_selector_means_a_port_or_a_target_by_its_last_parts() {
    let rules = HostRules::default();
    let (ids, _) = rules
        .add(vec![rule("shop/deploy/web", 8080), rule("shop/deploy/web", 8081), rule("shop/pod/myweb", 8080)])
        .unwrap();
    let target = |target: &str, port| Selector::Target { target: target.to_owned(), port };
    for (which, expected) in [
        (Selector::All, vec![0, 1, 2]),
        (Selector::Port { port: 8080 }, vec![0, 2]),
        (target("shop/deploy/web", None), vec![0, 1]),
        (target("web", Some(8081)), vec![1]),
        (target("deploy/web", None), vec![0, 1]),
        (target("eb", None), vec![]),
    ] {
        let expected: Vec<_> = expected.into_iter().map(|at: usize| ids[at]).collect();
        assert_eq!(rules.switch(false, &which).0, expected, "{which:?}");
    }
    assert!(rules.snapshot().rules.is_empty());
    rules.switch(true, &Selector::Port { port: 8081 });
    assert_eq!(rules.snapshot().rules.len(), 1);
    assert_eq!(rules.remove_selected(&Selector::All).0.len(), 3);
    assert!(rules.statuses().is_empty() && rules.live(ids[0]).is_none());
}

#[test]
fn there_are_no_more_rules_than_may_be() {
    let rules = HostRules::default();
    let many: Vec<_> = (1..=1_024).map(|port| rule("shop/deploy/web", port)).collect();
    assert!(rules.add(many).is_some());
    assert!(rules.add(vec![rule("shop/deploy/web", 2_000)]).is_none());
}

#[test]
fn the_largest_set_fits_a_control_message() {
    let rules = HostRules::default();
    let name = "x".repeat(320);
    let many = (1..=1_024).map(|port| NewRule {
        replica: Some(name.clone()),
        max_rate: Some(u64::MAX),
        sample: link::rules::Sample::millionths(123_456),
        existing: Existing::Skip,
        ..rule(&name, port + 10_000)
    });
    rules.add(many.collect()).unwrap();
    let message = link::control::ToGateway::Rules(rules.snapshot());
    assert!(serde_json::to_vec(&message).unwrap().len() < link::control::MAX_MESSAGE_BYTES);
}
