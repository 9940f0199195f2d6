//! How a tap is started: this very program as `tap`, with one end of a pair of sockets as its standard input. It ends when the other end
//! does, whatever ends the gateway. Whoever embeds a gateway may start taps in another way ([`StartTap`]).
//! Before: [`super::supervise`]; after: [`crate::tap`], in the process that is started.

use std::{
    fmt, io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdUnixStream},
    path::PathBuf,
    process::Stdio,
};

use tokio::{
    net::UnixStream,
    process::{Child, Command},
};

use crate::cluster::ReplicaPlace;

/// Starts taps.
pub trait StartTap: Send + Sync + fmt::Debug {
    /// Starts the tap of a replica.
    ///
    /// # Errors
    /// What the kernel says; it is tried again.
    fn start(&self, place: &ReplicaPlace) -> io::Result<RunningTap>;
}

/// A tap that was started.
#[derive(Debug)]
pub struct RunningTap {
    /// What it reads requests from and writes records to.
    pub stream: UnixStream,
    /// Its process, which is killed when dropped; its standard error, if piped, goes to the log.
    pub process: Option<Child>,
}

/// Starts a program with the arguments of `adit-gateway tap`.
#[derive(Debug, Clone)]
pub struct TapProgram {
    program: PathBuf,
}

impl TapProgram {
    /// This process's own program, also when its file has been replaced meanwhile.
    pub fn own() -> Self {
        Self::at("/proc/self/exe")
    }

    /// The program at this path.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }
}

impl StartTap for TapProgram {
    fn start(&self, place: &ReplicaPlace) -> io::Result<RunningTap> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut command = Command::new(&self.program);
        command.arg0("adit-gateway").arg("tap");
        match place {
            ReplicaPlace::Netns(path) => command.arg("--netns").arg(path),
            ReplicaPlace::Pid { pid, started } => {
                command.args(["--pid", &pid.to_string(), "--started", &started.to_string()])
            }
        };
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let process = command.spawn()?;
        Ok(RunningTap { stream: UnixStream::from_std(ours)?, process: Some(process) })
    }
}
