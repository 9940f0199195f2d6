//! [`Lab`]: a world for one test, with adit's two programs at hand.
//!
//! Before it in the flow: [`crate::machine`]. Any number of labs live in one test process, in parallel.

mod names;

use std::{
    fs,
    net::IpAddr,
    ops::Deref,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use cli::demo::{
    namespace::Namespace,
    plan,
    targets::{PodLink, Targets},
    world::{UPLINK, Uplink, World},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tunnel::control::status::Status;

use crate::{
    direct,
    emulator::{Conditions, Emulator},
    machine, observe,
    process::{self, Process},
    programs, wait,
};

/// How long a program of adit may take for anything it is asked, on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Lines of each log that a failed test shows.
const SHOWN_LINES: usize = 60;

/// Of every emulated link: a test that fails must fail the same way again.
const SEED: u64 = 1;

/// What [`Lab::with_targets`] allows.
pub const EVERYTHING: &str = "[[allow]]\nname = \"*\"\nreach = [\"*\"]\nmirror = [\"*\"]\n";

/// A world, and the programs that run in it. All ends when it is dropped.
#[derive(Debug)]
pub struct Lab {
    emulator: Option<Emulator>,
    targets: Option<Targets>,
    world: World,
}

impl Lab {
    /// A world whose uplink is perfect.
    #[track_caller]
    pub fn new() -> Self {
        machine::require_namespaces();
        Self { emulator: None, targets: None, world: World::new(Uplink::Veth).expect("a world") }
    }

    /// A world with pods whose traffic can be mirrored, on perfect links; everyone may mirror all of them.
    #[track_caller]
    pub fn with_targets() -> Self {
        let mut lab = Self::new();
        lab.targets = Some(Targets::new(&lab.world, PodLink::Veth).expect("pods"));
        lab.allow(EVERYTHING);
        lab
    }

    /// The same, whose link from the node to [`plan::WEB_1`] is emulated; forward is to the pod.
    #[track_caller]
    pub fn with_target_link(conditions: Conditions) -> Self {
        let mut lab = Self::new();
        let targets = Targets::new(&lab.world, PodLink::Own).expect("pods");
        let pod = plan::WEB_1;
        let emulator = Emulator::join(pod.name, &targets.node, &targets.web_1, conditions, SEED);
        lab.emulator = Some(emulator.expect("an emulated link"));
        targets.finish_link(pod).expect("an emulated link takes addresses");
        lab.targets = Some(targets);
        lab.allow(EVERYTHING);
        lab
    }

    /// The pods; panics in a lab that has none.
    pub fn targets(&self) -> &Targets {
        self.targets.as_ref().expect("the lab was made with targets")
    }

    /// Makes `tables` the `[[allow]]` of the gateway's configuration, from when it is written again.
    pub fn allow(&self, tables: &str) {
        self.set_gateway_tables(format!("{}\n{tables}", self.targets().tables()));
    }

    /// A world whose uplink is an emulated link; forward is from the host to the gateway.
    #[track_caller]
    pub fn with_link(conditions: Conditions) -> Self {
        machine::require_namespaces();
        let world = World::new(Uplink::Own).expect("a world");
        let emulator = Emulator::join(UPLINK, &world.host, &world.gateway, conditions, SEED).expect("an emulated link");
        world.finish_uplink().expect("an emulated link takes addresses");
        Self { emulator: Some(emulator), targets: None, world }
    }

    /// The emulated link, which is the uplink or a pod's; panics in a lab that has none.
    pub fn link(&self) -> &Emulator {
        self.emulator.as_ref().expect("the lab was made with a link")
    }

    /// Starts a program that dies with what is returned; `NAME.log` is shown when the test fails.
    #[track_caller]
    pub fn spawn(&self, name: &str, command: &mut Command) -> Process {
        Process::spawn(name, command, self.directory()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts the gateway and waits until it accepts connections.
    #[track_caller]
    pub fn start_gateway(&self) -> Process {
        let config = self.write_gateway_config().expect("a config");
        self.start_gateway_with(&config)
    }

    /// The same with a configuration of the test's own.
    #[track_caller]
    pub fn start_gateway_with(&self, config: &Path) -> Process {
        let mut command = self.gateway.command(programs::adit_gateway());
        let mut gateway = self.spawn("gateway", command.args(["run", "--config"]).arg(config));
        self.wait_for_gateway_port(|| {
            assert!(gateway.ended().is_none(), "the gateway ended at once: {}", gateway.log());
        });
        gateway
    }

    /// Waits until something accepts connections at the gateway's port; calls `check` at every look.
    #[track_caller]
    pub fn wait_for_gateway_port(&self, mut check: impl FnMut() + Send) {
        let port = (plan::UPLINK_GATEWAY.v4, plan::GATEWAY_PORT);
        self.gateway.run(|| {
            wait::until("the gateway accepts connections", PATIENCE, || {
                check();
                std::net::TcpStream::connect(port).is_ok()
            });
        });
    }

    /// Issues an identity, once a name, and gives the path of its file. Needs no running gateway.
    #[track_caller]
    pub fn issue_identity(&self, name: &str) -> PathBuf {
        let config = self.write_gateway_config().expect("a config");
        let path = self.directory().join(format!("{name}.pem"));
        if path.exists() {
            return path;
        }
        let mut command = self.gateway.command(programs::adit_gateway());
        command.args(["identity", "issue", "--name", name, "--config"]).arg(config).arg("--out").arg(&path);
        process::run(&mut command);
        path
    }

    /// `adit` with the lab's state directory, on the host.
    pub fn adit(&self, arguments: &[&str]) -> Command {
        let mut command = self.host.command(programs::adit());
        command.env("ADIT_STATE_DIR", self.state_dir()).args(arguments);
        command
    }

    /// The state directory of the host's session.
    pub fn state_dir(&self) -> PathBuf {
        self.directory().join("adit-state")
    }

    /// `adit connect` to the lab's gateway with this identity and more arguments; not run yet.
    pub fn connect_command(&self, identity: &Path, more: &[&str]) -> Command {
        let gateway = format!("{}:{}", plan::UPLINK_GATEWAY.v4, plan::GATEWAY_PORT);
        let mut command = self.adit(&["connect", "--namespace", plan::NAMESPACE, "--gateway", &gateway, "--identity"]);
        command.arg(identity).args(more);
        command
    }

    /// Joins as alice, in the background as a person would, and gives what `connect` printed.
    #[track_caller]
    pub fn connect(&self) -> String {
        self.connect_with(&[])
    }

    /// The same with more arguments.
    #[track_caller]
    pub fn connect_with(&self, more: &[&str]) -> String {
        let identity = self.issue_identity("alice");
        process::run(&mut self.connect_command(&identity, more))
    }

    /// A lab with a running gateway and a session.
    #[track_caller]
    pub fn joined() -> (Self, Process) {
        Self::new().join()
    }

    /// Starts the gateway and a session in this lab.
    #[track_caller]
    pub fn join(self) -> (Self, Process) {
        self.join_with(&[])
    }

    /// The same with more arguments of `adit connect`.
    #[track_caller]
    pub fn join_with(self, more: &[&str]) -> (Self, Process) {
        let lab = self;
        if direct::asked_for() {
            direct::join(&lab).expect("the kernel routes");
            let stand_in = lab.spawn("gateway", lab.gateway.command("sleep").arg("infinity"));
            return (lab, stand_in);
        }
        let gateway = lab.start_gateway();
        lab.connect_with(more);
        (lab, gateway)
    }

    /// What `adit status -o json` says.
    #[track_caller]
    pub fn status(&self) -> Status {
        let text = process::run(&mut self.adit(&["status", "-o", "json"]));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in the status: {text}"))
    }

    /// Makes these the host's nameservers; before it joins.
    pub fn set_nameservers(&self, nameservers: &[IpAddr]) {
        let text: String = nameservers.iter().map(|nameserver| format!("nameserver {nameserver}\n")).collect();
        fs::write(self.directory().join("host/etc/resolv.conf"), text).expect("a file of the lab's own");
    }

    /// What a shell script prints on the host; panics with its errors when it fails.
    #[track_caller]
    pub fn on_host(&self, script: &str) -> String {
        process::run(self.host.command("bash").args(["-euo", "pipefail", "-c", script]))
    }

    fn namespaces(&self) -> Vec<&Namespace> {
        let mut namespaces = vec![&self.host, &self.office, &self.gateway, &self.cluster];
        if let Some(targets) = &self.targets {
            namespaces.extend([&targets.node, &targets.web_1, &targets.web_2, &targets.api_1, &targets.client]);
        }
        namespaces
    }

    #[expect(clippy::print_stderr, reason = "libtest captures it and shows it with the failed test")]
    fn show_logs(&self) {
        let files = fs::read_dir(self.directory()).into_iter().chain(fs::read_dir(self.state_dir()));
        for path in files.flatten().flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|extension| extension == "log") {
                let text = fs::read_to_string(&path).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
                eprintln!("--- {}\n{}", path.display(), shown.join("\n"));
            }
        }
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for Lab {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if thread::panicking() {
            self.show_logs();
        }
        // A session in the background is nobody's child. Only this process's own are visible here.
        for pid in self.namespaces().into_iter().flat_map(observe::processes_in) {
            if pid != std::process::id() {
                let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            }
        }
    }
}
