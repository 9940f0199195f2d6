//! [`Unplaced`]: what the rings lost that is in no flow's gaps, counted by port. Used by [`super::flows`]; after:
//! [`super::protocol::PortStats`].

use std::collections::BTreeMap;

use link::rules::RuleProtocol;

use super::{ports::Ports, protocol::ListeningPort};

/// Counts of the ports that have a rule.
#[derive(Debug, Default)]
pub(super) struct Unplaced {
    /// Bytes of TCP connections of which nothing had been seen.
    bytes: BTreeMap<u16, u64>,
    datagrams: BTreeMap<u16, u64>,
}

impl Unplaced {
    /// The target received so many bytes to this port of which nothing else tells.
    pub(super) fn add_bytes(&mut self, port: u16, bytes: u64) {
        if bytes > 0 {
            *self.bytes.entry(port).or_default() += bytes;
        }
    }

    /// So many datagrams were lost. Which port a lost frame was for nobody knows, so each may have lost all of them: too much is said rather
    /// than too little.
    pub(super) fn add_datagrams(&mut self, ports: &Ports, datagrams: u64) {
        for port in ports.iter().filter(|port| datagrams > 0 && port.protocol == RuleProtocol::Udp) {
            *self.datagrams.entry(port.port).or_default() += datagrams;
        }
    }

    /// Forgets the ports that have no rule any more.
    pub(super) fn retain(&mut self, ports: &Ports) {
        let has = |port, protocol| ports.iter().any(|other| other == ListeningPort { port, protocol });
        self.bytes.retain(|port, _| has(*port, RuleProtocol::Tcp));
        self.datagrams.retain(|port, _| has(*port, RuleProtocol::Udp));
    }

    /// Bytes, where the port is of TCP.
    pub(super) fn bytes_of(&self, port: ListeningPort) -> u64 {
        of(&self.bytes, port, RuleProtocol::Tcp)
    }

    /// Datagrams, where it is of UDP.
    pub(super) fn datagrams_of(&self, port: ListeningPort) -> u64 {
        of(&self.datagrams, port, RuleProtocol::Udp)
    }
}

fn of(counts: &BTreeMap<u16, u64>, port: ListeningPort, protocol: RuleProtocol) -> u64 {
    if port.protocol == protocol { counts.get(&port.port).copied().unwrap_or(0) } else { 0 }
}
