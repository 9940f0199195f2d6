//! What a command is answered: a rule that stands, or why there is none.

use std::net::UdpSocket;

use link::rules::{MirrorReport, ReplicaReport, ReplicaState, RuleOutcome, RuleReport, RuleState};

use super::*;

fn rule(listener: Listener) -> NewRule {
    NewRule {
        target: "shop/deploy/web".to_owned(),
        port: 8080,
        protocol: RuleProtocol::Udp,
        listener,
        replica: None,
        sample: link::rules::Sample::ALL,
        max_rate: None,
        existing: crate::control::mirror_message::Existing::Http,
        proxy_protocol: false,
    }
}

async fn rejection(rules: &HostRules, new: NewRule) -> Rejection {
    let cluster = ["10.96.0.0/16".parse().unwrap()];
    let replies = add(rules, vec![new], &cluster).await;
    let Standing::Rejected { why, .. } = replies[0].standing else { panic!("{replies:?}") };
    assert_eq!(replies[0].id, None);
    why
}

#[tokio::test]
async fn a_rule_that_makes_no_sense_is_rejected_with_the_reason() {
    let rules = HostRules::default();
    let own = UdpSocket::bind("127.0.0.1:0").unwrap();
    let good = rule(Listener::At("127.0.0.1:1".parse().unwrap()));
    let replies = add(&rules, vec![good.clone()], &[]).await;
    assert!(matches!(replies[0].standing, Standing::Waiting { .. }), "{replies:?}");
    let other = NewRule { port: 8081, ..good.clone() };
    let own = Listener::At(own.local_addr().unwrap());
    let in_cluster = Listener::At("[::ffff:10.96.1.1]:80".parse().unwrap());
    let no_port = Listener::At("127.0.0.1:0".parse().unwrap());
    for (new, why) in [
        (good, Rejection::Duplicate),
        (NewRule { listener: own, ..other.clone() }, Rejection::OwnPort),
        (NewRule { listener: in_cluster, ..other.clone() }, Rejection::InCluster),
        (NewRule { listener: no_port, ..other.clone() }, Rejection::Invalid),
        (NewRule { proxy_protocol: true, ..other.clone() }, Rejection::Invalid),
        (NewRule { target: "web".to_owned(), ..other.clone() }, Rejection::Invalid),
        (NewRule { target: "a/b/\u{1b}".to_owned(), ..other.clone() }, Rejection::Invalid),
        (NewRule { replica: Some(String::new()), ..other }, Rejection::Invalid),
    ] {
        assert_eq!(rejection(&rules, new.clone()).await, why, "{new:?}");
    }
    assert_eq!(rules.statuses().len(), 1);
}

#[tokio::test]
async fn what_the_gateway_refuses_is_not_kept() {
    let rules = HostRules::default();
    let link = rules.link_up(None);
    let (first, second) = (rule(Listener::Print), NewRule { port: 8081, ..rule(Listener::Print) });
    let (replies, ()) = tokio::join!(add(&rules, vec![first.clone(), first, second], &[]), async {
        let mut changes = rules.changes();
        changes.wait_for(|generation| *generation == 1).await.unwrap();
        let refused = RuleState::Refused { reason: "mirror = [\"shop/deploy/web\"]".to_owned() };
        let outcomes = [RuleOutcome { id: 1, state: refused }, RuleOutcome { id: 2, state: RuleState::On }];
        rules.applied(link, 1, &outcomes);
        let replica = ReplicaReport { state: ReplicaState::Tapped, ..ReplicaReport::default() };
        let report = RuleReport { id: 2, state: None, replicas: vec![replica] };
        rules.reported(link, MirrorReport { rules: vec![report] });
        // The one that is refused is taken away again, which nobody waits for.
        changes.wait_for(|generation| *generation == 2).await.unwrap();
    });
    assert!(matches!(&replies[0].standing, Standing::Refused { reason } if reason.contains("mirror")), "{replies:?}");
    assert!(matches!(replies[1].standing, Standing::Rejected { why: Rejection::Duplicate, .. }));
    assert_eq!((replies[2].id, &replies[2].standing), (Some(2), &Standing::On));
    assert_eq!(rules.snapshot().rules.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_does_not_answer_is_told_and_nothing_is_lost() {
    let rules = HostRules::default();
    rules.link_up(None);
    let replies = add(&rules, vec![rule(Listener::Print)], &[]).await;
    assert!(
        matches!(&replies[0].standing, Standing::Waiting { reason } if reason.contains("not answered")),
        "{replies:?}"
    );
    assert_eq!(rules.snapshot().rules.len(), 1);
}

#[tokio::test]
async fn a_rule_that_is_only_printed_goes_with_its_last_watcher() {
    let rules = HostRules::default();
    let id = add(&rules, vec![rule(Listener::Print)], &[]).await[0].id.unwrap();
    let (first, second) = (watch(&rules, &[id]).unwrap(), watch(&rules, &[id]).unwrap());
    assert!(watch(&rules, &[id + 1]).is_none());
    unwatch(&rules, &[id], first).await;
    assert_eq!(rules.statuses().len(), 1);
    unwatch(&rules, &[id], second).await;
    assert!(rules.statuses().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_is_only_printed_goes_when_nobody_comes_to_watch() {
    let rules = HostRules::default();
    let watched = add(&rules, vec![rule(Listener::Print)], &[]).await[0].id.unwrap();
    let unwatched = add(&rules, vec![NewRule { port: 8081, ..rule(Listener::Print) }], &[]).await[0].id.unwrap();
    let _watcher = watch(&rules, &[watched]).unwrap();
    expect_watchers(&rules, &[watched, unwatched]).await;
    assert!(rules.statuses().iter().map(|status| status.id).eq([watched]));
}

#[tokio::test]
async fn watchers_of_a_rule_that_is_taken_away_are_told() {
    let rules = HostRules::default();
    let id = add(&rules, vec![rule(Listener::Print)], &[]).await[0].id.unwrap();
    let mut watcher = watch(&rules, &[id]).unwrap();
    remove(&rules, &Selector::All).await;
    assert_eq!(watcher.next(1).await, None);
}
