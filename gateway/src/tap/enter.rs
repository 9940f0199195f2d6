//! [`enter()`]: the tap's first step, into the target's network namespace, and whether it may capture there.
//! Before: `adit-gateway tap`; after: [`super::privileges`].

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
};
use thiserror::Error;

use super::ring;
use crate::cluster::linux::process::started;

/// Whose traffic is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The network namespace that this file is.
    Netns(PathBuf),
    /// The network namespace of a process.
    Pid {
        /// Its number.
        pid: u32,
        /// When it started, in the kernel's ticks since boot, if another one that has its number is not meant.
        started: Option<u64>,
    },
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
        Place::Netns(path) => enter_file(&open(path, EnterError::NoNamespace(path.clone()))?, path)?,
        Place::Pid { pid, started } => enter_process(*pid, *started)?,
    }
    ring::probe().map_err(|error| {
        let errno = errno(&error);
        if is_forbidden(errno) { EnterError::NoRawSockets(errno) } else { EnterError::NoPacketSockets(errno) }
    })
}

/// Whoever has the namespace open keeps it: if the process is still the one that is meant behind that, it is that one's.
fn enter_process(pid: u32, meant: Option<u64>) -> Result<(), EnterError> {
    let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
    let file = open(&path, EnterError::NoProcess(pid))?;
    if meant.is_some() && started(pid) != meant {
        return Err(EnterError::NoProcess(pid));
    }
    enter_file(&file, &path)
}

fn open(path: &Path, missing: EnterError) -> Result<File, EnterError> {
    File::open(path).map_err(|error| {
        let errno = errno(&error);
        // Of a process that ended while it was looked for.
        if matches!(errno, Errno::ENOENT | Errno::ESRCH) { missing } else { refused(path, errno) }
    })
}

fn enter_file(file: &File, path: &Path) -> Result<(), EnterError> {
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|errno| {
        if errno == Errno::EINVAL { EnterError::NoNetns(path.display().to_string()) } else { refused(path, errno) }
    })
}

fn refused(path: &Path, errno: Errno) -> EnterError {
    let place = path.display().to_string();
    if is_forbidden(errno) {
        EnterError::Forbidden { place, errno }
    } else {
        EnterError::Unusable { place, source: errno.into() }
    }
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
        let error = enter(&Place::Pid { pid: 1 << 30, started: None }).unwrap_err();
        assert!(error.to_string().starts_with("process 1073741824, "), "{error}");
        assert!(!error.is_privilege());
    }

    #[test]
    fn another_process_with_the_same_number_is_left_alone() {
        let pid = std::process::id();
        let error = enter(&Place::Pid { pid, started: Some(1) }).unwrap_err();
        assert!(matches!(error, EnterError::NoProcess(it) if it == pid), "{error}");
    }
}
