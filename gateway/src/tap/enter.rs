//! [`enter()`]: the tap's first step, into the target's network namespace, and whether it may capture there.
//! Before: `adit-gateway tap`; after: [`super::privileges`].

use std::{fs::File, io, path::PathBuf};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
};
use thiserror::Error;

use super::ring;

/// Whose traffic is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The network namespace that this file is.
    Netns(PathBuf),
    /// The network namespace of this process.
    Pid(u32),
    /// The one that the tap was started in.
    Here,
}

/// The tap cannot be where it should.
#[derive(Debug, Error)]
pub enum EnterError {
    /// The file does not exist.
    #[error("the network namespace '{}' is not there: compare it with what `ls /run/netns` and `lsns -t net` list", .0.display())]
    NoNamespace(PathBuf),
    /// The process does not exist.
    #[error(
        "process {0}, whose network should be tapped, is not there: it has ended, or belongs to another process namespace"
    )]
    NoProcess(u32),
    /// The file is something else.
    #[error("'{0}' is no network namespace: name a file as in /run/netns, or /proc/PID/ns/net")]
    NoNetns(String),
    /// The kernel does not let the process in.
    #[error(
        "may not enter the network namespace '{place}' ({errno}): run adit-gateway as root, or with the capabilities \
         SYS_ADMIN and SYS_PTRACE"
    )]
    Forbidden {
        /// The file.
        place: String,
        /// What the kernel said.
        errno: Errno,
    },
    /// Something else is wrong with the file.
    #[error("cannot enter the network namespace '{place}'")]
    Unusable {
        /// The file.
        place: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// No capability.
    #[error("may not capture packets ({0}): run adit-gateway as root, or with the capability NET_RAW")]
    NoRawSockets(Errno),
    /// No such sockets.
    #[error("this kernel has no packet sockets ({0}): `modprobe af_packet`, or use one with CONFIG_PACKET")]
    NoPacketSockets(Errno),
}

impl EnterError {
    /// Whether the user's privileges are what is missing.
    pub const fn is_privilege(&self) -> bool {
        matches!(self, Self::Forbidden { .. } | Self::NoRawSockets(_))
    }
}

/// Moves the calling thread into the namespace.
///
/// # Errors
/// [`EnterError`], which says what to do.
pub(super) fn enter(place: &Place) -> Result<(), EnterError> {
    match place {
        Place::Here => {}
        Place::Netns(path) => enter_file(path.clone(), EnterError::NoNamespace(path.clone()))?,
        Place::Pid(pid) => enter_file(format!("/proc/{pid}/ns/net").into(), EnterError::NoProcess(*pid))?,
    }
    ring::probe().map_err(|error| {
        let errno = errno(&error);
        if is_forbidden(errno) { EnterError::NoRawSockets(errno) } else { EnterError::NoPacketSockets(errno) }
    })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "errno has a hundred values, of which these say what to do")]
fn enter_file(path: PathBuf, missing: EnterError) -> Result<(), EnterError> {
    let place = path.display().to_string();
    let file = File::open(&path).map_err(|source| match errno(&source) {
        // Of a process that ended while it was looked for.
        Errno::ENOENT | Errno::ESRCH => missing,
        errno if is_forbidden(errno) => EnterError::Forbidden { place: place.clone(), errno },
        _ => EnterError::Unusable { place: place.clone(), source },
    })?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
        Errno::EINVAL => EnterError::NoNetns(place),
        errno if is_forbidden(errno) => EnterError::Forbidden { place, errno },
        _ => EnterError::Unusable { place, source: errno.into() },
    })
}

const fn is_forbidden(errno: Errno) -> bool {
    matches!(errno, Errno::EPERM | Errno::EACCES)
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_namespace_is_named() {
        let error = enter(&Place::Netns("/run/netns/there-is-none".into())).unwrap_err();
        assert!(
            error.to_string().starts_with("the network namespace '/run/netns/there-is-none' is not there: "),
            "{error}"
        );
        let error = enter(&Place::Netns("/dev/null".into())).unwrap_err();
        assert!(matches!(&error, EnterError::NoNetns(place) if place == "/dev/null"), "{error}");
        // Above the largest process id there can be.
        let error = enter(&Place::Pid(1 << 30)).unwrap_err();
        assert!(error.to_string().starts_with("process 1073741824, "), "{error}");
        assert!(!error.is_privilege());
    }
}
