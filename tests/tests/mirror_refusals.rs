//! Mirrors that cannot be: what is said, the exit code, and that nothing else changed. What is allowed, to whom, and when the file changes.

use std::{fs, process::Output, time::Duration};

use cli::demo::{http::RequestLog, plan};
use link::rules::ReplicaState;
use nix::sys::signal::Signal;
use tests::{
    lab::PATIENCE,
    mirror::{Rig, is_requested, until_requested},
    observe::NetworkState,
    process, wait,
};

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const NOT_CONNECTED: i32 = 3;
const REFUSED: i32 = 4;

/// Runs `adit mirror` with `words`, which must fail with `code`, say all of `told`, and change nothing.
#[track_caller]
fn fails(rig: &Rig, words: &str, code: i32, told: &[&str]) {
    let pods = rig.lab.targets();
    let state = || [&rig.lab.host, &pods.web_1].map(NetworkState::of);
    let (before, rules) = (state(), rig.status().mirror.len());
    let (command, output) = rig.try_mirror(words);
    let said = process::describe(&command, &output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in told {
        assert!(text(&output).contains(word), "no '{word}' in: {said}");
    }
    assert!(before.iter().zip(&state()).all(|(before, after)| before.difference(after).is_empty()), "{said}");
    assert_eq!(rig.status().mirror.len(), rules, "{said}");
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_is_typed_wrong_is_answered_with_the_right_form() {
    let rig = Rig::new();
    fails(&rig, "web 8080", USAGE, &["NAMESPACE/KIND/NAME", "shop/deploy/web"]);
    fails(&rig, "deploy/web", USAGE, &["PORT"]);
    fails(&rig, "deploy/web 8080:web:3000", USAGE, &["'web'", "8080:[::1]:3000"]);
    fails(&rig, "deploy/web 0", USAGE, &["1 to 65535"]);
    fails(&rig, "deploy/web 8080 --sample 10", USAGE, &["10%"]);
    fails(&rig, "deploy/web 8080 --max-rate fast", USAGE, &["5MB/s"]);
    fails(&rig, "deploy/web 8080 --existing tls", USAGE, &["skip", "http", "raw"]);
    fails(&rig, "deploy/web 8080 --udp --proxy-protocol", USAGE, &["--proxy-protocol"]);
    fails(&rig, "off 8080:3000", USAGE, &["PORT", "all"]);
    fails(&rig, "off 8080", FAILED, &["no rule is for port 8080", "adit mirror list"]);
}

#[test]
fn unknown_targets_and_replicas_are_answered_with_those_there_are() {
    let rig = Rig::new();
    fails(
        &rig,
        "shop/deploy/wep 8080",
        FAILED,
        &["there is no target shop/deploy/wep", "adit mirror shop/deploy/web 8080"],
    );
    fails(&rig, "deploy/web 8080 --replica web-9", FAILED, &["no replica web-9", "web-1, web-2"]);
}

#[test]
fn a_second_rule_for_the_same_port_is_refused_and_the_first_goes_on() {
    let rig = Rig::new();
    let log = RequestLog::default();
    let _listener = rig.serve_http(&log);
    rig.mirror("deploy/web 8080:3000");
    fails(&rig, "shop/deploy/web 8080:3001", FAILED, &["shop/deploy/web", "8080", "adit mirror rm"]);
    rig.curl(&rig.lab.targets().client, "10.244.1.2", "/first-rule");
    until_requested(&log, "/first-rule");
}

#[test]
fn several_rules_need_a_choice() {
    let rig = Rig::new();
    rig.mirror("deploy/web 8080:3000 9090:3001");
    fails(&rig, "off", USAGE, &["there are 2 rules", "8080", "9090", "all"]);
    assert_eq!(rig.mirror("off deploy/web 9090").lines().count(), 1);
    assert_eq!(rig.mirror("rm all").lines().count(), 2);
}

#[test]
fn a_port_where_nobody_listens_at_the_target_is_allowed_and_said() {
    let rig = Rig::new();
    let told = rig.mirror("deploy/web 8181:3000");
    assert!(told.contains("nothing listens on port 8181 of web-1, web-2"), "{told}");
    assert!(rig.rule().replicas.iter().all(|replica| replica.nobody_listens));
}

#[test]
fn a_target_without_a_replica_is_waited_for() {
    let rig = Rig::new();
    let log = RequestLog::default();
    let _listener = rig.serve_http(&log);
    let pods = rig.lab.targets();
    pods.withdraw(plan::API_1).expect("withdrawn");
    let told = rig.mirror("deploy/api 8080:3000");
    assert!(told.contains("waiting") && told.contains("no replica"), "{told}");
    pods.publish(plan::API_1).expect("published");
    let mut number = 0;
    wait::until("a request arrives", PATIENCE, || {
        number += 1;
        rig.curl(&pods.client, "10.244.3.2", &format!("/api/{number}"));
        log.requests().iter().any(|seen| seen.line.contains("/api/"))
    });
}

#[test]
fn a_path_that_is_no_namespace_fails_by_its_name() {
    let rig = Rig::new();
    let pods = rig.lab.targets();
    pods.withdraw(plan::API_1).expect("withdrawn");
    fs::write(pods.path(plan::API_1), "not a namespace").expect("written");
    let (command, output) = rig.try_mirror("deploy/api 8080:3000");
    let said = process::describe(&command, &output);
    assert_eq!(output.status.code(), Some(FAILED), "{said}");
    assert!(text(&output).contains("api-1 is no namespace: make it"), "{said}");
    assert!(rig.status().mirror.is_empty(), "{said}");
    rig.mirror("deploy/web 9090:3001");
}

#[test]
fn a_replica_that_is_none_is_said_and_the_others_are_copied() {
    let rig = Rig::new();
    let log = RequestLog::default();
    let _listener = rig.serve_http(&log);
    let pods = rig.lab.targets();
    pods.withdraw(plan::WEB_2).expect("withdrawn");
    fs::write(pods.path(plan::WEB_2), "not a namespace").expect("written");
    let (command, output) = rig.try_mirror("deploy/web 8080:3000");
    let said = process::describe(&command, &output);
    assert_eq!(output.status.code(), Some(FAILED), "{said}");
    assert!(text(&output).contains("web-2 is no namespace: make it"), "{said}");
    rig.curl(&pods.client, "10.244.1.2", "/of-the-other");
    until_requested(&log, "/of-the-other");
    fs::remove_file(pods.path(plan::WEB_2)).expect("removed");
    pods.publish(plan::WEB_2).expect("published");
    rig.until("it is copied as well", |rule| {
        rule.replicas.len() == 2 && rule.replicas.iter().all(|replica| replica.state == ReplicaState::Tapped)
    });
}

#[test]
fn without_a_session_nothing_is_mirrored() {
    let rig = Rig::new();
    process::run(&mut rig.lab.adit(&["quit"]));
    for words in ["deploy/web 8080", "off 8080", "list", "rm all"] {
        let (command, output) = rig.try_mirror(words);
        assert_eq!(output.status.code(), Some(NOT_CONNECTED), "{}", process::describe(&command, &output));
    }
}

/// Writes the tables, and has the gateway read them.
#[track_caller]
fn reload(rig: &Rig, tables: &str) {
    rig.lab.allow(tables);
    rig.lab.write_gateway_config().expect("written");
    rig.gateway.as_ref().expect("it runs").signal(Signal::SIGHUP);
}

#[test]
fn what_is_not_allowed_is_refused_with_the_missing_line() {
    let rig = Rig::new();
    reload(&rig, "[[allow]]\nname = \"alice\"\nreach = [\"*\"]\nmirror = [\"shop/deploy/web:8080\"]\n");
    wait::until("the new file is in force", PATIENCE, || {
        let (_, output) = rig.try_mirror("deploy/api 8080:3001");
        if output.status.success() {
            rig.mirror("rm all");
        }
        output.status.code() == Some(REFUSED)
    });
    fails(
        &rig,
        "shop/deploy/api 8080",
        REFUSED,
        &["shop/deploy/api", "mirror = [\"shop/deploy/api:8080\"]", "gateway.toml"],
    );
    fails(&rig, "shop/deploy/web 9090", REFUSED, &["shop/deploy/web:9090"]);
    // Whether there is such a target is not said to whoever may not mirror it.
    fails(&rig, "bank/deploy/vault 8080", REFUSED, &["bank/deploy/vault"]);
    rig.mirror("deploy/web 8080:3000");
}

#[test]
fn a_line_taken_away_ends_what_it_allowed_within_two_seconds() {
    let rig = Rig::new();
    let log = RequestLog::default();
    let _listener = rig.serve_http(&log);
    rig.mirror("deploy/web 8080:3000");
    let client = &rig.lab.targets().client;
    rig.curl(client, "10.244.1.2", "/allowed");
    until_requested(&log, "/allowed");
    reload(&rig, "[[allow]]\nname = \"alice\"\nreach = [\"*\"]\nmirror = [\"shop/deploy/api\"]\n");
    wait::until("the rule is refused", Duration::from_secs(2), || {
        matches!(rig.rule().standing, tunnel::control::mirror_message::Standing::Refused { .. })
    });
    rig.curl(client, "10.244.1.2", "/refused");
    let text = process::run(&mut rig.lab.adit(&["status"]));
    assert!(text.contains("refused") && text.contains("shop/deploy/web"), "{text}");
    assert!(!is_requested(&log, "/refused"));
    // And given back, it is mirrored again without anyone's help.
    reload(&rig, tests::lab::EVERYTHING);
    let mut number = 0;
    wait::until("requests arrive again", PATIENCE, || {
        number += 1;
        rig.curl(client, "10.244.1.2", &format!("/again/{number}"));
        log.requests().iter().any(|seen| seen.line.contains("/again/"))
    });
}

#[test]
fn without_any_allow_nobody_mirrors() {
    let rig = Rig::new();
    reload(&rig, "");
    wait::until("the new file is in force", PATIENCE, || {
        let (_, output) = rig.try_mirror("deploy/web 8080:3000");
        if output.status.success() {
            rig.mirror("rm all");
        }
        output.status.code() == Some(REFUSED)
    });
    fails(&rig, "deploy/web 8080", REFUSED, &["gateway.toml", "mirror"]);
    assert!(rig.lab.on_host("curl -sS http://web/").starts_with("web.shop greets"));
}
