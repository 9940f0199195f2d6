//! The binary's allocator: jemalloc, because the gateway must give memory back after its flows.
//!
//! quinn keeps a small object for each stream that was ever open at once, until the connection ends. With glibc's heap these lie
//! between everything else a flow had, so after 10,000 flows not a page can be given back (30 MB stayed of 30). jemalloc keeps
//! sizes apart: 10 MB stay, which is what quinn holds, and a flow costs a sixth less to begin with.

#![expect(
    unsafe_code,
    reason = "jemalloc reads its settings from a symbol of a fixed name, and has one function to change them"
)]

use std::ffi::CStr;

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// One arena, since one thread does all the work; unused pages go back within a second, by a thread of jemalloc's own, so that an
/// idle gateway gives back as well.
#[cfg(not(target_env = "musl"))]
const SETTINGS: &CStr = c"narenas:1,background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0";

/// Where jemalloc has no thread of its own, unused pages go back at once.
#[cfg(target_env = "musl")]
const SETTINGS: &CStr = c"narenas:1,dirty_decay_ms:0,muzzy_decay_ms:0";

// SAFETY: the symbol is jemalloc's own, prefixed as its crate builds it, and a pointer to a C string, as it expects.
#[unsafe(export_name = "_rjem_malloc_conf")]
static MALLOC_CONF: &u8 = &SETTINGS.to_bytes_with_nul()[0];

/// Ends jemalloc's own thread; what is unused goes back when something is freed.
pub(crate) fn stop_thread() {
    #[cfg(not(target_env = "musl"))]
    {
        let mut enabled = false;
        let value = (&raw mut enabled).cast();
        // SAFETY: the name is a C string, the value is the boolean that this setting is, and nothing is read back.
        let stopped = unsafe {
            mallctl(c"background_thread".as_ptr(), std::ptr::null_mut(), std::ptr::null_mut(), value, size_of::<bool>())
        };
        debug_assert_eq!(stopped, 0, "jemalloc knows the setting");
    }
}

#[cfg(not(target_env = "musl"))]
unsafe extern "C" {
    #[link_name = "_rjem_mallctl"]
    fn mallctl(
        name: *const std::ffi::c_char,
        old: *mut std::ffi::c_void,
        old_len: *mut usize,
        new: *mut std::ffi::c_void,
        new_len: usize,
    ) -> std::ffi::c_int;
}
