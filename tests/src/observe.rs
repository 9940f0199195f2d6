//! What `ip` says of a namespace and `/proc` of a process, for comparisons before and after.

use std::{fmt::Write, fs, time::Duration};

use cli::demo::namespace::Namespace;
use nix::unistd::{SysconfVar, sysconf};
use serde_json::Value;

use crate::process;

/// What is dumped, as arguments of `ip`.
const DUMPS: [&[&str]; 6] = [
    &["-d", "link", "show"],
    &["address", "show"],
    &["-4", "route", "show", "table", "all"],
    &["-6", "route", "show", "table", "all"],
    &["-4", "rule", "show"],
    &["-6", "rule", "show"],
];

/// Links, addresses, routes of all tables and rules of a namespace.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkState {
    dumps: Vec<Vec<Value>>,
}

impl NetworkState {
    /// Takes it by `ip -j`.
    pub fn of(namespace: &Namespace) -> Self {
        let dump = |arguments: &[&str]| {
            let text = process::run(namespace.command("ip").arg("-j").args(arguments));
            // `ip` prints nothing at all for an empty table.
            if text.trim().is_empty() { Vec::new() } else { serde_json::from_str(&text).expect("ip -j prints JSON") }
        };
        Self { dumps: DUMPS.map(dump).into() }
    }

    /// What is only in one of the two: `-` in this one, `+` in the later one. Empty when they are the same.
    pub fn difference(&self, later: &Self) -> String {
        let mut text = String::new();
        for (index, arguments) in DUMPS.iter().enumerate() {
            let (before, after) = (&self.dumps[index], &later.dumps[index]);
            let gone = before.iter().filter(|value| !after.contains(value)).map(|value| ('-', value));
            let new = after.iter().filter(|value| !before.contains(value)).map(|value| ('+', value));
            for (sign, value) in gone.chain(new) {
                writeln!(text, "{sign} ip {}: {value}", arguments.join(" ")).expect("a String takes all");
            }
        }
        text
    }
}

/// What a process holds and has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Memory in RAM, shared pages included.
    pub resident_bytes: u64,
    /// Open descriptors.
    pub files: usize,
    /// Threads.
    pub threads: u64,
    /// User and system time of all threads.
    pub cpu: Duration,
}

impl Usage {
    /// Reads it; `None` when there is no such process, or only its exit status is left.
    pub fn of(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)
        };
        if field("State:")? == "Z" {
            return None;
        }
        Some(Self {
            resident_bytes: field("VmRSS:")?.parse::<u64>().ok()? * 1024,
            files: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count(),
            threads: field("Threads:")?.parse().ok()?,
            cpu: cpu_time(pid)?,
        })
    }
}

/// Whether the process runs: a zombie does not.
pub fn is_alive(pid: u32) -> bool {
    Usage::of(pid).is_some()
}

fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; utime and stime are fields 14 and 15 of the line: proc_pid_stat(5).
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let per_second = sysconf(SysconfVar::CLK_TCK).ok()??;
    Some(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// The processes that run in the network namespace.
pub fn processes_in(namespace: &Namespace) -> Vec<u32> {
    let Ok(wanted) = fs::metadata(format!("/proc/self/fd/{}", descriptor(namespace))) else { return Vec::new() };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let network = fs::metadata(format!("/proc/{pid}/ns/net"));
        network.is_ok_and(|network| same_file(&network, &wanted))
    })
    .collect()
}

fn descriptor(namespace: &Namespace) -> i32 {
    std::os::fd::AsRawFd::as_raw_fd(namespace.network())
}

fn same_file(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}
