//! Figures as ratios against a baseline of the same run: `make bench`, or `cargo run --release -p bench -- GROUP...`.
//!
//! Both ends, the cluster and the baselines live in network namespaces of this process, so nothing outside is touched. CPU-seconds
//! per GB stand beside every rate: on a shared machine they are what can be trusted. A table is printed, and the same is written
//! as JSON.
//!
//! 1. [`stage`] makes the world and joins it; 2. each group measures: [`bulk`], [`latency`], [`connections`], [`memory`], [`wan`], [`mirror`];
//! 3. [`report`] sets each figure against its bar.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod bulk;
mod connections;
mod cpu;
mod latency;
mod memory;
mod mirror;
mod quinn_baseline;
mod report;
mod stage;
mod wan;
mod wireguard;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::report::Report;

/// Measures adit between network namespaces of this machine.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure; everything when none is named.
    groups: Vec<Group>,
    /// How long each measurement of a rate takes, in seconds.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// How often each measurement is repeated; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Where the figures go as JSON.
    #[arg(long, default_value = "target/bench.json")]
    json: PathBuf,
    /// Of the group `target`, only this case, as it is called in the table.
    #[arg(long)]
    case: Option<String>,
    /// Be the listener of a mirror here, for a measurement.
    #[arg(long, hide = true, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    /// One and eight bulk flows each way, against direct, bare quinn and wireguard-go.
    Bulk,
    /// One-byte exchanges, alone and beside a bulk flow.
    Latency,
    /// Short connections, 50 at a time.
    Connections,
    /// Ten thousand open flows.
    Memory,
    /// A link of 1 Gbit/s and 50 ms, with and without loss.
    Wan,
    /// What a mirrored target's client notices of it.
    Target,
    /// Whether the mirror's copy of a stream is whole, and what it costs.
    Copy,
    /// The same for 10 GiB in one connection: half a minute.
    Large,
    /// Thousands of mirrored connections, datagrams, how soon they are there, and what is held for listeners that do not read.
    Flows,
}

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) time: Duration,
    pub(crate) rounds: usize,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    if let Some(address) = arguments.listen {
        return mirror::listen(address);
    }
    let effort = Effort { time: Duration::from_secs(arguments.seconds), rounds: arguments.rounds.max(1) };
    let all = Group::value_variants().to_vec();
    let groups = if arguments.groups.is_empty() { all } else { arguments.groups };
    let mut report = Report::default();
    for group in groups {
        match group {
            Group::Bulk => bulk::measure(effort, &mut report)?,
            Group::Latency => latency::measure(effort, &mut report)?,
            Group::Connections => connections::measure(effort, &mut report)?,
            Group::Memory => memory::measure(&mut report)?,
            Group::Wan => wan::measure(effort, &mut report)?,
            Group::Target => mirror::target(effort, arguments.case.as_deref(), &mut report)?,
            Group::Copy => mirror::copy(effort, &mut report)?,
            Group::Large => mirror::large(&mut report)?,
            Group::Flows => mirror::flows(effort, &mut report)?,
        }
    }
    println!("{report}");
    report.write_json(&arguments.json)
}
