//! Moves the process into a machine of its own: private user (when not root), process, mount and network namespaces.
//!
//! Everything that is made afterwards, processes, interfaces, mounts and files under [`SCRATCH`], is the kernel's to
//! remove when the process ends, however it ends. So there is nothing to clean up, not even after SIGKILL.
//!
//! ```text
//! outer    the process that was started; waits, and takes over the exit status
//!  └─ init   process 1 of the new process namespace; reaps orphans; all dies with it
//!      └─ the process that returns from `enter`
//! ```
//!
//! Next in the flow: [`super::namespace`].

#![expect(unsafe_code, reason = "fork(2), called while the process has one thread")]

use std::{fs, io, path::Path};

use nix::{
    errno::Errno,
    libc,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        prctl::set_pdeathsig,
        signal::{SigHandler, Signal, signal},
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork, getegid, geteuid},
};
use thiserror::Error;

/// A directory in memory that is private to the process and its children once [`enter`] returned.
pub const SCRATCH: &str = "/dev/shm";

/// This machine does not let the process make namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EntryError {
    /// The kernel, a security module or a container runtime forbids user namespaces to ordinary users.
    #[error(
        "an ordinary user may not make namespaces on this machine ({step}: {errno}): run it as root, or allow it with \
         `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 kernel.unprivileged_userns_clone=1` \
         (whichever of the two exists)"
    )]
    Unprivileged {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
    /// Root without the capability: a container.
    #[error(
        "root may not make namespaces here ({step}: {errno}): in a container, start it with `--privileged`, or with \
         `--cap-add SYS_ADMIN --cap-add NET_ADMIN --device /dev/net/tun --security-opt seccomp=unconfined`"
    )]
    Privileged {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
}

/// Moves the calling process into namespaces of its own. Must be called while the process has one thread.
///
/// Returns in a grandchild of the calling process, which itself never returns: it ends with the grandchild's status,
/// and takes everything with it when it is killed. Inside, the process is root and sees only its own processes; the
/// file system is the machine's, but for [`SCRATCH`] and `/proc`.
pub fn enter() -> Result<(), EntryError> {
    let root = geteuid().is_root();
    enter_as(root).map_err(|(step, errno)| {
        if root { EntryError::Privileged { step, errno } } else { EntryError::Unprivileged { step, errno } }
    })
}

type Step<T> = Result<T, (&'static str, Errno)>;

fn enter_as(root: bool) -> Step<()> {
    // Flags are tried before anything is forked, so that a machine that forbids them still runs the caller.
    let mut flags = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
    let (uid, gid) = (geteuid(), getegid());
    if !root {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags).map_err(|errno| ("unshare", errno))?;
    if !root {
        // setgroups must be off before an ordinary user may write a group map: user_namespaces(7).
        write_proc("/proc/self/setgroups", "deny")?;
        write_proc("/proc/self/uid_map", &format!("0 {uid} 1"))?;
        write_proc("/proc/self/gid_map", &format!("0 {gid} 1"))?;
    }
    make_mounts_private()?;
    split_off()?;
    mount_proc()
}

fn write_proc(path: &'static str, text: &str) -> Step<()> {
    fs::write(path, text).map_err(|error| (path, errno_of(&error)))
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

fn make_mounts_private() -> Step<()> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(|errno| ("private mounts", errno))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), SCRATCH, Some("tmpfs"), flags, Some("mode=1777")).map_err(|errno| ("mount tmpfs", errno))
}

/// Forks twice; returns in the grandchild.
fn split_off() -> Step<()> {
    // SAFETY: the caller promises one thread, so the child may go on with the whole of the standard library.
    match unsafe { fork() }.map_err(|errno| ("fork", errno))? {
        ForkResult::Parent { child } => outlive(child),
        // The init dies with the outer process, and the kernel kills everything else with the init.
        ForkResult::Child => set_pdeathsig(Signal::SIGKILL).map_err(|errno| ("set the death signal", errno))?,
    }
    // SAFETY: as above; the child has one thread.
    match unsafe { fork() }.map_err(|errno| ("fork", errno))? {
        ForkResult::Parent { child } => reap_until(child),
        ForkResult::Child => Ok(()),
    }
}

/// The outer process: leaves Ctrl-C to the inner one, and ends as that ends.
fn outlive(init: Pid) -> ! {
    // SAFETY: SigIgn runs no code of ours.
    let _ = unsafe { signal(Signal::SIGINT, SigHandler::SigIgn) };
    exit_as(&wait_for(init))
}

/// The init: reaps whatever is left to it until `main` ends, and ends as that ended.
fn reap_until(main: Pid) -> ! {
    loop {
        let status = wait_for(Pid::from_raw(-1));
        if status.pid().is_none_or(|pid| pid == main) {
            exit_as(&status);
        }
    }
}

fn wait_for(pid: Pid) -> WaitStatus {
    loop {
        match waitpid(pid, None) {
            Ok(status) => return status,
            Err(Errno::EINTR) => {}
            Err(_) => return WaitStatus::Exited(pid, 1),
        }
    }
}

fn exit_as(status: &WaitStatus) -> ! {
    let code = match *status {
        WaitStatus::Exited(_, code) => code,
        // What a shell would say of it.
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        WaitStatus::Stopped(..)
        | WaitStatus::PtraceEvent(..)
        | WaitStatus::PtraceSyscall(_)
        | WaitStatus::Continued(_)
        | WaitStatus::StillAlive => 1,
    };
    // SAFETY: _exit takes no locks and runs no handlers; the buffers of this process were copied to the child.
    unsafe { libc::_exit(code) }
}

/// Shows the new process namespace in `/proc`, so that process ids mean the same everywhere.
fn mount_proc() -> Step<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), Path::new("/proc"), Some("proc"), flags, None::<&str>).map_err(|errno| ("mount /proc", errno))
}
