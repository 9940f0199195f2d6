//! How a tap begins, what it keeps, and how it ends.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use gateway::tap::protocol::{FromTap, LEASE, ListeningPort, RingState};
use link::rules::RuleProtocol;
use tests::{
    process, programs,
    sockets::listen,
    tap::{Tap, Target, ip, port},
    wait,
};

const PORT: u16 = 8_080;
const TCP: RuleProtocol = RuleProtocol::Tcp;
const AT_ONCE: Duration = Duration::from_secs(5);

fn status(tap: &Tap, key: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", tap.id())).expect("it runs");
    let text = |task: fs::DirEntry| fs::read_to_string(task.path().join("status")).expect("it runs");
    let value = |text: String| {
        let line =
            text.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim_start_matches(':').trim());
        line.map(str::to_owned).unwrap_or_default()
    };
    tasks.flatten().map(text).map(value).collect()
}

fn packet_sockets(target: &Target) -> usize {
    target.target.run(|| fs::read_to_string("/proc/thread-self/net/packet")).expect("readable").lines().count() - 1
}

fn descriptors(tap: &Tap) -> usize {
    fs::read_dir(format!("/proc/{}/fd", tap.id())).expect("it runs").count()
}

fn resident_kib(tap: &Tap) -> usize {
    status(tap, "VmRSS")[0].trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn a_tap_keeps_one_capability_in_one_thread() {
    let target = Target::new();
    let tap = Tap::start(&target);
    const NET_RAW_ONLY: &str = "0000000000002000";
    for (key, value) in [
        ("CapEff", NET_RAW_ONLY),
        ("CapPrm", NET_RAW_ONLY),
        ("CapInh", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
    ] {
        assert_eq!(status(&tap, key), [value], "{key}");
    }
    let stat = fs::read_to_string(format!("/proc/{}/stat", tap.id())).expect("it runs");
    let nice = stat.rsplit(") ").next().expect("a name").split(' ').nth(16).expect("nice");
    assert_eq!(nice, "19");
}

#[test]
fn no_rule_is_no_ring_and_a_thousand_toggles_leave_nothing() {
    let target = Target::new();
    let mut tap = Tap::start(&target);
    assert_eq!(packet_sockets(&target), 0);
    let FromTap::RulesApplied { ring, .. } = tap.apply(&[port(PORT, TCP)]) else { unreachable!("what it waited for") };
    assert_eq!(ring, RingState::Open { bytes: 64 << 20, reduced: false });
    assert_eq!(packet_sockets(&target), 2);
    tap.apply(&[]);
    let (idle, resident) = (descriptors(&tap), resident_kib(&tap));
    for _ in 0..500 {
        tap.apply(&[port(PORT, TCP)]);
        tap.apply(&[]);
    }
    assert_eq!((packet_sockets(&target), descriptors(&tap)), (0, idle));
    let grown = resident_kib(&tap).saturating_sub(resident);
    assert!(grown < 1_024, "{grown} KiB more");
    assert!(resident < 16 << 10, "{resident} KiB without a ring");
}

#[test]
fn a_port_where_nobody_listens_is_said_until_somebody_does() {
    let target = Target::new();
    let mut tap = Tap::start(&target);
    let unheard = |said| {
        let FromTap::RulesApplied { nobody_listens, .. } = said else { panic!("{said:?}") };
        nobody_listens
    };
    let both = [port(PORT, TCP), port(PORT, RuleProtocol::Udp)];
    let expected = [TCP, RuleProtocol::Udp].map(|protocol| ListeningPort { port: PORT, protocol });
    assert_eq!(unheard(tap.apply(&both)), expected);
    let listener = listen(&target.target, ip("::"), PORT);
    assert_eq!(unheard(tap.apply(&both)), expected[1..]);
    assert_eq!(unheard(tap.apply(&[port(PORT + 1, TCP)])).len(), 1);
    let later = listen(&target.target, ip(Target::ADDRESSES[0]), PORT + 1);
    tap.wait("the listener is seen", |copies| {
        copies.stats.0.ports.first().filter(|port| port.port == PORT + 1 && !port.nobody_listens).map(|_| ())
    });
    drop((listener, later));
}

#[test]
fn a_tap_ends_with_its_gateway() {
    let target = Target::new();
    let mut tap = Tap::start(&target);
    tap.apply(&[port(PORT, TCP)]);
    tap.close();
    assert_eq!(tap.exit(AT_ONCE).code(), Some(0));
    wait::until("its rings are gone", AT_ONCE, || packet_sockets(&target) == 0);
}

#[test]
fn a_tap_ends_when_its_gateway_says_nothing_for_too_long() {
    let target = Target::new();
    let mut tap = Tap::start(&target);
    tap.apply(&[port(PORT, TCP)]);
    assert_eq!(tap.exit(LEASE + AT_ONCE).code(), Some(0));
    assert!(!tap.copies().said.iter().any(|said| matches!(said, FromTap::Failed { .. })));
}

#[test]
fn a_gateway_that_makes_no_sense_is_told_so() {
    let target = Target::new();
    let mut tap = Tap::start(&target);
    tap.say_bytes(&[0xff; 64]);
    assert_eq!(tap.exit(AT_ONCE).code(), Some(1));
    let reason = tap.wait("the reason", |copies| match copies.said.last() {
        Some(FromTap::Failed { reason }) => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(reason, "the gateway sent a message of 4294967295 bytes");
}

#[test]
fn a_place_that_is_none_is_named_with_the_remedy() {
    let target = Target::new();
    for (arguments, code, expected) in [
        (["--netns", "/run/netns/absent"], 1, "the network namespace '/run/netns/absent' is not there"),
        (["--netns", "/dev/null"], 1, "'/dev/null' is no network namespace"),
        (["--pid", "1073741824"], 1, "process 1073741824, whose network should be tapped, is not there"),
    ] {
        let mut tap = Tap::spawn(Command::new(programs::adit_gateway()).arg("tap").args(arguments));
        assert_eq!(tap.exit(AT_ONCE).code(), Some(code), "{arguments:?}");
        let reason = tap.wait("the reason", |copies| match copies.said.first() {
            Some(FromTap::Failed { reason }) => Some(reason.clone()),
            _ => None,
        });
        assert!(reason.starts_with(expected), "{reason}");
    }
    drop(target);
}

#[test]
fn without_the_right_to_capture_the_exit_code_says_so() {
    let target = Target::new();
    // util-linux; the tap is already in the namespace.
    let mut command = target.target.command("setpriv");
    command.args(["--bounding-set=-net_raw", "--inh-caps=-net_raw", "--"]).arg(programs::adit_gateway()).arg("tap");
    let mut tap = Tap::spawn(&mut command);
    assert_eq!(tap.exit(AT_ONCE).code(), Some(6));
    let reason = tap.wait("the reason", |copies| match copies.said.first() {
        Some(FromTap::Failed { reason }) => Some(reason.clone()),
        _ => None,
    });
    assert!(reason.starts_with("may not capture packets (EPERM"), "{reason}");
    assert!(reason.contains("NET_RAW"), "{reason}");
}

#[test]
fn a_tap_that_nobody_speaks_to_ends_at_once() {
    let mut command = Command::new(programs::adit_gateway());
    let output = process::output(command.args(["tap", "--pid", "1"]).stdin(Stdio::null()));
    assert!(output.status.success(), "{}", process::describe(&command, &output));
}

#[test]
fn a_tap_may_be_in_its_place_already_or_be_told_a_process() {
    let target = Target::new();
    let mut here = Tap::spawn(target.target.command(programs::adit_gateway()).arg("tap"));
    here.apply(&[port(PORT, TCP)]);
    let sleeper =
        process::Process::spawn("sleeper", target.target.command("sleep").arg("infinity"), target.directory());
    let sleeper = sleeper.expect("it starts");
    let mut command = Command::new(programs::adit_gateway());
    let mut there = Tap::spawn(command.args(["tap", "--pid"]).arg(sleeper.id().to_string()));
    there.apply(&[port(PORT, TCP)]);
    for tap in [&here, &there] {
        let interfaces = tap.wait("ready", |copies| match copies.said.first() {
            Some(FromTap::Ready { interfaces, .. }) => Some(interfaces.clone()),
            _ => None,
        });
        assert_eq!(interfaces, ["lo", Target::DEVICE]);
    }
    assert_eq!(packet_sockets(&target), 4);
}
