//! `adit-gateway`: the command line of the cluster's half. Next: [`gateway::run`].

mod allocator;
mod check;

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use certs::{Authority, IdentityName};
use clap::{Args, Parser, Subcommand, ValueEnum};
use gateway::{
    config::{Config, ConfigError},
    tap::{Place, TapError},
};
use tracing_subscriber::EnvFilter;

/// A wrong command line or configuration; as `adit` has it, and clap.
const EXIT_USAGE: u8 = 2;
/// This machine does not let the user do that; as `adit` has it.
const EXIT_NO_PRIVILEGE: u8 = 6;

const EXAMPLES: &str = "\
Examples:
  adit-gateway check --config gateway.toml
  adit-gateway run --config gateway.toml
  adit-gateway identity issue --config gateway.toml --name alice --out alice.pem
  adit connect --gateway HOST:7844 --identity alice.pem        (on alice's machine)

A gateway.toml that would do:
  listen    = \"0.0.0.0:7844\"             # UDP, and TCP for the `tcp` carrier
  metrics   = \"127.0.0.1:9464\"           # optional: /metrics, /healthz, /readyz
  state_dir = \"/var/lib/adit-gateway\"    # the authority, made on first start
  audit     = \"/var/log/adit-gateway/audit.jsonl\"   # optional: else in the log

  [cluster]
  provider = \"linux\"
  domain   = \"cluster.local\"             # names under it go to `dns`
  dns      = \"10.96.0.10:53\"
  routes   = [\"10.96.0.0/16\", \"10.244.0.0/16\"]

  [[target]]
  name  = \"shop/deploy/web\"
  netns = [\"/run/netns/web-1\"]            # or pid = [1234, \"/run/web.pid\"], container = [\"4f1d9c02a7be\"]

  [[allow]]                                # none: all reach every route and mirror nothing
  name   = \"alice\"                       # or a pattern: ci-*
  reach  = [\"10.96.0.0/16\", \"10.244.1.7:5432/tcp\"]
  mirror = [\"shop/*\", \"bank/deploy/web:8080\"]";

/// The cluster's half of adit: lets developers' machines into this network, within limits.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT, then drain; a second signal ends at once. SIGHUP reads again who may do what, and reopens the audit.
    Run(Run),
    /// Read the configuration and say what is wrong with it, or who may what, without starting anything.
    Check(ConfigFile),
    /// Make identities for developers.
    Identity {
        #[command(subcommand)]
        command: IdentityCommand,
    },
    /// Copy what arrives at a target; started by a gateway, which it speaks to on descriptor 0.
    #[command(hide = true)]
    Tap(Tap),
}

#[derive(Args)]
struct Tap {
    /// The target's network namespace, as a file; the one that the tap is started in when neither is given.
    #[arg(long, value_name = "FILE", conflicts_with = "pid")]
    netns: Option<PathBuf>,
    /// The target's network namespace, as that of a process.
    #[arg(long)]
    pid: Option<u32>,
    /// When that process started, in ticks since boot: another one that has its number now is left alone.
    #[arg(long, value_name = "TICKS", requires = "pid")]
    started: Option<u64>,
    /// What to log, as tracing filters have it.
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    log: String,
}

#[derive(Args)]
struct ConfigFile {
    /// The gateway.toml to use.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    file: ConfigFile,
    /// What to log, as tracing filters have it: info, debug, gateway=trace.
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
    /// How to log.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    /// A line for a person, coloured on a terminal.
    Text,
    /// A JSON object a line.
    Json,
}

#[derive(Subcommand)]
enum IdentityCommand {
    /// Make one identity, as a file that only its owner may read.
    #[command(
        after_help = "Example:\n  adit-gateway identity issue --config gateway.toml --name alice --out alice.pem --days 7"
    )]
    Issue(Issue),
    /// Revoke all that were issued to a name so far; its sessions end within seconds, and the next identity for it is good.
    #[command(after_help = "Example:\n  adit-gateway identity revoke --config gateway.toml --name alice")]
    Revoke(Revoke),
}

#[derive(Args)]
struct Revoke {
    #[command(flatten)]
    file: ConfigFile,
    /// Whose they are.
    #[arg(long)]
    name: IdentityName,
}

#[derive(Args)]
struct Issue {
    #[command(flatten)]
    file: ConfigFile,
    /// Whose it is: 1 to 64 letters, digits, '@', '.', '_' or '-'.
    #[arg(long)]
    name: IdentityName,
    /// The file to make; one that exists is not overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How long it lives, at most 365.
    #[arg(long, default_value_t = certs::DEFAULT_IDENTITY_VALIDITY.as_secs() / DAY_SECONDS)]
    days: u64,
}

const DAY_SECONDS: u64 = 24 * 60 * 60;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Run(run) => serve(&run),
        Command::Check(file) => check(&file),
        Command::Identity { command: IdentityCommand::Issue(issue) } => issue_identity(&issue),
        Command::Identity { command: IdentityCommand::Revoke(revoke) } => revoke_identities(&revoke),
        Command::Tap(tap) => run_tap(tap),
    };
    let Err(error) = done else { return ExitCode::SUCCESS };
    // Nobody is left to tell when standard error is gone.
    let _ = writeln!(io::stderr(), "adit-gateway: {error:#}");
    if error.is::<ConfigError>() {
        ExitCode::from(EXIT_USAGE)
    } else if error.downcast_ref::<TapError>().is_some_and(TapError::is_privilege) {
        ExitCode::from(EXIT_NO_PRIVILEGE)
    } else {
        ExitCode::FAILURE
    }
}

