//! Who may do what, as a developer meets it: refused with a code and the missing line, prohibited by errno, taken away by a SIGHUP.

use std::{fs, io::ErrorKind, time::Duration};

use cli::demo::plan;
use nix::sys::signal::Signal;
use tests::{
    lab::{Lab, PATIENCE},
    observe::NetworkState,
    process,
    sockets::{dial, dial_error},
    wait,
};
use tunnel::control::status::State;

/// "As fast as the dial", with what a machine busy with other tests adds.
const AT_ONCE: Duration = Duration::from_millis(500);
/// What a reload takes away must have ended by then.
const TAKEN_AWAY: Duration = Duration::from_secs(2);

const WEB_ONLY: &str = "[[allow]]\nname = \"al*\"\nreach = [\"10.96.0.20:80/tcp\"]\n";

#[test]
fn an_identity_that_no_entry_names_is_refused_with_the_missing_line_and_nothing_changes() {
    let lab = Lab::new();
    lab.set_gateway_tables(WEB_ONLY);
    let _gateway = lab.start_gateway();
    let mallory = lab.issue_identity("mallory");
    let before = NetworkState::of(&lab.host);
    let mut command = lab.connect_command(&mallory, &[]);
    let output = process::output(&mut command);
    let told = process::describe(&command, &output);
    assert_eq!(output.status.code(), Some(4), "{told}");
    assert!(told.contains("no [[allow]]") && told.contains("name = \"mallory\""), "{told}");
    assert_eq!(before.difference(&NetworkState::of(&lab.host)), "", "{told}");
}

#[test]
fn what_is_not_allowed_is_prohibited_at_once_and_counted_and_only_routes_of_use_are_taken() {
    let lab = Lab::new();
    lab.set_gateway_tables(WEB_ONLY);
    let _gateway = lab.start_gateway();
    lab.connect();
    assert_eq!(lab.status().summary.network.routes, ["10.96.0.0/16".parse().expect("a prefix")]);
    assert!(lab.on_host("curl -sS http://web.shop/").starts_with("web.shop greets"));
    for (address, port) in [(plan::WEB.v4, plan::CLOSED_PORT), (plan::WEB_DEFAULT.v4, 80)] {
        let (error, after) = dial_error(&lab.host, address.into(), port);
        assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{address}:{port}: {error}");
        assert!(after < AT_ONCE, "{address}:{port}: {after:?}");
    }
    assert_eq!(lab.status().flows.prohibited, 2);
    let text = process::run(&mut lab.adit(&["status"]));
    assert!(text.contains("2 not permitted by the gateway"), "{text}");
}

#[test]
fn a_hangup_takes_away_and_gives_back_without_a_new_session() {
    let lab = Lab::new();
    lab.set_gateway_tables(WEB_ONLY);
    let gateway = lab.start_gateway();
    lab.connect();
    let reload = |tables: &str| {
        lab.set_gateway_tables(tables);
        lab.write_gateway_config().expect("a config");
        gateway.signal(Signal::SIGHUP);
    };
    let mut kept = dial(&lab.host, plan::WEB.v4.into(), 80).expect("allowed");

    // Everything but this one connection's address.
    reload("[[allow]]\nname = \"alice\"\nreach = [\"10.96.0.21\"]\n");
    kept.set_read_timeout(Some(TAKEN_AWAY)).expect("a timeout");
    let ended = std::io::Read::read(&mut kept, &mut [0]);
    assert_eq!(ended.expect_err("taken away").kind(), ErrorKind::ConnectionReset);
    let (error, _) = dial_error(&lab.host, plan::WEB.v4.into(), 80);
    assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{error}");
    assert!(lab.on_host("curl -sS http://web.default/").starts_with("web.default greets"));

    reload("[[allow]]\nname = \"bob\"\nreach = [\"*\"]\n");
    wait::until("the session says what is missing", PATIENCE, || {
        let summary = lab.status().summary;
        summary.state == State::Reconnecting && summary.error.is_some_and(|error| error.contains("name = \"alice\""))
    });
    reload(WEB_ONLY);
    wait::until("the session is back", PATIENCE, || lab.status().summary.state == State::Connected);
    assert!(lab.on_host("curl -sS http://web.shop/").starts_with("web.shop greets"));

    let log = fs::read_to_string(lab.directory().join("gateway.log")).expect("a log");
    for event in ["session_opened", "session_closed", "refused", "reloaded"] {
        assert!(log.contains(&format!("\"event\":\"{event}\"")), "no {event} in {log}");
    }
}
