//! What a session may not or cannot mirror, and rules that break the protocol.

use std::time::{Duration, Instant};

use link::{
    control::{ToGateway, ToSession, read_message, write_message},
    error_code::{CloseCode, MIRROR_ENDED},
    rules::{MAX_RULES, Rule, RuleState},
};

use serde_json::Value;

use super::harness::{MirrorLab, TARGET, on, rule};

#[tokio::test]
async fn an_unknown_target_is_told_with_the_nearest_names() {
    let mut lab = MirrorLab::start().await;
    let mut peer = lab.lab.connect("alice").await;
    let typo = Rule { target: "shop/deploy/wbe".to_owned(), ..rule(2, 80) };
    let other = Rule { target: "something/else/entirely".to_owned(), ..rule(3, 80) };
    peer.tell(7, vec![typo, rule(1, 80), other]).await;
    let mut tap = lab.tap().await;
    tap.apply().await;
    let outcomes = peer.applied(7).await;
    assert_eq!(outcomes[0], on(1));
    assert_eq!(outcomes[1].state, RuleState::UnknownTarget { nearest: vec!["shop/deploy/web".to_owned()] });
    assert_eq!(outcomes[2].state, RuleState::UnknownTarget { nearest: Vec::new() });
}

#[tokio::test]
async fn a_target_without_replicas_waits_for_them() {
    let mut lab = MirrorLab::start().await;
    std::fs::remove_file(lab.lab.home.0.path().join("web-1")).unwrap();
    let mut peer = lab.lab.connect("alice").await;
    peer.tell(1, vec![rule(1, 80)]).await;
    assert_eq!(peer.applied(1).await[0].state, RuleState::NoReplica);
    super::harness::add_replica(lab.lab.home.0.path(), "web-2");
    let mut tap = lab.tap().await;
    tap.apply().await;
    loop {
        let report = peer.report().await;
        if report.rules[0].state == Some(RuleState::On) {
            break;
        }
    }
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_with_the_missing_line_and_looks_like_what_is_not_there() {
    let lab = MirrorLab::start().await;
    let mut peer = lab.lab.connect("alice").await;
    let names = ["bank/deploy/ledger", "bank/deploy/nothing"];
    let rules = names.iter().zip(1..).map(|(name, id)| Rule { target: (*name).to_owned(), ..rule(id, 80) });
    peer.tell(1, rules.collect()).await;
    for (outcome, name) in peer.applied(1).await.iter().zip(names) {
        let RuleState::Refused { reason } = &outcome.state else { panic!("{outcome:?}") };
        assert!(reason.contains(&format!("add mirror = [\"{name}:80\"] to an [[allow]] for 'alice'")), "{reason}");
    }
    assert_eq!(lab.lab.metric("mirror_tap_starts_total").await, 0);
}

#[tokio::test]
async fn a_permission_taken_away_ends_what_it_allowed_and_given_back_begins_it() {
    let mut lab = MirrorLab::start().await;
    let (mut alice, mut tap) = lab.mirrored("alice").await;
    let flow = tap.open(80).await;
    tap.send(flow, b"one").await;
    let mut copy = alice.copy().await;
    copy.read(3).await;
    let begun = Instant::now();
    lab.lab.reload(|config| config.allows[0].mirror = vec!["shop/deploy/web:81".parse().unwrap()]);
    assert_eq!(copy.reset().await, MIRROR_ENDED.into_inner());
    assert!(begun.elapsed() < Duration::from_secs(2));
    let told = loop {
        let report = alice.report().await;
        if let Some(state) = report.rules.into_iter().find_map(|rule| rule.state) {
            break state;
        }
    };
    let RuleState::Refused { reason } = told else { panic!("{told:?}") };
    assert!(reason.contains(&format!("add mirror = [\"{TARGET}:80\"]")), "{reason}");
    tap.send(flow, b"two").await;
    assert!(!alice.gets_a_copy().await);

    lab.lab.reload(|_| {});
    let mut copy = alice.copy().await;
    tap.send(flow, b"three").await;
    assert_eq!(copy.read(5).await.bytes, b"three");
    let count = |lines: &[Value], event: &str| lines.iter().filter(|line| line["event"] == event).count();
    let audit = lab.lab.audit(|lines| count(lines, "rule_on") == 2 && count(lines, "refused") > 0).await;
    let events: Vec<_> = audit.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert!(events.contains(&"rule_off") && events.contains(&"refused"), "{events:?}");
    let rule = audit.iter().find(|line| line["event"] == "rule_on").unwrap();
    assert_eq!((&rule["target"], &rule["port"], &rule["replicas"][0]), (&TARGET.into(), &80.into(), &"web-1".into()));
}

#[tokio::test]
async fn sets_that_break_the_protocol_close_the_link() {
    let lab = MirrorLab::start().await;
    let many: Vec<Rule> =
        (0..=u32::try_from(MAX_RULES).unwrap()).map(|id| rule(id, 80 + u16::try_from(id).unwrap())).collect();
    let twice = vec![rule(1, 80), rule(2, 80)];
    for (name, rules, reason) in [("many", many, "more than 1024 rules"), ("twice", twice, "the same rule twice")] {
        let mut peer = lab.lab.connect(name).await;
        peer.tell(1, rules).await;
        let (code, said) = peer.closed().await;
        assert_eq!(code, CloseCode::Protocol as u64);
        assert!(said.contains(reason), "{said}");
    }
}

#[tokio::test]
async fn every_generation_is_acknowledged_in_order_and_pings_are_answered_meanwhile() {
    let mut lab = MirrorLab::start().await;
    let mut peer = lab.lab.connect("alice").await;
    // The tap does not answer, so the last one waits for two seconds, and those before it for nobody.
    for generation in 1..=20 {
        peer.tell(generation, vec![rule(1, 80 + u16::try_from(generation).unwrap())]).await;
    }
    write_message(&mut peer.send, &ToGateway::Ping { token: 5 }).await.unwrap();
    let mut generations = Vec::new();
    let mut has_pong = false;
    while generations.len() < 20 {
        let message = read_message::<ToSession>(&mut peer.recv).await.unwrap();
        if let ToSession::RulesApplied { generation, .. } = message {
            generations.push(generation);
        }
        has_pong |= message == ToSession::Pong { token: 5 };
    }
    assert!(generations.into_iter().eq(1..=20) && has_pong);
    let mut tap = lab.tap().await;
    // Only what is wanted in the end matters; the tap may hear of some of it before.
    while tap.apply().await[0].port != 100 {}
}
