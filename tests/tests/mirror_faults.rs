//! What happens to a mirror, and to everything else, when a part of it stops or dies.

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use cli::demo::{http::RequestLog, load, plan};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tests::{
    lab::PATIENCE,
    mirror::{LISTENER, Rig, accounted, until_requested},
    process,
    recorder::Recorder,
    sockets::send_pattern,
    wait,
};
use tunnel::control::status::{State, Status};

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

/// A second session, of another identity, beside the rig's.
struct Second<'a> {
    rig: &'a Rig,
    state_dir: PathBuf,
}

impl<'a> Second<'a> {
    #[track_caller]
    fn join(rig: &'a Rig, name: &str) -> Self {
        let second = Self { rig, state_dir: rig.lab.directory().join(format!("adit-{name}")) };
        let identity = rig.lab.issue_identity(name);
        process::run(&mut second.there(rig.lab.connect_command(&identity, &[])));
        second
    }

    fn there(&self, mut command: Command) -> Command {
        command.env("ADIT_STATE_DIR", &self.state_dir);
        command
    }

    #[track_caller]
    fn mirror(&self, words: &str) -> String {
        process::run(&mut self.there(self.rig.mirror_command(words)))
    }

    #[track_caller]
    fn status(&self) -> Status {
        let text = process::run(&mut self.there(self.rig.lab.adit(&["status", "-o", "json"])));
        serde_json::from_str(&text).expect("a status")
    }
}

#[test]
fn two_sessions_get_everything_and_one_goes_on_when_the_other_is_stopped() {
    const PORT: u16 = 9_000;
    const BYTES: u64 = 1 << 20;
    let rig = Rig::new();
    let bob = Second::join(&rig, "bob");
    let pods = rig.lab.targets();
    let _target = Recorder::tcp(&pods.web_1, (plan::WEB_1.address.v4, PORT).into());
    let for_alice = Recorder::tcp(&rig.lab.host, LISTENER);
    let for_bob = Recorder::tcp(&rig.lab.host, (LISTENER.ip(), 3001).into());
    rig.mirror(&format!("deploy/web {PORT}:3000"));
    bob.mirror(&format!("deploy/web {PORT}:3001"));
    assert_eq!(rig.taps(&pods.web_1).len(), 1, "one tap serves both");
    let upload = || {
        let mut stream = rig.dial(plan::WEB_1.address.v4.into(), PORT);
        send_pattern(&mut stream, BYTES).expect("sent");
    };
    (0..20).for_each(|_| upload());
    for recorder in [&for_alice, &for_bob] {
        wait::until("both get all", PATIENCE, || recorder.ended() == 20);
        assert!(recorder.recordings().iter().all(|recording| recording.bytes == BYTES));
    }
    assert_eq!(for_alice.contents(), for_bob.contents());

    let stopped = bob.status().summary.pid;
    signal(stopped, Signal::SIGSTOP);
    // More than all that the gateway may hold for him, and no faster than alice takes it.
    for number in 21..=120 {
        upload();
        wait::until("alice gets it", PATIENCE, || for_alice.ended() == number);
    }
    assert!(for_alice.recordings().iter().all(|recording| recording.bytes == BYTES));
    signal(stopped, Signal::SIGCONT);
    wait::until("bob is told what he lost", PATIENCE, || {
        bob.status().mirror.first().is_some_and(|rule| {
            let replica = rule.replicas.iter().find(|replica| replica.name == "web-1");
            replica.is_some_and(|replica| {
                replica.bytes + replica.lost.values().map(|loss| loss.bytes).sum::<u64>() == 120 * BYTES
            })
        })
    });
}

#[test]
fn a_command_returns_when_all_is_copied_and_else_says_what_is_not() {
    let rig = Rig::new();
    let log = RequestLog::default();
    let _listener = rig.serve_http(&log);
    rig.mirror("deploy/web 8080:3000");
    rig.mirror("off 8080");
    let tap = rig.taps(&rig.lab.targets().web_2)[0];
    signal(tap, Signal::SIGSTOP);
    let (command, output) = rig.try_mirror("on 8080");
    let said = process::describe(&command, &output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("web-2") && !errors.contains("web-1") && errors.contains("adit status"), "{said}");
    rig.curl(&rig.lab.targets().client, "10.244.1.2", "/of-the-other");
    until_requested(&log, "/of-the-other");
    signal(tap, Signal::SIGCONT);
    rig.until("both are copied", |rule| {
        rule.replicas.iter().all(|replica| replica.state == link::rules::ReplicaState::Tapped)
    });
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
    let alone = measure();
    rig.mirror("deploy/web 8080:3000");
    let session = rig.status().summary.pid;
    let tap = rig.taps(&pods.web_1)[0];
    for (pid, stopped) in [(session, "session"), (tap, "tap"), (rig.gateway.as_ref().expect("it runs").id(), "gateway")]
    {
        signal(pid, Signal::SIGSTOP);
        let speed = measure();
        signal(pid, Signal::SIGCONT);
        assert!(speed.bits_per_second > 0.8 * alone.bits_per_second, "{stopped}: {speed:?} beside {alone:?}");
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

#[test]
fn a_listener_that_does_not_read_costs_only_its_own_copy() {
    const PORT: u16 = 9_000;
    const BYTES: u64 = 200 << 20;
    let rig = Rig::new();
    let pods = rig.lab.targets();
    let target = Recorder::tcp(&pods.web_1, (plan::WEB_1.address.v4, PORT).into());
    // Accepts by its backlog, and reads nothing.
    let deaf = tests::sockets::listen(&rig.lab.host, LISTENER.ip(), LISTENER.port());
    let log = RequestLog::default();
    let other = {
        let log = log.clone();
        cli::demo::services::Services::start(&rig.lab.host, move |supervisor| {
            cli::demo::http::serve_logged(supervisor, (LISTENER.ip(), 3001).into(), "host", log)
        })
    };
    let _other = other.expect("the port is free");
    rig.mirror(&format!("deploy/web {PORT}:3000 --existing raw"));
    rig.mirror("deploy/web 8080:3001");
    let mut stream = rig.dial(plan::WEB_1.address.v4.into(), PORT);
    // No faster than the pod takes it, so that nothing is lost before it comes to the session.
    for sent in 1..=BYTES >> 20 {
        send_pattern(&mut stream, 1 << 20).expect("the pod takes all");
        wait::until("the pod has it", PATIENCE, || target.recordings().iter().any(|one| one.bytes == sent << 20));
    }
    rig.curl(&pods.client, "10.244.1.2", "/beside");
    until_requested(&log, "/beside");
    drop(stream);
    drop(deaf);
    rig.until_on(PORT, "what the deaf one lost is counted", |rule| accounted(rule) == BYTES);
}
