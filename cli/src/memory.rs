//! Memory that flows leave goes back to the kernel. Only the session's process needs it: the binary's allocator does the rest.

#![expect(unsafe_code, reason = "mallctl has no safe wrapper")]

/// Starts the allocator's own thread, which gives unused pages back also while the session idles. Where it has none, they go back
/// at once.
pub(crate) fn give_back_when_idle() {
    let mut enabled = true;
    // SAFETY: the name is terminated, nothing is asked, and the new value is a bool of the size that is said.
    let failed = unsafe {
        tikv_jemalloc_sys::mallctl(
            c"background_thread".as_ptr(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            (&raw mut enabled).cast(),
            size_of::<bool>(),
        )
    };
    if failed != 0 {
        tracing::debug!(failed, "the allocator has no thread of its own");
    }
}
