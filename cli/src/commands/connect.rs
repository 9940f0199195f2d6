//! `adit connect`: starts the session's process, shows its steps, and returns when traffic flows.
//! Before: [`crate::args`]; after: [`crate::session_process`], in this process with `--foreground`, else in one of its own.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    process::{ExitStatus, Stdio},
    time::Instant,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tunnel::{
    control::{state_dir::StateDir, status::Status},
    session_options::Progress,
};

use crate::{
    args::Connect,
    exit::{Exit, Failure},
    output::{DIM, progress, result, styled},
    report::{MAX_REPORT_BYTES, Report},
    session_process::{self, from_here},
    status_text,
    text::{duration, list},
};

/// Joins, in the foreground or not.
///
/// # Errors
/// [`Failure`] when the session cannot start.
pub fn run(connect: &Connect) -> Result<Exit, Failure> {
    let steps = Steps { started: Instant::now() };
    if connect.foreground {
        session_process::run(connect, |report| steps.tell(connect, report), &CancellationToken::new())?;
        return Ok(Exit::Done);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Failed, format!("cannot start: {error}")))?;
    runtime.block_on(in_background(connect, &steps))
}

async fn in_background(connect: &Connect, steps: &Steps) -> Result<Exit, Failure> {
    let dir = StateDir::from_environment()?;
    dir.prepare()?;
    let mut child = start(connect, &dir)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| cannot_start(&error))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| cannot_start(&error))?;
    let followed = tokio::select! {
        outcome = follow(connect, steps, &mut child) => Some(outcome),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    };
    match followed {
        Some(Outcome::Joined) => Ok(Exit::Done),
        Some(Outcome::Failed(failure)) => {
            // It has restored what it had begun when it ends.
            let _ = child.wait().await;
            Err(failure)
        }
        Some(Outcome::Ended) => Err(died(child.wait().await.ok(), &dir)),
        None => {
            end(&mut child).await;
            progress("interrupted; the machine is as before");
            Ok(Exit::Interrupted)
        }
    }
}

fn start(connect: &Connect, dir: &StateDir) -> Result<Child, Failure> {
    let program = std::env::current_exe().map_err(|error| cannot_start(&error))?;
    let mut command = Command::new(program);
    command.arg("session").arg("--gateway").arg(connect.gateway.to_string());
    command.arg("--identity").arg(from_here(&connect.identity)?).args(["--carrier", connect.carrier.word()]);
    command.args(["--namespace", &connect.namespace, "--log-level", &connect.log_level]);
    command.env("ADIT_STATE_DIR", dir.path()).current_dir("/");
    // What is not logged but printed, such as a panic, goes to the log too. A disk that is full must not stop the session.
    let log = open_log(dir).map_or_else(|_| Stdio::null(), Stdio::from);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    command.spawn().map_err(|error| cannot_start(&error))
}

fn open_log(dir: &StateDir) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(dir.log_file())
}

enum Outcome {
    Joined,
    Failed(Failure),
    /// The pipe was closed without a last word.
    Ended,
}

async fn follow(connect: &Connect, steps: &Steps, child: &mut Child) -> Outcome {
    let mut reports = BufReader::new(child.stdout.take().expect("the child's output is a pipe"));
    loop {
        let mut line = Vec::new();
        let read = (&mut reports).take(MAX_REPORT_BYTES).read_until(b'\n', &mut line).await;
        let Some(report) = read.ok().and_then(|_| serde_json::from_slice(&line).ok()) else {
            return Outcome::Ended;
        };
        match report {
            Report::Failed { exit, message, remedy } => {
                return Outcome::Failed(Report::failure(exit, message, remedy));
            }
            Report::Joined { .. } => {
                steps.tell(connect, report);
                return Outcome::Joined;
            }
            Report::Step { .. } => {
                steps.tell(connect, report);
            }
        }
    }
}

/// Ends a session that was not waited for to the end, and waits until it has restored everything.
async fn end(child: &mut Child) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    if let Some(pid) = pid {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let _ = child.wait().await;
    }
}

fn died(status: Option<ExitStatus>, dir: &StateDir) -> Failure {
    let how = status.map(|status| format!(": {status}")).unwrap_or_default();
    Failure::new(Exit::Failed, format!("the session's process ended before traffic flowed{how}"))
        .try_this(format!("see {}", dir.log_file().display()))
}

fn cannot_start(error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot start the session's process: {error}"))
}

/// Tells the steps with the time since the command was typed.
struct Steps {
    started: Instant,
}

impl Steps {
    /// Always `true`: whoever typed the command waits for it.
    fn tell(&self, connect: &Connect, report: Report) -> bool {
        match report {
            Report::Step { progress: step } => {
                let at = format!("{:6.2} s", self.started.elapsed().as_secs_f64());
                progress(format_args!("{}  {}", styled(DIM, at), words(connect, &step)));
            }
            Report::Joined { status } => self.joined(&status),
            Report::Failed { .. } => {}
        }
        true
    }

    fn joined(&self, status: &Status) {
        let at = format!("{:6.2} s", self.started.elapsed().as_secs_f64());
        progress(format_args!("{}  traffic flows", styled(DIM, at)));
        result(status_text::joined(status));
    }
}

fn words(connect: &Connect, step: &Progress) -> String {
    match step {
        Progress::Connecting => format!("connecting to {}", connect.gateway),
        Progress::Connected { carrier, rtt, identity } => {
            format!("connected over {carrier}, round trip {}, as {identity}", duration(*rtt))
        }
        Progress::Routed { device, routes } => format!("routed {} through {device}", list(routes)),
        Progress::Named { domain } => format!("names under {domain} resolve"),
        Progress::Flowing => "traffic flows".to_owned(),
    }
}
