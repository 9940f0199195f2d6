//! What the process as a whole needs: descriptors for every flow, and an allocator that gives memory back. For the binary.

#![expect(unsafe_code, reason = "glibc's allocator is tuned by two calls that the safe wrappers do not have")]

use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::time::{MissedTickBehavior, interval};

/// How often the allocator is asked to give back what flows left.
const TRIM_PERIOD: Duration = Duration::from_secs(5);
/// Fewer flows than this leave nothing worth asking for.
const TRIM_FLOWS: i64 = 256;

/// Raises the number of descriptors to what the machine allows, and fixes the allocator's threshold for large blocks.
pub(crate) fn prepare() {
    match getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        Ok((soft, hard))
    }) {
        Ok((soft, hard)) => tracing::debug!(soft, hard, "descriptors"),
        Err(error) => tracing::warn!(%error, "cannot raise the number of open files: flows end at the soft limit"),
    }
    fix_mmap_threshold();
}

/// Gives memory back when many flows have ended: without it the heap keeps the shape of its busiest moment.
pub(crate) async fn trim_after_peaks(open_flows: impl Fn() -> i64) {
    let mut ticks = interval(TRIM_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut peak = 0;
    loop {
        ticks.tick().await;
        let open = open_flows();
        peak = peak.max(open);
        if peak >= TRIM_FLOWS && open <= peak / 2 {
            trim();
            peak = open;
        }
    }
}

/// Otherwise glibc raises it with the first large block that is freed, and keeps every later one on the heap.
#[cfg(target_env = "gnu")]
fn fix_mmap_threshold() {
    const THRESHOLD_BYTES: libc::c_int = 128 << 10;
    // SAFETY: mallopt takes no pointers; it changes a setting of the allocator under its own lock.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, THRESHOLD_BYTES) };
}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: malloc_trim takes no pointers; it only gives free pages back, under the allocator's own lock.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators give large blocks back by themselves.
#[cfg(not(target_env = "gnu"))]
fn fix_mmap_threshold() {}

#[cfg(not(target_env = "gnu"))]
fn trim() {}
