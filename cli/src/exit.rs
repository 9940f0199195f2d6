//! How a command ends: the documented exit codes, and [`Failure`], which says what went wrong and what to do about it.
//! Every error of every command becomes one here. After: [`crate::output`].

use std::{error::Error, fmt, process::ExitCode};

use tunnel::{control::state_dir::StateDirError, host_network::HostError, session_options::SessionError};

/// The exit codes, which scripts may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done as asked.
    Done = 0,
    /// Failed for a reason without a code of its own; the message tells.
    Failed = 1,
    /// The command line, the identity's file or the state directory cannot be used as given.
    Usage = 2,
    /// There is no session to ask.
    NotConnected = 3,
    /// Refused by policy: the gateway's about this identity, or adit's own about what a gateway may announce.
    Refused = 4,
    /// The gateway cannot be reached, or what answers there cannot be talked to.
    Unreachable = 5,
    /// This machine does not let the user do that.
    NoPrivilege = 6,
    /// Ended by Ctrl-C while waiting.
    Interrupted = 130,
}

/// The table of exit codes, for `--help`.
pub const HELP: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not connected, 4 refused by policy, \
                        5 gateway unreachable, 6 no privilege on this machine, 130 ended by Ctrl-C.";

impl Exit {
    /// As the operating system sees it.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The exit for a code that another process of ours reported; [`Exit::Failed`] for any other.
    pub fn from_code(code: u8) -> Self {
        [
            Self::Done,
            Self::Usage,
            Self::NotConnected,
            Self::Refused,
            Self::Unreachable,
            Self::NoPrivilege,
            Self::Interrupted,
        ]
        .into_iter()
        .find(|exit| exit.code() == code)
        .unwrap_or(Self::Failed)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// A command that did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The process's exit code.
    pub exit: Exit,
    /// What went wrong: one sentence that names the thing.
    pub message: String,
    /// What the user can do about it.
    pub remedy: Option<String>,
}

impl Failure {
    /// A failure without a remedy.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), remedy: None }
    }

    /// Adds what the user can do.
    pub fn try_this(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    /// A failure told by an error and its sources.
    pub fn from_error(exit: Exit, error: &dyn Error) -> Self {
        Self::new(exit, with_sources(error))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        let exit = match &error {
            SessionError::Identity(_) | SessionError::Tls(_) => Exit::Usage,
            SessionError::Refused { .. } | SessionError::Busy { .. } | SessionError::Announced(_) => Exit::Refused,
            SessionError::Unreachable { .. }
            | SessionError::Foreign { .. }
            | SessionError::Version { .. }
            | SessionError::Incompatible(_) => Exit::Unreachable,
            SessionError::Privilege { .. }
            | SessionError::NoTunDevice
            | SessionError::Network(HostError::NotPermitted { .. } | HostError::NoTunDevice(_)) => Exit::NoPrivilege,
            SessionError::Network(_) | SessionError::Host { .. } => Exit::Failed,
        };
        Self { remedy: error.remedy(), ..Self::from_error(exit, &error) }
    }
}

impl From<StateDirError> for Failure {
    fn from(error: StateDirError) -> Self {
        Self::from_error(Exit::Usage, &error).try_this(error.remedy())
    }
}

fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_failure_names_its_sources_once() {
        let source = io::Error::from_raw_os_error(libc::ENOSPC);
        let failure = Failure::from(SessionError::Host { action: "make a TUN device", source });
        assert_eq!(failure.message, "cannot make a TUN device: No space left on device (os error 28)");
        assert!(failure.remedy.is_some());
    }

    #[test]
    fn a_missing_privilege_has_its_code_and_its_remedy() {
        let failure = Failure::from(SessionError::Privilege { action: "make a TUN device" });
        assert_eq!(failure.exit.code(), 6);
        assert!(failure.remedy.unwrap().contains("root"));
    }

    #[test]
    fn every_code_is_recognised() {
        for code in [0, 1, 2, 3, 4, 5, 6, 130] {
            assert_eq!(Exit::from_code(code).code(), code);
        }
        assert_eq!(Exit::from_code(77), Exit::Failed);
    }
}
