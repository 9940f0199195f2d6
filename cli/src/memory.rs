//! How the allocator gives memory back. Only the session's process needs it: it holds rings of 256 KiB for every open flow.

#![expect(unsafe_code, reason = "mallopt has no safe wrapper")]

/// Allocations from this size are mapped, so freeing them returns them to the kernel: half of a ring. Left alone, glibc raises the
/// threshold with the first ring that is freed, and a flow then keeps 277 KiB resident instead of 11.
#[cfg(target_env = "gnu")]
const MAP_FROM_BYTES: libc::c_int = 128 * 1024;

/// Fixes glibc's mmap threshold; other allocators are left as they are. Call it before the first flow.
pub(crate) fn give_rings_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt only changes a parameter of the allocator, takes its own lock, and any value is valid.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAP_FROM_BYTES);
    }
}