fn run_tap(tap: Tap) -> anyhow::Result<()> {
    // It gives up its capabilities, which each thread has of its own.
    allocator::stop_thread();
    let filter = EnvFilter::try_new(&tap.log).with_context(|| format!("'{}' is no log filter", tap.log))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
    let place = match (tap.netns, tap.pid) {
        (Some(path), _) => Place::Netns(path),
        (None, Some(pid)) => Place::Pid { pid, started: tap.started },
        (None, None) => Place::Here,
    };
    Ok(gateway::tap::run(&place)?)
}

fn serve(run: &Run) -> anyhow::Result<()> {
    let config = Config::load(&run.file.config)?;
    let filter = EnvFilter::try_new(&run.log).with_context(|| format!("'{}' is no log filter", run.log))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match run.log_format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(gateway::run::run(&config)?)
}

fn check(file: &ConfigFile) -> anyhow::Result<()> {
    let config = Config::load(&file.config)?;
    Ok(check::report(&config, &mut io::stdout().lock())?)
}

fn issue_identity(issue: &Issue) -> anyhow::Result<()> {
    let config = Config::load(&issue.file.config)?;
    let now = SystemTime::now();
    let authority = Authority::open_or_create(&config.state_dir, now)?;
    let validity = Duration::from_secs(issue.days.saturating_mul(DAY_SECONDS));
    authority.issue_client(&issue.name, validity, now)?.write_new(&issue.out)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{} is the identity of {} for {} days", issue.out.display(), issue.name, issue.days)?;
    writeln!(out, "give it to {} and to nobody else: it is the key to this network", issue.name)?;
    writeln!(out, "  adit connect --gateway HOST:{} --identity {}", config.listen.port(), issue.out.display())?;
    Ok(())
}

fn revoke_identities(revoke: &Revoke) -> anyhow::Result<()> {
    let config = Config::load(&revoke.file.config)?;
    let now = SystemTime::now();
    certs::revoke(&config.state_dir, &revoke.name, now)?;
    // Certificates know seconds: one that is issued behind this must not count as issued before it.
    let into_second = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    std::thread::sleep(Duration::from_secs(1) - Duration::from_nanos(into_second.into()));
    let mut out = io::stdout().lock();
    writeln!(out, "every identity issued to {} so far is revoked; its sessions end within seconds", revoke.name)?;
    writeln!(out, "  adit-gateway identity issue --name {} ...    for a new one", revoke.name)?;
    Ok(())
}
