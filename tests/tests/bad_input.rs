//! What goes wrong is named with its remedy and has its exit code, and nothing on the machine has changed.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use cli::demo::{echo, plan, services::Services};
use link::{
    control::Welcome,
    version::{VERSION, Version},
};
use tests::{
    impostor,
    lab::{Lab, PATIENCE},
    observe::NetworkState,
    process::{self, Process},
    programs, wait,
};
use tunnel::control::status::Status;

const USAGE: i32 = 2;
const REFUSED: i32 = 4;
const UNREACHABLE: i32 = 5;
const NO_PRIVILEGE: i32 = 6;

/// Runs a `connect` that must fail with `code`, say all `words`, and change nothing.
#[track_caller]
fn fails(lab: &Lab, command: &mut Command, code: i32, words: &[&str]) {
    let before = NetworkState::of(&lab.host);
    let output = process::output(command);
    let told = process::describe(command, &output);
    assert_eq!(output.status.code(), Some(code), "{told}");
    let message = String::from_utf8_lossy(&output.stderr);
    for word in words {
        assert!(message.contains(word), "no '{word}' in: {told}");
    }
    assert_eq!(before.difference(&NetworkState::of(&lab.host)), "", "{told}");
}

fn with_gateway() -> (Lab, Process) {
    let lab = Lab::new();
    let gateway = lab.start_gateway();
    (lab, gateway)
}

#[test]
fn an_identity_file_that_cannot_be_used_is_named() {
    let (lab, _gateway) = with_gateway();
    let path = |name: &str| lab.directory().join(name);
    let missing = path("missing.pem");
    fails(&lab, &mut lab.connect_command(&missing, &[]), USAGE, &["missing.pem", "adit-gateway identity issue"]);

    let identity = lab.issue_identity("alice");
    let pem = fs::read_to_string(&identity).expect("written");
    let write = |name: &str, text: &str, mode: u32| {
        fs::write(path(name), text).expect("written");
        fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).expect("set");
        path(name)
    };
    let open = write("open.pem", &pem, 0o644);
    fails(&lab, &mut lab.connect_command(&open, &[]), USAGE, &["open.pem", "chmod 600"]);
    let noise = write("noise.pem", "not an identity at all", 0o600);
    fails(&lab, &mut lab.connect_command(&noise, &[]), USAGE, &["noise.pem", "no identity"]);
    let cut = write("cut.pem", &pem[..pem.len() / 3], 0o600);
    fails(&lab, &mut lab.connect_command(&cut, &[]), USAGE, &["cut.pem"]);
}

#[test]
fn an_expired_identity_says_when_it_ended() {
    let (lab, _gateway) = with_gateway();
    let day = Duration::from_secs(86_400);
    let long_ago = SystemTime::now() - 30 * day;
    let state = lab.directory().join("gateway-state");
    let authority = certs::Authority::open_or_create(&state, long_ago).expect("the gateway's authority");
    let name = "alice".parse().expect("a name");
    let identity = authority.issue_client(&name, day, long_ago).expect("an identity");
    let path = lab.directory().join("expired.pem");
    identity.write_new(&path).expect("written");
    fails(&lab, &mut lab.connect_command(&path, &[]), USAGE, &["expired.pem", "expired", "identity issue"]);
}

#[test]
fn an_identity_of_another_gateway_is_refused() {
    let (lab, _gateway) = with_gateway();
    let other = Lab::new();
    let foreign = other.issue_identity("mallory");
    let mut command = lab.connect_command(&foreign, &[]);
    let before = NetworkState::of(&lab.host);
    let output = process::output(&mut command);
    let told = process::describe(&command, &output);
    assert!([Some(REFUSED), Some(UNREACHABLE)].contains(&output.status.code()), "{told}");
    assert!(told.contains("identity"), "{told}");
    assert_eq!(before.difference(&NetworkState::of(&lab.host)), "");
}

#[test]
fn a_gateway_that_is_not_there_is_said_to_be_unreachable() {
    let lab = Lab::new();
    let identity = lab.issue_identity("alice");
    fails(&lab, &mut lab.connect_command(&identity, &[]), UNREACHABLE, &["198.51.100.1:7844", "adit-gateway"]);
}

