//! What happens to a mirror, and to everything else, when a part of it stops or dies.

use std::time::{Duration, Instant};

use cli::demo::{http::RequestLog, load, plan};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tests::{lab::PATIENCE, mirror::Rig, process, wait};
use tunnel::control::status::State;

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).expect("the process is there");
}

/// Asks `web-1` until a request arrives, and says how long that took.
#[track_caller]
fn until_mirrored(rig: &Rig, log: &RequestLog, word: &str) -> Duration {
    let (began, mut number) = (Instant::now(), 0);
    wait::until(format!("a request {word} arrives"), PATIENCE, || {
        number += 1;
        rig.curl(&rig.lab.targets().client, "10.244.1.2", &format!("/{word}/{number}"));
        log.requests().iter().any(|seen| seen.line.contains(&format!("/{word}/")))
    });
    began.elapsed()
}

#[test]
fn a_killed_gateway_is_found_again_with_its_rules_and_the_hole_is_shown() {
    let mut rig = Rig::new();
    let log = RequestLog::default();
    let _listener = rig.serve_http(&log);
    rig.mirror("deploy/web 8080:3000");
    until_mirrored(&rig, &log, "before");
    rig.gateway.take().expect("it runs").kill();
    let pods = rig.lab.targets();
    wait::until("the taps end with their gateway", PATIENCE, || {
        rig.taps(&pods.web_1).is_empty() && rig.taps(&pods.web_2).is_empty()
    });
    // The pod answers on, and nobody sees it.
    rig.curl(&pods.client, "10.244.1.2", "/unseen");
    rig.gateway = Some(rig.lab.start_gateway());
    let back = until_mirrored(&rig, &log, "after");
    assert!(back < Duration::from_secs(2), "{back:?}");
    let rule = rig.until("the hole is closed", |rule| rule.holes.iter().all(|hole| hole.until_unix.is_some()));
    assert_eq!(rule.holes.len(), 1, "{rule:?}");
    let text = process::run(&mut rig.lab.adit(&["status"]));
    assert!(text.contains("hole: nothing was copied from"), "{text}");
}

#[test]
fn a_killed_tap_is_started_again() {
    let rig = Rig::new();
    let log = RequestLog::default();
    let _listener = rig.serve_http(&log);
    rig.mirror("deploy/web 8080:3000");
    until_mirrored(&rig, &log, "before");
    let taps = rig.taps(&rig.lab.targets().web_1);
    assert_eq!(taps.len(), 1);
    signal(taps[0], Signal::SIGKILL);
    until_mirrored(&rig, &log, "after");
    assert_ne!(rig.taps(&rig.lab.targets().web_1), taps);
    assert_eq!(rig.status().summary.state, State::Connected);
}

#[test]
fn a_pods_own_client_sees_nothing_of_it_whatever_is_stopped() {
    let rig = Rig::new();
    let log = RequestLog::default();
    let _listener = rig.serve_http(&log);
    let pods = rig.lab.targets();
    let sockets = |pod: &cli::demo::namespace::Namespace| {
        let text = process::run(pod.command("ss").args(["-Hlntup"]));
        text.lines().map(|line| line.split("users:").next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let network = |pod| tests::observe::NetworkState::of(pod);
    let before = (sockets(&pods.web_1), network(&pods.web_1));
    let target = (plan::WEB_1.address.v4, plan::POD_HTTP_PORT).into();
    let measure = || load::measure(&pods.client, target, 200e6, Duration::from_secs(1)).expect("the pod answers");
    measure();
    rig.mirror("deploy/web 8080:3000");
    let session = rig.status().summary.pid;
    let tap = rig.taps(&pods.web_1)[0];
    for (pid, stopped) in [(session, "session"), (tap, "tap"), (rig.gateway.as_ref().expect("it runs").id(), "gateway")]
    {
        signal(pid, Signal::SIGSTOP);
        let speed = measure();
        signal(pid, Signal::SIGCONT);
        assert!(speed.bits_per_second > 150e6, "{stopped}: {speed:?}");
    }
    assert_eq!(sockets(&pods.web_1), before.0);
    assert_eq!(before.1.difference(&network(&pods.web_1)), "");
    until_mirrored(&rig, &log, "after-all");
}

#[test]
fn taps_end_with_the_last_rule_and_with_the_session() {
    let rig = Rig::new();
    rig.mirror("deploy/web 8080:3000");
    let pods = rig.lab.targets();
    assert_eq!((rig.taps(&pods.web_1).len(), rig.taps(&pods.web_2).len()), (1, 1));
    rig.mirror("rm all");
    wait::until("the taps have ended", PATIENCE, || {
        rig.taps(&pods.web_1).is_empty() && rig.taps(&pods.web_2).is_empty()
    });
    rig.mirror("deploy/web 8080:3000");
    process::run(&mut rig.lab.adit(&["quit"]));
    wait::until("they end with their session as well", PATIENCE, || rig.taps(&pods.web_1).is_empty());
}
