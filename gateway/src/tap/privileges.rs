//! [`give_up()`]: what an intruder into the tap would have, which is next to nothing: the capability to capture, in the target's network, as
//! nobody. The tap reads what strangers sent to the target, so it must not be worth breaking into.
//! Before: [`super::enter`]; after: [`super::capture`].

#![expect(unsafe_code, reason = "capabilities, descriptors and priority, which no safe wrapper has")]

use std::io;

use nix::{
    errno::Errno,
    sys::prctl,
    unistd::{Gid, Uid, getuid, setgroups, setresgid, setresuid},
};

/// `nobody` and `nogroup`.
const NOBODY: u32 = 65_534;
const CAP_NET_RAW: u32 = 13;
/// `_LINUX_CAPABILITY_VERSION_3`.
const CAPABILITY_VERSION: u32 = 0x2008_0522;
/// Behind what a program with work for the target does; where the two share a core, the target's turn comes first.
const NICE: libc::c_int = 19;

/// Closes every descriptor but the first three. Before anything else: none of them is ours.
pub(super) fn close_inherited() {
    // SAFETY: no pointers; what is closed was inherited, and nothing in this process owns it.
    if unsafe { libc::close_range(3, libc::c_uint::MAX, 0) } != 0 {
        // Before Linux 5.9.
        for fd in 3..1_024 {
            // SAFETY: as above.
            unsafe { libc::close(fd) };
        }
    }
}

/// Keeps the right to capture and gives up all others. The process must have one thread: capabilities are a thread's.
///
/// # Errors
/// The kernel's, if a right that must go stays.
pub(super) fn give_up() -> io::Result<()> {
    drop_bounding_set();
    become_nobody()?;
    keep_only_raw()?;
    prctl::set_no_new_privs()?;
    // Nobody else of the same user may read its memory, and it leaves no core dump.
    prctl::set_dumpable(false)?;
    // SAFETY: no pointers. It is a courtesy; nothing depends on it.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    Ok(())
}

/// Takes the right, of all that may be gained by executing a file. Where the process may not, it executes none.
fn drop_bounding_set() {
    for capability in 0..64_u64 {
        // SAFETY: no pointers. Numbers beyond the last capability are refused.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0_u64, 0_u64, 0_u64) };
    }
    // SAFETY: no pointers.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0_u64, 0_u64, 0_u64) };
}

/// Where it may not become another user it stays who it is, and gives up what else it can: without capabilities, root has but its files.
fn become_nobody() -> io::Result<()> {
    if !getuid().is_root() && !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    prctl::set_keepcaps(true)?;
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    let mut outcome_of_all = Ok(());
    // Each for itself: the first needs other rights than the last.
    for (what, outcome) in [
        ("other groups", setgroups(&[])),
        ("the group", setresgid(gid, gid, gid)),
        ("the user", setresuid(uid, uid, uid)),
    ] {
        if let Err(errno) = outcome {
            tracing::debug!(%errno, "the tap keeps {what}");
            outcome_of_all = Err(errno);
        }
    }
    // In a user namespace of few users there is no nobody, and its root is a plain user outside.
    if outcome_of_all == Err(Errno::EPERM) && getuid().is_root() {
        tracing::warn!(
            "the tap stays root, without its capabilities: start the gateway with SETUID and SETGID, or as another user"
        );
    }
    prctl::set_keepcaps(false)?;
    Ok(())
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilitySets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn keep_only_raw() -> io::Result<()> {
    let header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let raw = 1 << CAP_NET_RAW;
    // The second holds capabilities from 32 on.
    let sets = [
        CapabilitySets { effective: raw, permitted: raw, inheritable: 0 },
        CapabilitySets { effective: 0, permitted: 0, inheritable: 0 },
    ];
    // SAFETY: the kernel reads a header and, in this version, two sets.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