#[test]
fn a_server_that_is_no_gateway_is_not_waited_for() {
    let lab = Lab::new();
    let identity = lab.issue_identity("alice");
    let address = (plan::UPLINK_GATEWAY.v4, plan::GATEWAY_PORT).into();
    let _stranger = Services::start(&lab.gateway, move |supervisor| {
        echo::tcp(supervisor, address)?;
        echo::udp(supervisor, address)
    });
    fails(&lab, &mut lab.connect_command(&identity, &[]), UNREACHABLE, &["198.51.100.1:7844"]);
}

#[test]
fn a_gateway_that_claims_too_much_is_refused() {
    for claim in ["0.0.0.0/0", "::/0", "127.0.0.0/8", "::1/128"] {
        let lab = Lab::new();
        let identity = lab.issue_identity("alice");
        let routes = vec![claim.parse().expect("a prefix")];
        let _impostor = impostor::start(&lab, Welcome { routes, ..impostor::honest_welcome() });
        fails(&lab, &mut lab.connect_command(&identity, &[]), REFUSED, &[claim, "routes"]);
    }
}

#[test]
fn a_gateway_of_another_major_version_is_told_apart() {
    let lab = Lab::new();
    let identity = lab.issue_identity("alice");
    let version = Version { major: VERSION.major + 1, minor: 0 };
    let _impostor = impostor::start(&lab, Welcome { version, ..impostor::honest_welcome() });
    fails(&lab, &mut lab.connect_command(&identity, &[]), UNREACHABLE, &["upgrade adit on this machine"]);
}

#[test]
fn a_gateway_of_a_later_minor_version_is_talked_to() {
    let lab = Lab::new();
    let identity = lab.issue_identity("alice");
    let version = Version { major: VERSION.major, minor: VERSION.minor + 5 };
    let _impostor = impostor::start(&lab, Welcome { version, ..impostor::honest_welcome() });
    process::run(&mut lab.connect_command(&identity, &[]));
    assert_eq!(lab.status().summary.link.protocol, Some(VERSION.to_string()));
}

#[test]
fn a_revoked_identity_ends_and_the_next_of_its_name_is_good() {
    let (lab, _gateway) = with_gateway();
    lab.connect();
    let identity = lab.issue_identity("alice");
    let config = lab.write_gateway_config().expect("a config");
    let manage = |arguments: &[&str]| {
        let mut command = lab.gateway.command(programs::adit_gateway());
        process::run(command.arg("identity").args(arguments).args(["--name", "alice", "--config"]).arg(&config));
    };
    manage(&["revoke"]);
    wait::until("the session is told", PATIENCE, || {
        lab.status().summary.error.is_some_and(|error| error.contains("revoked"))
    });
    process::run(&mut lab.adit(&["quit"]));
    fails(&lab, &mut lab.connect_command(&identity, &[]), REFUSED, &["revoked", "identity issue"]);
    let next = lab.directory().join("next.pem");
    manage(&["issue", "--out", next.to_str().expect("UTF-8")]);
    process::run(&mut lab.connect_command(&next, &[]));
}

#[test]
fn a_second_session_in_the_same_directory_is_refused_and_the_first_goes_on() {
    let (lab, _gateway) = with_gateway();
    lab.connect();
    let identity = lab.issue_identity("bob");
    let pid = lab.status().summary.pid;
    let mut command = lab.connect_command(&identity, &[]);
    let output = process::output(&mut command);
    let told = process::describe(&command, &output);
    assert!(!output.status.success(), "{told}");
    assert!(told.contains("adit quit") && told.contains("ADIT_STATE_DIR"), "{told}");
    assert_eq!(lab.status().summary.pid, pid);
    assert!(lab.on_host("curl -sS http://web.shop/").starts_with("web.shop greets"));
}

#[test]
fn a_machine_without_tun_is_told_how_to_get_it() {
    let (lab, _gateway) = with_gateway();
    let identity = lab.issue_identity("alice");
    let connect = lab.connect_command(&identity, &[]);
    let hide = "mount -t tmpfs none /dev/net && exec \"$@\"";
    let mut command = inside(&lab, &["unshare", "--mount", "bash", "-c", hide, "bash"], &connect);
    fails(&lab, &mut command, NO_PRIVILEGE, &["/dev/net/tun", "modprobe tun"]);
}

