//! The command line where no cluster is needed: what scripts and people rely on. Suites with a session are `session.rs` and
//! `bad_input.rs`.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use cli::demo::{echo, plan, services::Services};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tests::{
    lab::{Lab, PATIENCE},
    observe::NetworkState,
    process, programs, wait,
};
use tunnel::control::state_dir::StateDir;

/// `adit` with a state directory of its own, on the test's machine: for commands that touch no network.
fn adit(state_dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(programs::adit());
    command.env("ADIT_STATE_DIR", state_dir).args(arguments);
    command
}

#[track_caller]
fn ends_with(command: &mut Command, code: i32) -> (String, String) {
    let output = process::output(command);
    assert_eq!(output.status.code(), Some(code), "{}", process::describe(command, &output));
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn without_a_session_every_question_ends_with_3() {
    let dir = tempfile::tempdir().unwrap();
    let (_, told) = ends_with(&mut adit(dir.path(), &["status"]), 3);
    assert!(told.starts_with("error: not connected") && told.contains("  try: adit connect"), "{told}");
    let (json, _) = ends_with(&mut adit(dir.path(), &["status", "-o", "json"]), 3);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["state"], "not_connected");
    ends_with(&mut adit(dir.path(), &["status", "--watch"]), 3);
    ends_with(&mut adit(dir.path(), &["quit"]), 3);
}

#[test]
fn wrong_usage_ends_with_2_and_names_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let (_, told) = ends_with(&mut adit(dir.path(), &["connect", "--gateway", "nowhere", "--identity", "x.pem"]), 2);
    assert!(told.contains("HOST:PORT"), "{told}");
    ends_with(&mut adit(dir.path(), &["connect"]), 2);
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (_, told) = ends_with(&mut adit(dir.path(), &["connect", "--gateway", "gw:1", "--identity", "x.pem"]), 2);
    assert!(told.contains("chmod 700 "), "{told}");
}

/// A lab in which a server takes the gateway's packets and never answers, and `adit connect` that waits for it.
fn waiting() -> (Lab, Services, process::Process) {
    let lab = Lab::new();
    let silent = (plan::UPLINK_GATEWAY.v4, plan::GATEWAY_PORT).into();
    let services =
        Services::start(&lab.gateway, move |supervisor| echo::filtered(supervisor, silent)).expect("a server");
    let identity = lab.issue_identity("alice");
    let mut command = lab.connect_command(&identity, &[]);
    let connect = lab.spawn("connect", command.stdin(Stdio::null()));
    let dir = StateDir::new(lab.state_dir());
    wait::until("the session's process holds the lock", PATIENCE, || dir.is_held());
    (lab, services, connect)
}

#[test]
fn ctrl_c_while_waiting_ends_the_session_and_says_so() {
    let (lab, _silent, mut connect) = waiting();
    let before = NetworkState::of(&lab.host);
    connect.signal(Signal::SIGINT);
    assert_eq!(connect.wait(PATIENCE).code(), Some(130));
    assert!(!StateDir::new(lab.state_dir()).is_held());
    assert!(connect.log().contains("interrupted"), "{}", connect.log());
    assert_eq!(before.difference(&NetworkState::of(&lab.host)), "");
}

#[test]
fn a_starter_that_is_killed_takes_its_session_along() {
    let (lab, _silent, connect) = waiting();
    kill(Pid::from_raw(i32::try_from(connect.id()).unwrap()), Signal::SIGKILL).unwrap();
    let dir = StateDir::new(lab.state_dir());
    wait::until("the session's process is gone", Duration::from_secs(3), || !dir.is_held());
}

#[test]
fn a_nameserver_that_cannot_be_captured_is_told_and_addresses_still_work() {
    let lab = Lab::new();
    let _gateway = lab.start_gateway();
    lab.on_host("echo nameserver 127.0.0.53 > /etc/resolv.conf");
    let told = lab.connect();
    assert!(told.contains("warning") && told.contains("127.0.0.53"), "{told}");
    assert!(told.contains("only addresses work"), "{told}");
    assert!(lab.on_host("curl -sS http://10.96.0.20/").starts_with("web.shop greets"));
    let warnings = lab.status().summary.warnings;
    assert_eq!(warnings.iter().filter(|warning| warning.contains("127.0.0.53")).count(), 1, "{warnings:?}");
}

#[test]
fn what_works_less_well_on_this_machine_is_told_with_the_remedy() {
    let lab = Lab::new();
    let _gateway = lab.start_gateway();
    lab.on_host("printf 'search corp.example\\noptions ndots:5\\n' >> /etc/resolv.conf");
    lab.on_host("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
    let told = lab.connect();
    for word in ["corp.example", "ndots:1", "IPv6 is switched off", "disable_ipv6=0"] {
        assert!(told.contains(word), "no {word} in {told}");
    }
    let network = lab.status().summary.network;
    assert!(network.routes.iter().chain(&network.addresses).all(|prefix| prefix.address().is_ipv4()), "{network:?}");
    assert!(lab.on_host("curl -sS http://web.shop/").starts_with("web.shop greets"));
}

#[test]
fn the_configuration_in_the_readme_is_good() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    let (config, rest) = rest.split_once("```").unwrap();
    let (_, rest) = rest.split_once("```toml\n").unwrap();
    let (allow, _) = rest.split_once("```").unwrap();
    let config = format!("{config}\n{allow}");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.toml");
    fs::write(&path, config.replace("/var/lib", dir.path().to_str().unwrap())).unwrap();
    process::run(Command::new(programs::adit_gateway()).args(["check", "--config"]).arg(&path));
}
