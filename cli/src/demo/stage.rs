//! The demo's world with adit in it: the gateway runs, an identity is issued, and programs can be started on the developer's machine.
//! The two programs are the ones a user runs, started the way a user starts them.
//! Before: [`super::world`]; after: [`super::tour`].

use std::{
    env, fs, io,
    net::{IpAddr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use super::{
    plan,
    targets::{PodLink, Targets},
    world::{Uplink, World},
};

/// The identity's name.
pub const NAME: &str = "alice";
/// What the identity may do.
const ALLOW: &str = "[[allow]]\nname   = \"alice\"\nreach  = [\"*\"]\nmirror = [\"shop/*\"]\n";
/// A gateway that does not listen by then has failed; it needs a few milliseconds.
const GATEWAY_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks whether it listens.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A world, its gateway and what the developer needs to join.
#[derive(Debug)]
pub struct Stage {
    /// The namespaces and their services.
    pub world: World,
    /// The pods whose traffic can be mirrored.
    pub targets: Targets,
    /// The identity's file.
    pub identity: PathBuf,
    adit: PathBuf,
    state_dir: PathBuf,
    gateway: Child,
}

impl Stage {
    /// Makes it; the gateway listens when this returns. The process must have been through [`super::entry::enter`].
    ///
    /// # Errors
    /// What could not be made or started, with the gateway's own words.
    pub fn new() -> anyhow::Result<Self> {
        let adit = env::current_exe().context("cannot tell which program this is")?;
        let program = gateway_program(&adit);
        let world = World::new(Uplink::Veth)?;
        let targets = Targets::new(&world, PodLink::Veth)?;
        world.set_gateway_tables(format!("{}\n{ALLOW}", targets.tables()));
        let config = world.write_gateway_config().context("cannot write gateway.toml")?;
        let identity = world.directory().join(format!("{NAME}.pem"));
        issue(&world, &program, &config, &identity)?;
        let gateway = start_gateway(&world, &program, &config)?;
        let state_dir = world.directory().join("adit");
        let mut stage = Self { world, targets, identity, adit, state_dir, gateway };
        stage.wait_for_gateway()?;
        Ok(stage)
    }

    /// Where the gateway listens, seen from the developer's machine.
    pub fn gateway(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(plan::UPLINK_GATEWAY.v4), plan::GATEWAY_PORT)
    }

    /// `adit` itself, on the developer's machine.
    pub fn adit(&self) -> Command {
        self.program(&self.adit)
    }

    /// A program on the developer's machine. It finds `adit`, and `adit` finds the demo's session.
    pub fn program(&self, program: impl AsRef<Path>) -> Command {
        let mut command = self.world.host.command(program.as_ref());
        command.env("ADIT_STATE_DIR", &self.state_dir);
        if let Some(path) = path_with(&self.adit) {
            command.env("PATH", path);
        }
        command
    }

    /// The last lines of both logs, for when something went wrong.
    pub fn logs(&self) -> String {
        let files = [gateway_log(&self.world), self.state_dir.join("session.log")];
        files.iter().map(|file| format!("{}:\n{}\n", file.display(), tail(file))).collect()
    }

    fn wait_for_gateway(&mut self) -> anyhow::Result<()> {
        let (address, deadline) = (self.gateway(), Instant::now() + GATEWAY_PATIENCE);
        loop {
            let reached = self.world.host.run(|| TcpStream::connect_timeout(&address, LOOK_EVERY));
            let Err(error) = reached else { return Ok(()) };
            if let Some(status) = self.gateway.try_wait()? {
                bail!("adit-gateway ended ({status}):\n{}", tail(&gateway_log(&self.world)));
            }
            if Instant::now() > deadline {
                bail!("adit-gateway does not listen on {address}: {error}\n{}", tail(&gateway_log(&self.world)));
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Whatever is left ends with the process namespace.
        let _ = self.gateway.kill();
        let _ = self.gateway.wait();
    }
}

/// The gateway built beside this program, else the one in `PATH`.
fn gateway_program(adit: &Path) -> PathBuf {
    let sibling = adit.with_file_name("adit-gateway");
    if sibling.is_file() { sibling } else { "adit-gateway".into() }
}

fn issue(world: &World, program: &Path, config: &Path, identity: &Path) -> anyhow::Result<()> {
    let mut command = world.gateway.command(program);
    command.args(["identity", "issue", "--name", NAME]).arg("--config").arg(config).arg("--out").arg(identity);
    let output = command.stdin(Stdio::null()).output().with_context(|| missing(program))?;
    if !output.status.success() {
        bail!("adit-gateway cannot issue an identity: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}

fn start_gateway(world: &World, program: &Path, config: &Path) -> anyhow::Result<Child> {
    let log = fs::File::create(gateway_log(world)).context("cannot make the gateway's log")?;
    let mut command = world.gateway.command(program);
    command.arg("run").arg("--config").arg(config).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| missing(program))
}

fn missing(program: &Path) -> String {
    format!("cannot start {}: build it beside adit (cargo build -p gateway) or put it in PATH", program.display())
}

fn gateway_log(world: &World) -> PathBuf {
    world.directory().join("gateway.log")
}

fn path_with(adit: &Path) -> Option<std::ffi::OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = adit.parent().map(Path::to_owned).into_iter().chain(env::split_paths(&path));
    // `ip` and its like are not in every user's PATH.
    env::join_paths(dirs.chain(["/usr/sbin".into(), "/sbin".into()])).ok()
}

fn tail(file: &Path) -> String {
    let text = fs::read(file).unwrap_or_else(|error: io::Error| error.to_string().into_bytes());
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
