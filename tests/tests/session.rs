//! A session from `adit connect` to its orderly end. Ends of other kinds are in `resilience.rs`.

use std::fs;

use cli::demo::plan;
use nix::sys::signal::Signal;
use tests::{
    lab::{Lab, PATIENCE},
    observe::{NetworkState, Usage, is_alive},
    process, wait,
};
use tunnel::control::status::{State, unix_now};

#[test]
fn connect_returns_when_traffic_flows_and_quit_leaves_nothing() {
    let lab = Lab::new();
    let _gateway = lab.start_gateway();
    let before = NetworkState::of(&lab.host);
    let resolv_conf = lab.on_host("cat /etc/resolv.conf");

    lab.connect();
    assert!(lab.on_host("curl -sS http://web/").starts_with("web.shop greets"));
    let status = lab.status();
    assert_eq!(status.summary.state, State::Connected);
    assert_eq!(status.summary.link.identity, "alice");
    assert!(status.summary.link.identity_ends_unix.is_some_and(|ends| ends > unix_now()));
    assert_eq!(status.summary.dns.domain, plan::CLUSTER_DOMAIN);
    assert_eq!(status.summary.network.routes.len(), plan::CLUSTER_ROUTES.len());
    assert!(status.flows.tcp_total >= 1);
    assert!(is_alive(status.summary.pid));
    assert_ne!(before.difference(&NetworkState::of(&lab.host)), "");

    process::run(&mut lab.adit(&["quit"]));
    assert_eq!(before.difference(&NetworkState::of(&lab.host)), "");
    assert_eq!(lab.on_host("cat /etc/resolv.conf"), resolv_conf);
    assert!(!is_alive(status.summary.pid));
    assert!(!lab.cluster_names_resolve() && lab.ordinary_names_resolve());
    assert_eq!(process::output(&mut lab.adit(&["status"])).status.code(), Some(3));
    assert_eq!(process::output(&mut lab.adit(&["quit"])).status.code(), Some(3));
}

#[test]
fn either_carrier_can_be_asked_for() {
    let lab = Lab::new();
    let _gateway = lab.start_gateway();
    for carrier in ["udp", "tcp"] {
        lab.connect_with(&["--carrier", carrier]);
        assert_eq!(lab.status().summary.link.carrier.as_deref(), Some(carrier));
        assert!(lab.on_host("curl -sS http://web.shop/").starts_with("web.shop greets"));
        assert!(lab.on_host("ping -c 1 -W 3 10.96.0.20").contains("1 received"));
        process::run(&mut lab.adit(&["quit"]));
    }
}

#[test]
fn a_session_in_the_foreground_ends_with_its_signal() {
    let lab = Lab::new();
    let _gateway = lab.start_gateway();
    let before = NetworkState::of(&lab.host);
    let identity = lab.issue_identity("alice");
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut session = lab.spawn("foreground", &mut lab.connect_command(&identity, &["--foreground"]));
        wait::until("names resolve", PATIENCE, || lab.cluster_names_resolve());
        session.signal(signal);
        let status = session.wait(PATIENCE);
        assert_eq!(status.code(), Some(0), "{signal}");
        assert_eq!(before.difference(&NetworkState::of(&lab.host)), "", "{signal}");
    }
}

#[test]
fn two_hundred_cycles_leave_everything_flat() {
    let lab = Lab::new();
    let gateway = lab.start_gateway();
    let identity = lab.issue_identity("alice");
    let cycle = || {
        process::run(&mut lab.connect_command(&identity, &[]));
        assert!(lab.on_host("curl -sS http://web.shop/").starts_with("web.shop greets"));
        process::run(&mut lab.adit(&["quit"]));
    };
    let files = || {
        let entries = fs::read_dir(lab.state_dir()).expect("the state directory");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        names
    };
    // What is unused goes back to the kernel a second after it was freed; so the least of many looks is what is held.
    let resident = || Usage::of(gateway.id()).expect("the gateway runs").resident_bytes;
    (0..20).for_each(|_| cycle());
    let early_bytes = (0..20).map(|_| (cycle(), resident()).1).min().expect("20 cycles");
    let (network, state_files) = (NetworkState::of(&lab.host), files());
    let early = Usage::of(gateway.id()).expect("the gateway runs");
    (40..200).for_each(|_| cycle());
    assert_eq!(network.difference(&NetworkState::of(&lab.host)), "");
    assert_eq!(files(), state_files);
    wait::until("the gateway has let go of the last session", PATIENCE, || {
        let late = Usage::of(gateway.id()).expect("the gateway runs");
        // A runtime keeps some threads at hand for calls that wait for files; a leak would be hundreds.
        late.files <= early.files && late.threads <= early.threads + 4
    });
    wait::until("no more than 4 MiB more is held than after 40 sessions", PATIENCE, || {
        resident() < early_bytes + (4 << 20)
    });
}
