//! What a background process must not keep open: whatever its starter had open beyond the standard streams.

#![expect(unsafe_code, reason = "close_range has no safe wrapper, since it can close what another thread owns")]

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
