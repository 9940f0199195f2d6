//! Entries unite, none opens what another identity was given, and a refusal names the line that would do.

use proptest::prelude::*;

use super::*;

const TCP: RuleProtocol = RuleProtocol::Tcp;

fn allow(name: &str, reach: &[&str], mirror: &[&str]) -> Allow {
    Allow {
        name: NamePattern::parse(name).unwrap(),
        reach: reach.iter().map(|text| text.parse().unwrap()).collect(),
        mirror: mirror.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

fn permissions(allows: Vec<Allow>, identity: &str) -> Permissions {
    Policy::new(allows).for_identity(&identity.parse().unwrap())
}

fn tcp(text: &str) -> Destination {
    Destination::Tcp(text.parse().unwrap())
}

#[test]
fn without_entries_everything_is_reached_and_nothing_mirrored() {
    let alice = permissions(vec![], "alice");
    assert_eq!(alice.may_connect(), Ok(()));
    assert_eq!(alice.may_reach(&tcp("10.0.0.1:80")), Ok(()));
    assert_eq!(alice.may_ask_names(), Ok(()));
    assert!(alice.may_mirror("shop/deploy/web", 80, TCP).is_err() && !alice.may_name("shop/deploy/web"));
    let routes: Vec<Prefix> = ["10.96.0.0/16", "fd00::/64"].iter().map(|text| text.parse().unwrap()).collect();
    assert_eq!(alice.routes(&routes), routes);
}

#[test]
fn all_entries_that_match_count_together_and_no_other() {
    let entries = || {
        vec![
            allow("alice", &["10.96.0.0/24"], &[]),
            allow("al*", &["10.96.1.0/24:443"], &["shop/*:8080"]),
            allow("bob", &["*"], &["*"]),
        ]
    };
    let alice = permissions(entries(), "alice");
    assert_eq!(alice.may_reach(&tcp("10.96.0.7:80")), Ok(()));
    assert_eq!(alice.may_reach(&tcp("10.96.1.7:443")), Ok(()));
    assert!(alice.may_reach(&tcp("10.96.1.7:80")).is_err() && alice.may_reach(&tcp("10.97.0.1:443")).is_err());
    assert_eq!(alice.may_mirror("shop/deploy/web", 8080, TCP), Ok(()));
    assert!(alice.may_mirror("shop/deploy/web", 8081, TCP).is_err() && alice.may_mirror("a/b/c", 8080, TCP).is_err());
    assert!(alice.may_name("shop/deploy/web") && !alice.may_name("bank/deploy/web"));
}

#[test]
fn an_identity_that_no_entry_names_may_nothing() {
    let mallory = permissions(vec![allow("alice", &["*"], &["*"])], "mallory");
    assert_eq!(
        mallory.may_connect().unwrap_err().to_string(),
        "no [[allow]] in the gateway's gateway.toml is for 'mallory': ask whoever runs the gateway to add one with name = \"mallory\""
    );
    assert!(mallory.may_reach(&tcp("10.0.0.1:80")).is_err() && mallory.may_ask_names().is_err());
    assert!(mallory.may_mirror("shop/deploy/web", 80, TCP).is_err());
    assert_eq!(mallory.routes(&["10.96.0.0/16".parse().unwrap()]), []);
}

#[test]
fn a_refusal_names_the_line_that_would_do() {
    let alice = permissions(vec![allow("alice", &[], &[])], "alice");
    assert_eq!(
        alice.may_mirror("shop/deploy/web", 8080, TCP).unwrap_err().to_string(),
        "'alice' may not mirror shop/deploy/web:8080: add mirror = [\"shop/deploy/web:8080\"] to an [[allow]] for 'alice' in gateway.toml"
    );
    let udp = alice.may_mirror("shop/deploy/web", 8080, RuleProtocol::Udp).unwrap_err().to_string();
    assert!(udp.contains("add mirror = [\"shop/deploy/web:8080/udp\"] to"), "{udp}");
    assert_eq!(
        alice.may_reach(&Destination::Udp("[fd00::1]:53".parse().unwrap())).unwrap_err().to_string(),
        "'alice' may not reach [fd00::1]:53/udp: add reach = [\"[fd00::1]:53/udp\"] to an [[allow]] for 'alice' in gateway.toml"
    );
}

#[test]
fn a_hostile_target_name_does_not_break_out_of_what_is_said_about_it() {
    let alice = permissions(vec![], "alice");
    let name = format!("a\"]\x1b[2J\n{}", "x".repeat(10_000));
    let text = alice.may_mirror(&name, 1, TCP).unwrap_err().to_string();
    assert!(text.len() < 2_000 && !text.contains(['\x1b', '\n']) && !text.contains("a\"]"), "{text}");
}

#[test]
fn a_route_is_announced_whole_when_any_of_it_may_be_reached() {
    let routes: Vec<Prefix> = ["10.96.0.0/16", "10.244.0.0/16"].iter().map(|text| text.parse().unwrap()).collect();
    assert_eq!(permissions(vec![allow("*", &["10.96.0.20:443"], &[])], "alice").routes(&routes), routes[..1]);
    assert_eq!(permissions(vec![allow("*", &["10.0.0.0/8"], &[])], "alice").routes(&routes), routes);
    assert_eq!(permissions(vec![allow("*", &["172.16.0.1"], &[])], "alice").routes(&routes), []);
}

proptest! {
    #[test]
    fn following_a_refusal_opens_exactly_what_was_refused(ip: std::net::IpAddr, other: std::net::IpAddr, port in 1u16.., target in "[a-z]{1,5}/[a-z]{1,5}/[a-z]{1,5}") {
        let to = Destination::Tcp((ip.to_canonical(), port).into());
        let closed = permissions(vec![allow("alice", &[], &[])], "alice");
        let Refused::Reach { to: refused, .. } = closed.may_reach(&to).unwrap_err() else { panic!("another refusal") };
        let Refused::Mirror { pattern: mirror, .. } = closed.may_mirror(&target, port, TCP).unwrap_err() else { panic!("another refusal") };
        let opened = permissions(vec![allow("alice", &[&refused.pattern().to_string()], &[&mirror])], "alice");
        prop_assert_eq!(opened.may_reach(&to), Ok(()));
        prop_assert_eq!(opened.may_mirror(&target, port, TCP), Ok(()));
        prop_assert_eq!(opened.may_reach(&Destination::Tcp((other, port).into())).is_ok(), other == ip.to_canonical());
    }
}
