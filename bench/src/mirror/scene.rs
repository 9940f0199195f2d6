//! [`Scene`]: a target with a client beside it, a gateway, a session and a listener; each of them stopped or killed while the client
//! measures. Before: [`super::harm`], [`mod@super::copy`], [`mod@super::flows`]; after: [`super::client`], [`super::server`].

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use cli::demo::{
    namespace::Namespace,
    plan,
    targets::{PodLink, Targets},
};
use tests::{
    lab::{Lab, PATIENCE},
    machine,
    observe::{self, Usage},
    process::{self, Process},
    wait,
};
use tunnel::control::{mirror_status::RuleStatus, status::State};

use super::{
    case::{Case, Stoppable},
    client::Client,
    counts::Counts,
    server,
};
use crate::stage::shell;

/// The target's port that is measured, and the listener's.
const PORT: u16 = 9_000;
/// A port of the target that nobody talks to.
const OTHER_PORT: u16 = 9_001;
const LISTENER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), PORT);
const IDENTITY: &str = "bench";
/// Between two looks for a tap that has to be killed: each reads all of /proc.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// All of it; the session has no rule unless a measurement makes one.
pub(super) struct Scene {
    pub(super) client: Client,
    lab: Lab,
    targets: Targets,
    gateway: Option<Process>,
    listener: Process,
    /// Tap, gateway and session, as they were when the rule was made.
    watched: [u32; 3],
}

impl Scene {
    pub(super) fn new() -> Result<Self> {
        let lab = Lab::new();
        let targets = Targets::new(&lab, PodLink::Veth)?;
        let allow = format!("[[allow]]\nname   = \"{IDENTITY}\"\nmirror = [\"shop/*\"]\n");
        lab.set_gateway_tables(format!("{}{allow}", targets.tables()));
        let target = SocketAddr::from((plan::WEB_1.address.v4, PORT));
        server::start(&targets.web_1, target)?;
        // Short connections leave their ports in TIME-WAIT: the search for a free one is not what is measured.
        targets.client.set_sysctl("net/ipv4/ip_local_port_range", "1024 65535")?;
        let client = Client { namespace: targets.client.clone(), target };
        let gateway = Some(lab.start_gateway());
        process::run(&mut lab.connect_command(&lab.issue_identity(IDENTITY), &[]));
        let listener = start_listener(&lab)?;
        Ok(Self { client, lab, targets, gateway, listener, watched: [0; 3] })
    }

    /// Measures while a rule is on and `case` goes on; all is as before afterwards.
    pub(super) fn with<T: Send>(&mut self, case: Case, measure: impl FnOnce(&Self) -> Result<T> + Send) -> Result<T> {
        let port = if case == Case::OtherPort { OTHER_PORT } else { PORT };
        let more: &[&str] = if case == Case::Elsewhere { &["--max-rate", "1B/s"] } else { &[] };
        self.mirror(port, more)?;
        let [tap, gateway, session] = self.watched.map(Stoppable::new);
        match case {
            Case::Whole | Case::Elsewhere | Case::OtherPort | Case::TapKilled => {}
            Case::ListenerStopped => self.listener().stop(),
            Case::SessionStopped => session.stop(),
            Case::GatewayKilled => self.gateway.take().context("no gateway")?.kill(),
            Case::GatewayStopped => gateway.stop(),
            Case::TapStopped => tap.stop(),
        }
        let measured = if case == Case::TapKilled { self.without_tap(measure) } else { measure(self) };
        for stopped in [self.listener(), session, gateway, tap] {
            stopped.go_on();
        }
        if self.gateway.is_none() {
            self.gateway = Some(self.lab.start_gateway());
        }
        self.unmirror()?;
        measured
    }

