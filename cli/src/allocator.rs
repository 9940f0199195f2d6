//! The binary's allocator: jemalloc, because a session must give memory back after its flows.
//!
//! quinn keeps a small object for each stream that was ever open at once, until the connection ends. With glibc's heap these lie
//! between everything else a flow had, so after 10,000 flows 27 MiB of 105 stayed. The flows' rings are blocks of 256 KiB, which
//! jemalloc maps fresh, so that of an idle flow only the pages that it touched are resident.

#![expect(unsafe_code, reason = "jemalloc reads its settings from a symbol of a fixed name")]

use std::ffi::CStr;

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// One arena, since one thread does nearly all the work. What quinn receives at once is a block of up to 64 KiB: kept by the thread
/// when freed. Unused pages go back within a second, by a thread of jemalloc's own, which only a session starts: what enters
/// namespaces must have one thread.
#[cfg(not(target_env = "musl"))]
const SETTINGS: &CStr = c"narenas:1,lg_tcache_max:17,oversize_threshold:131072,dirty_decay_ms:1000,muzzy_decay_ms:0";

/// Where jemalloc has no thread of its own, unused pages go back at once.
#[cfg(target_env = "musl")]
const SETTINGS: &CStr = c"narenas:1,lg_tcache_max:17,dirty_decay_ms:0,muzzy_decay_ms:0";

// SAFETY: the symbol is jemalloc's own, prefixed as its crate builds it, and a pointer to a C string, as it expects.
#[unsafe(export_name = "_rjem_malloc_conf")]
static MALLOC_CONF: &u8 = &SETTINGS.to_bytes_with_nul()[0];
