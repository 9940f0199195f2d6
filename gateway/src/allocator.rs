//! The binary's allocator: jemalloc, because the gateway must give memory back after its flows.
//!
//! quinn keeps a small object for each stream that was ever open at once, until the connection ends. With glibc's heap these lie
//! between everything else a flow had, so after 10,000 flows not a page can be given back (30 MB stayed of 30). jemalloc keeps
//! sizes apart: 10 MB stay, which is what quinn holds, and a flow costs a sixth less to begin with.

#![expect(unsafe_code, reason = "jemalloc reads its settings from a symbol of a fixed name")]

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