    /// Measures while the tap is killed as often as its gateway starts it.
    fn without_tap<T>(&self, measure: impl FnOnce(&Self) -> T) -> T {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    if let Ok(tap) = self.tap_pid() {
                        Stoppable::new(tap).kill();
                    }
                    thread::sleep(LOOK_EVERY);
                }
            });
            let measured = measure(self);
            is_over.store(true, Relaxed);
            measured
        })
    }

    /// Measures with the whole way at work, and a listener that has counted nothing yet.
    pub(super) fn mirrored<T>(&mut self, more: &[&str], measure: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        self.listener().kill();
        self.listener.wait(PATIENCE);
        self.listener = start_listener(&self.lab)?;
        self.mirror(PORT, more)?;
        let measured = measure(self);
        self.unmirror()?;
        measured
    }

    fn mirror(&mut self, port: u16, more: &[&str]) -> Result<()> {
        let ports = format!("{port}:{PORT}");
        let mut command = self.lab.adit(&["mirror", plan::WEB_TARGET, &ports, "--replica", plan::WEB_1.name]);
        process::run(command.args(more));
        wait::until("the tap is there", PATIENCE, || self.tap_pid().is_ok());
        let gateway = self.gateway.as_ref().context("no gateway")?.id();
        self.watched = [self.tap_pid()?, gateway, self.lab.status().summary.pid];
        Ok(())
    }

    /// Takes all rules away, and waits until the tap is gone: the next look is without one.
    fn unmirror(&self) -> Result<()> {
        wait::until("the session is connected", PATIENCE, || self.lab.status().summary.state == State::Connected);
        process::run(&mut self.lab.adit(&["mirror", "rm", "all"]));
        wait::until("the tap is gone", PATIENCE, || self.tap_pid().is_err());
        Ok(())
    }

    pub(super) fn listener(&self) -> Stoppable {
        Stoppable::new(self.listener.id())
    }

    pub(super) fn listener_counts(&self) -> Result<Counts> {
        self.lab.host.run(|| Counts::ask(LISTENER))
    }

    pub(super) fn target_counts(&self) -> Result<Counts> {
        self.targets.web_1.run(|| Counts::ask(self.client.target))
    }

    /// The rule as the status shows it.
    pub(super) fn rule(&self) -> Result<RuleStatus> {
        self.lab.status().mirror.pop().context("no rule")
    }

    /// The tap in the target's namespace.
    pub(super) fn tap(&self) -> Stoppable {
        Stoppable::new(self.watched[0])
    }

    pub(super) fn tap_pid(&self) -> Result<u32> {
        let is_tap = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).nth(1) == Some(b"tap")
        };
        observe::processes_in(self.target()).into_iter().find(is_tap).context("no tap")
    }

    /// What tap, gateway and session have used; of one that has ended, nothing.
    pub(super) fn usage(&self) -> [Option<Usage>; 3] {
        self.watched.map(Usage::of)
    }

    /// Their CPU time, in seconds.
    pub(super) fn cpu(&self) -> [f64; 3] {
        self.usage().map(|usage| usage.map_or(0.0, |usage| usage.cpu.as_secs_f64()))
    }

    /// The target's namespace.
    pub(super) const fn target(&self) -> &Namespace {
        &self.targets.web_1
    }

    /// Whether the client's kernel leaves segmentation to its device; without that the target sees frames of 1,500 bytes.
    pub(super) fn offloads(&self, on: bool) -> Result<()> {
        let segments = if on { 65_535 } else { 1 };
        shell(&self.targets.client, &format!("ip link set {} gso_max_segs {segments}", plan::CLIENT.name))?;
        Ok(())
    }
}

fn start_listener(lab: &Lab) -> Result<Process> {
    let mut command = lab.host.command(std::env::current_exe()?);
    let listener = lab.spawn("listener", command.env(machine::STAY, "").args(["--listen", &LISTENER.to_string()]));
    wait::until("the listener listens", PATIENCE, || lab.host.run(|| Counts::ask(LISTENER).is_ok()));
    Ok(listener)
}
