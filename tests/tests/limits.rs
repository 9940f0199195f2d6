//! A gateway that has all it can have: what is new fails, is counted and said once, and everything else goes on.

use cli::demo::plan;
use tests::{
    lab::{Lab, PATIENCE},
    process, programs,
    sockets::udp,
    wait,
};

/// Of these the gateway keeps 64 for what is no flow.
const DESCRIPTORS: usize = 128;
const FLOWS: usize = 64;

#[test]
fn a_gateway_without_descriptors_fails_new_flows_and_goes_on_accepting_and_answering() {
    let lab = Lab::new();
    let config = lab.write_gateway_config().expect("a config");
    let limited = format!("ulimit -n {DESCRIPTORS} && exec \"$0\" run --config \"$1\"");
    let mut command = lab.gateway.command("bash");
    let gateway = lab.spawn("gateway", command.args(["-c", &limited]).arg(programs::adit_gateway()).arg(config));
    lab.wait_for_gateway_port(|| {});
    wait::until("the gateway says that it has too few", PATIENCE, || {
        gateway.log().contains("limits.streams") && gateway.log().contains("LimitNOFILE")
    });
    lab.connect();

    let flow = || {
        let socket = udp(&lab.host, plan::ECHO.v4.into(), plan::ECHO_PORT);
        socket.send(b"hello").expect("sent");
        socket
    };
    let counted = |line: &str| {
        let metrics =
            process::run(lab.gateway.command("curl").args(["-sS", &format!("http://{}/metrics", plan::METRICS)]));
        let found = metrics.lines().find_map(|counter| counter.strip_prefix(line)?.trim().parse::<usize>().ok());
        found.unwrap_or_else(|| panic!("no {line} in {metrics}"))
    };
    let flows: Vec<_> = (0..FLOWS).map(|_| flow()).collect();
    for socket in &flows {
        assert_eq!(socket.recv(&mut [0; 16]).expect("an echo"), 5);
    }
    let beyond: Vec<_> = (0..FLOWS).map(|_| flow()).collect();
    wait::until("what is too much is counted", PATIENCE, || {
        counted("adit_gateway_dropped_datagrams_total{reason=\"no_descriptor\"}") == beyond.len()
    });
    let said = gateway.log().matches("no descriptor is left").count();
    assert_eq!(said, 1, "{}", gateway.log());

    // Names and another session, over either carrier.
    assert!(lab.on_host("dig +short web.shop").contains("10.96.0.20"));
    for carrier in ["udp", "tcp"] {
        let directory = lab.directory().join(format!("other-{carrier}"));
        let other = |mut command: std::process::Command| process::run(command.env("ADIT_STATE_DIR", &directory));
        other(lab.connect_command(&lab.issue_identity("alice"), &["--carrier", carrier]));
        other(lab.adit(&["quit"]));
    }
    for socket in &flows {
        socket.send(b"again").expect("sent");
        assert_eq!(socket.recv(&mut [0; 16]).expect("an echo"), 5);
    }
}
