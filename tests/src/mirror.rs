//! [`Rig`]: a lab whose session mirrors, with short ways to say what the suites say often.
//!
//! Before it: [`crate::lab`]; beside it: [`crate::recorder`], the listener of most suites.

use std::{
    net::{IpAddr, SocketAddr, TcpStream},
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use cli::demo::{
    http::{self, RequestLog},
    namespace::Namespace,
    plan,
    services::{Services, Supervisor},
};
use tunnel::control::{mirror_status::RuleStatus, status::Status};

use crate::{
    emulator::Conditions,
    lab::{Lab, PATIENCE},
    observe,
    process::{self, Process},
    sockets, wait,
};

/// Where the host's program listens, unless a test says otherwise.
pub const LISTENER: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3000);

/// What `off` promises: nothing more arrives from then on after the command returned.
pub const SILENT_AFTER: Duration = Duration::from_millis(100);

/// Between two looks at a rule: each costs a process.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A lab with targets, its gateway and alice's session.
#[derive(Debug)]
pub struct Rig {
    /// The gateway, which a test may take and end.
    pub gateway: Option<Process>,
    /// The world.
    pub lab: Lab,
}

impl Rig {
    /// Pods on perfect links.
    #[track_caller]
    pub fn new() -> Self {
        Self::of(Lab::with_targets())
    }

    /// The same with an emulated link in front of [`plan::WEB_1`].
    #[track_caller]
    pub fn with_link(conditions: Conditions) -> Self {
        Self::of(Lab::with_target_link(conditions))
    }

    #[track_caller]
    fn of(lab: Lab) -> Self {
        let gateway = Some(lab.start_gateway());
        lab.connect();
        Self { gateway, lab }
    }

    /// `adit mirror` with these words, which must succeed; what it printed.
    #[track_caller]
    pub fn mirror(&self, words: &str) -> String {
        process::run(&mut self.mirror_command(words))
    }

    /// The same, whatever comes of it.
    #[track_caller]
    pub fn try_mirror(&self, words: &str) -> (Command, Output) {
        let mut command = self.mirror_command(words);
        let output = process::output(&mut command);
        (command, output)
    }

    /// `adit mirror` with these words, not run yet.
    pub fn mirror_command(&self, words: &str) -> Command {
        let mut command = self.lab.adit(&["mirror"]);
        command.args(words.split_whitespace());
        command
    }

    /// The status.
    #[track_caller]
    pub fn status(&self) -> Status {
        self.lab.status()
    }

    /// The only rule.
    #[track_caller]
    pub fn rule(&self) -> RuleStatus {
        let mut rules = self.status().mirror;
        assert_eq!(rules.len(), 1, "{rules:?}");
        rules.remove(0)
    }

    /// Waits until the only rule is as `is` says.
    #[track_caller]
    pub fn until(&self, what: &str, is: impl Fn(&RuleStatus) -> bool) -> RuleStatus {
        self.until_it(what, || self.rule(), is)
    }

    /// Waits until the rule for a port is as `is` says.
    #[track_caller]
    pub fn until_on(&self, port: u16, what: &str, is: impl Fn(&RuleStatus) -> bool) -> RuleStatus {
        let of_port = || self.status().mirror.into_iter().find(|status| status.rule.port == port);
        self.until_it(what, || of_port().expect("the rule is there"), is)
    }

    #[track_caller]
    fn until_it(&self, what: &str, look: impl Fn() -> RuleStatus, is: impl Fn(&RuleStatus) -> bool) -> RuleStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let rule = look();
            if is(&rule) {
                return rule;
            }
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}, but {rule:#?}");
            thread::sleep(LOOK_EVERY);
        }
    }

    /// A connection of the client's pod.
    #[track_caller]
    pub fn dial(&self, address: IpAddr, port: u16) -> TcpStream {
        sockets::dial(&self.lab.targets().client, address, port).expect("a pod listens")
    }

    /// A connection of the client's pod to the HTTP port of `web-1`.
    #[track_caller]
    pub fn dial_web(&self) -> TcpStream {
        self.dial(plan::WEB_1.address.v4.into(), plan::POD_HTTP_PORT)
    }

    /// What `curl` in a pod prints of `path` at `web-1`.
    #[track_caller]
    pub fn curl(&self, from: &Namespace, host: &str, path: &str) -> String {
        let url = format!("http://{host}:{}{path}", plan::POD_HTTP_PORT);
        process::run(from.command("curl").args(["-sS", "--max-time", "20", &url]))
    }

    /// An HTTP server where the host's program listens.
    #[track_caller]
    pub fn serve_http(&self, log: &RequestLog) -> Services {
        // A process that another test of this program starts has the former listener's socket until it runs a program of its own.
        wait::until_some("the port is free", PATIENCE, || {
            let log = log.clone();
            let serve = move |supervisor: &Supervisor| http::serve_logged(supervisor, LISTENER, "host", log);
            Services::start(&self.lab.host, serve).ok()
        })
    }

    /// The processes of the taps in a pod: what runs in its network namespace and is no child of a test's.
    pub fn taps(&self, pod: &Namespace) -> Vec<u32> {
        let is_tap = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).nth(1) == Some(b"tap")
        };
        observe::processes_in(pod).into_iter().filter(is_tap).collect()
    }
}

impl Default for Rig {
    fn default() -> Self {
        Self::new()
    }
}

/// Waits until a log holds a request whose line ends with `path`.
#[track_caller]
pub fn until_requested(log: &RequestLog, path: &str) {
    wait::until(format!("a request for {path} arrives"), PATIENCE, || is_requested(log, path));
}

/// Whether a log holds a request whose line ends with `path`.
pub fn is_requested(log: &RequestLog, path: &str) -> bool {
    log.requests().iter().any(|seen| seen.line.ends_with(path))
}

/// Payload bytes of a rule that were delivered, lost on the way, or kept back, each with its reason: all that its target got.
pub fn accounted(rule: &RuleStatus) -> u64 {
    let lost: u64 = rule.replicas.iter().flat_map(|replica| replica.lost.values()).map(|loss| loss.bytes).sum();
    let delivery = &rule.delivery;
    let kept_back = [
        delivery.listener_lag,
        delivery.not_delivered,
        delivery.not_joined,
        delivery.switched_off,
        delivery.source_gone,
    ];
    delivery.bytes + lost + kept_back.iter().map(|loss| loss.bytes).sum::<u64>()
}
