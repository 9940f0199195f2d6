//! The mirror: what a target's client notices of it, and whether the copy is whole.
//!
//! 1. [`scene`] makes a target, its client, and all that stands behind a tap; 2. [`harm`], [`mod@copy`], [`mod@flows`] and [`memory`] measure;
//! 3. [`client`] and [`server`] are the traffic.

mod balance;
mod case;
mod client;
mod copy;
mod counts;
mod flows;
mod harm;
mod memory;
mod scene;
mod server;
mod traces;

use std::net::SocketAddr;

use anyhow::Result;

use crate::{Effort, report::Report};

/// What the target's client notices, in every case or in `only` one.
pub(crate) fn target(effort: Effort, only: Option<&str>, report: &mut Report) -> Result<()> {
    harm::measure(effort, only, report)
}

/// Whether the copy of a stream is whole, and what it costs.
pub(crate) fn copy(effort: Effort, report: &mut Report) -> Result<()> {
    copy::measure(effort, report)
}

/// The same for one of 10 GiB.
pub(crate) fn large(report: &mut Report) -> Result<()> {
    copy::large(report)
}

/// Many flows, and flows that nobody reads.
pub(crate) fn flows(effort: Effort, report: &mut Report) -> Result<()> {
    flows::measure(effort, report)?;
    memory::measure(effort, report)
}

/// Is the listener, in a process of its own, until that is killed.
pub(crate) fn listen(address: SocketAddr) -> Result<()> {
    Ok(server::run(address, || ())?)
}
