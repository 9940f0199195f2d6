//! CPU time of processes and of the calling thread.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};
use tests::observe::Usage;

/// CPU time that a process has used so far.
pub(crate) fn of_process(pid: u32) -> Result<Duration> {
    Ok(Usage::of(pid).with_context(|| format!("process {pid} is gone"))?.cpu)
}

/// CPU time that the calling thread has used so far.
pub(crate) fn of_thread() -> Result<Duration> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?))
}
