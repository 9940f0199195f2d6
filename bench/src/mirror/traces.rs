//! [`Traces`]: what a tap could leave in a target's namespace, and what its kernel had to repeat. Before: [`super::harm`].

use std::fs;

use anyhow::{Context, Result};
use cli::demo::namespace::Namespace;
use tests::observe::{self, NetworkState};

use super::scene::Scene;
use crate::stage::shell;

/// Links, addresses, routes and rules, the packet filter, sockets that wait, processes.
pub(super) struct Traces {
    network: NetworkState,
    lines: Vec<String>,
}

impl Traces {
    pub(super) fn of(scene: &Scene) -> Result<Self> {
        let target = scene.target();
        let filter = shell(target, "nft list ruleset")?;
        let sockets = shell(target, "ss -Hltunei")?;
        let tap = scene.tap_pid().ok();
        let processes = observe::processes_in(target).into_iter().filter(|pid| Some(*pid) != tap);
        let lines = filter.lines().chain(sockets.lines()).map(str::to_owned);
        Ok(Self {
            network: NetworkState::of(target),
            lines: lines.chain(processes.map(|pid| format!("process {pid}"))).collect(),
        })
    }

    /// How many lines are only in one of the two.
    pub(super) fn difference(&self, later: &Self) -> usize {
        let only = |one: &Self, other: &Self| one.lines.iter().filter(|line| !other.lines.contains(line)).count();
        only(self, later) + only(later, self) + self.network.difference(&later.network).lines().count()
    }
}

/// Segments that a namespace's kernel sent again, and connections that it or its peers reset.
pub(super) fn repairs(namespace: &Namespace) -> Result<u64> {
    let text = namespace.run(|| fs::read_to_string("/proc/thread-self/net/snmp"))?;
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:")).map(|line| line.split_whitespace());
    let (names, values) = (lines.next().context("no names")?, lines.next().context("no values")?);
    let wanted = names.zip(values).filter(|(name, _)| ["RetransSegs", "EstabResets", "OutRsts"].contains(name));
    wanted.map(|(_, value)| Ok(value.parse::<u64>()?)).sum()
}
