//! A gateway that is told to end: open flows go on, new ones go to whoever answers next, and nobody is left without an answer.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::Shutdown,
    time::{Duration, Instant},
};

use cli::demo::plan;
use nix::sys::signal::Signal;
use tests::{
    lab::{Lab, PATIENCE},
    process, programs,
    sockets::{accept, dial, echo_stream, echoes, listen},
    wait,
};
use tunnel::control::status::State;

#[test]
fn a_gateway_that_ends_in_order_lets_open_flows_finish() {
    let lab = Lab::new();
    let mut gateway = lab.start_gateway();
    lab.connect();
    let listener = listen(&lab.cluster, plan::SPARE.v4.into(), 0);
    let port = listener.local_addr().expect("an address").port();
    let mut near = dial(&lab.host, plan::SPARE.v4.into(), port).expect("a connection");
    let mut far = accept(&listener);
    gateway.signal(Signal::SIGTERM);
    for number in 0..10_u8 {
        far.write_all(&[number]).expect("sent");
        let mut byte = [0];
        near.read_exact(&mut byte).expect("the flow goes on");
        assert_eq!(byte, [number]);
    }
    far.shutdown(Shutdown::Write).expect("half-closed");
    assert_eq!(near.read(&mut [0; 1]).expect("an orderly end"), 0);
    drop((near, far));
    assert_eq!(gateway.wait(PATIENCE).code(), Some(0));
}

#[test]
fn a_gateway_that_ends_hands_new_flows_to_the_next_and_keeps_its_own() {
    let lab = Lab::new();
    let addresses = plan::UPLINK_GATEWAY;
    lab.on_host(&format!("printf '%s gateways\\n' {} {} >> /etc/hosts", addresses.v4, addresses.v6));
    let configure = |name: &str, listen: &str, metrics: &str| {
        let config = plan::gateway_config(&lab.directory().join("gateway-state"));
        let config = config.replace("0.0.0.0", listen).replace(plan::METRICS, metrics);
        let path = lab.directory().join(name);
        fs::write(&path, config).expect("written");
        path
    };
    let mut first = lab.start_gateway_with(&configure("first.toml", &addresses.v4.to_string(), plan::METRICS));
    let name = format!("gateways:{}", plan::GATEWAY_PORT);
    let mut connect = lab.adit(&["connect", "--gateway", &name, "--identity"]);
    process::run(connect.arg(lab.issue_identity("alice")));
    let mut old = echo_stream(&lab.host);
    assert!(echoes(&mut old));

    first.signal(Signal::SIGTERM);
    wait::until("the session knows", PATIENCE, || lab.status().summary.state == State::Reconnecting);
    let asked = Instant::now();
    let refused = dial(&lab.host, plan::ECHO.v4.into(), plan::ECHO_PORT).expect_err("nobody takes new flows");
    assert_eq!(refused.kind(), ErrorKind::NetworkUnreachable, "{refused}");
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert!(lab.cluster_names_resolve(), "by the gateway that drains");

    let next = configure("second.toml", &format!("[{}]", addresses.v6), "127.0.0.1:9465");
    let mut second = lab.gateway.command(programs::adit_gateway());
    let _second = lab.spawn("second", second.args(["run", "--config"]).arg(next));
    wait::until("a new flow works", Duration::from_secs(3), || {
        dial(&lab.host, plan::ECHO.v4.into(), plan::ECHO_PORT).is_ok_and(|mut stream| echoes(&mut stream))
    });
    assert!(lab.status().summary.link.address.is_some_and(|address| address.is_ipv6()));
    assert!(lab.on_host("curl -sS http://web.shop/").starts_with("web.shop greets"));
    assert!(echoes(&mut old), "an old flow goes on");
    assert!(first.ended().is_none());
    drop(old);
    assert_eq!(first.wait(PATIENCE).code(), Some(0));
    assert!(lab.cluster_names_resolve());
    assert!(echoes(&mut echo_stream(&lab.host)));
}

#[test]
fn a_gateway_started_anew_takes_over_from_one_that_drains_at_the_same_address() {
    let lab = Lab::new();
    let config = plan::gateway_config(&lab.directory().join("gateway-state"));
    // The metrics' port is the first one's until it ends.
    let config = config.lines().filter(|line| !line.starts_with("metrics")).collect::<Vec<_>>().join("\n");
    let path = lab.directory().join("same.toml");
    fs::write(&path, config).expect("written");
    let mut first = lab.start_gateway_with(&path);
    lab.connect();
    let mut old = echo_stream(&lab.host);
    assert!(echoes(&mut old));
    first.signal(Signal::SIGTERM);
    wait::until("the session knows", PATIENCE, || lab.status().summary.state == State::Reconnecting);
    let mut second = lab.gateway.command(programs::adit_gateway());
    let _second = lab.spawn("second", second.args(["run", "--config"]).arg(path));
    wait::until("a new flow works", Duration::from_secs(3), || {
        dial(&lab.host, plan::ECHO.v4.into(), plan::ECHO_PORT).is_ok_and(|mut stream| echoes(&mut stream))
    });
    assert_eq!(lab.status().summary.link.carrier.as_deref(), Some("tcp"));
    assert!(echoes(&mut old), "an old flow goes on");
    drop(old);
    assert_eq!(first.wait(PATIENCE).code(), Some(0));
    assert!(echoes(&mut echo_stream(&lab.host)));
}