#[test]
fn a_user_without_the_capability_is_told_to_use_root() {
    let (lab, _gateway) = with_gateway();
    let identity = lab.issue_identity("alice");
    let connect = lab.connect_command(&identity, &[]);
    let without = "-net_admin,-sys_admin";
    let mut command = inside(&lab, &["setpriv", "--bounding-set", without, "--inh-caps", without], &connect);
    fails(&lab, &mut command, NO_PRIVILEGE, &["sudo", "CAP_NET_ADMIN"]);
}

/// `command` behind a wrapper on the host, with its environment.
fn inside(lab: &Lab, wrapper: &[&str], command: &Command) -> Command {
    let mut wrapped = lab.host.command(wrapper[0]);
    wrapped.args(&wrapper[1..]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        wrapped.env(key, value.expect("only set"));
    }
    wrapped
}

#[test]
fn a_disk_that_fills_up_with_logs_stops_nothing() {
    let (lab, _gateway) = with_gateway();
    let identity = lab.issue_identity("alice");
    // A state directory in a small file system of the host's mount namespace, filled to the last byte once joined.
    let directory = lab.directory().join("full");
    fs::create_dir(&directory).expect("made");
    let path = directory.display().to_string();
    lab.on_host(&format!("mount -t tmpfs -o size=256k,mode=700 none {path}"));
    let there = |mut command: Command| {
        command.env("ADIT_STATE_DIR", &path);
        command
    };
    process::run(&mut there(lab.connect_command(&identity, &["--log-level", "trace"])));
    lab.on_host(&format!("cat /dev/zero > {path}/filler 2>/dev/null || true"));
    wait::until("log lines are lost and counted", PATIENCE, || {
        assert!(lab.on_host("curl -sS http://web.shop/").starts_with("web.shop greets"));
        let status = process::run(&mut there(lab.adit(&["status", "-o", "json"])));
        serde_json::from_str::<Status>(&status).expect("a status").log_failures > 0
    });
    process::run(&mut there(lab.adit(&["quit"])));
    // Leaving worked; joining again does too, or says what is full.
    let mut again = there(lab.connect_command(&identity, &[]));
    let output = process::output(&mut again);
    let told = process::describe(&again, &output);
    assert!(output.status.success() || told.contains("No space left") && told.contains(&path), "{told}");
}

/// Runs the gateway with a configuration that it must refuse, saying all `words`.
#[track_caller]
fn gateway_refuses(lab: &Lab, change: impl FnOnce(String) -> String, words: &[&str]) {
    let good = plan::gateway_config(&lab.directory().join("gateway-state"));
    let path = lab.directory().join("bad.toml");
    fs::write(&path, change(good)).expect("written");
    let mut command = run_gateway(lab, &path);
    let output = process::output(&mut command);
    let told = process::describe(&command, &output);
    assert_eq!(output.status.code(), Some(USAGE), "{told}");
    for word in words {
        assert!(told.contains(word), "no '{word}' in: {told}");
    }
}

fn run_gateway(lab: &Lab, config: &Path) -> Command {
    let mut command = lab.gateway.command(programs::adit_gateway());
    command.args(["run", "--config"]).arg(config);
    command
}

#[test]
fn a_wrong_configuration_is_named_by_line_and_key() {
    let lab = Lab::new();
    gateway_refuses(&lab, |good| good.replace("domain ", "domian "), &["bad.toml:7", "domian", "domain"]);
    let overlap = |good: String| good.replace("[\"10.96.0.0/16\"", "[\"10.96.0.0/16\", \"10.96.7.0/24\"");
    gateway_refuses(&lab, overlap, &["bad.toml:9", "10.96.7.0/24", "10.96.0.0/16"]);
    let everything = |good: String| good.replace("\"10.96.0.0/16\"", "\"0.0.0.0/0\"");
    gateway_refuses(&lab, everything, &["bad.toml:9", "0.0.0.0/0"]);
    let target = |good: String| format!("{good}\n[[target]]\nname = \"shop/deploy/web\"\n");
    gateway_refuses(&lab, target, &["shop/deploy/web", "netns"]);
    gateway_refuses(&lab, |good| good.replace(":7844", ""), &["bad.toml:1", "listen"]);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let (lab, _gateway) = with_gateway();
    let config = lab.write_gateway_config().expect("a config");
    let mut command = run_gateway(&lab, &config);
    let output = process::output(&mut command);
    let told = process::describe(&command, &output);
    assert!(!output.status.success() && told.contains("7844"), "{told}");
}
