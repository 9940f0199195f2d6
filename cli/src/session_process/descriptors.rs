//! The session's descriptors: what a background process must not keep open, whatever its starter had open beyond the standard streams,
//! and how many it may have.

#![expect(unsafe_code, reason = "close_range has no safe wrapper, since it can close what another thread owns")]

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Closes every descriptor above the standard three. Without it a script or a test runner that waits for its own pipe to close waits
/// for as long as the session lives.
///
/// Call it first thing in the process, while nothing of its own is open.
pub(super) fn close_inherited() {
    // SAFETY: called before the process opens anything or starts a thread, so no descriptor above 2 has an owner in it.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
    }
}

/// Each mirrored connection has a descriptor, and the usual soft limit of 1,024 would take those of names and commands too.
pub(super) fn raise_limit() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the number of open files: mirrored connections end at the soft limit");
    }
}
