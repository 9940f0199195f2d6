//! [`Ports`]: the rules that are in force, and which flows are in their samples. Before: [`super::capture`]; after: [`super::flows`].

use std::{
    collections::{BTreeMap, hash_map::RandomState},
    hash::BuildHasher,
    net::SocketAddr,
};

use link::rules::{RuleProtocol, Sample};

use super::{
    filter::Wanted,
    protocol::{ListeningPort, TappedPort},
};

/// Numbers that [`Sample::takes`] knows.
const SAMPLE_NUMBERS: u64 = 1_000_000;

/// What is copied.
#[derive(Debug, Default)]
pub(super) struct Ports {
    samples: BTreeMap<ListeningPort, Sample>,
    /// Nobody who sends to the target can know which flows are in a sample.
    seed: RandomState,
}

impl Ports {
    /// Takes over what is to be copied from here on; of a port that is named twice the larger sample.
    pub(super) fn replace(&mut self, ports: &[TappedPort]) {
        self.samples.clear();
        for &TappedPort { port, protocol, sample } in ports {
            let known = self.samples.entry(ListeningPort { port, protocol }).or_insert(sample);
            *known = sample.max(*known);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// All of them, sorted.
    pub(super) fn iter(&self) -> impl Iterator<Item = ListeningPort> + '_ {
        self.samples.keys().copied()
    }

    /// What the kernel has to look for.
    pub(super) fn wanted(&self, interfaces: Vec<u32>) -> Wanted {
        let of =
            |protocol| self.iter().filter(move |port| port.protocol == protocol).map(|port| port.port.into()).collect();
        Wanted { interfaces, tcp: of(RuleProtocol::Tcp), udp: of(RuleProtocol::Udp) }
    }

    /// Whether a flow is copied: `None` when its port is not of interest.
    pub(super) fn takes(&self, protocol: RuleProtocol, client: SocketAddr, server: SocketAddr) -> Option<bool> {
        let sample = *self.samples.get(&ListeningPort { port: server.port(), protocol })?;
        Some(sample == Sample::ALL || sample.takes(self.sample_number(protocol, client, server)))
    }

    /// Evenly spread from 0 to 999,999, and always the same for one flow.
    pub(super) fn sample_number(&self, protocol: RuleProtocol, client: SocketAddr, server: SocketAddr) -> u32 {
        let hash = self.seed.hash_one((protocol, client, server));
        u32::try_from(hash % SAMPLE_NUMBERS).expect("below a million")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(port: u16, protocol: RuleProtocol, millionths: u32) -> TappedPort {
        TappedPort { port, protocol, sample: Sample::millionths(millionths) }
    }

    #[test]
    fn a_share_of_flows_is_taken_always_the_same_ones() {
        let mut ports = Ports::default();
        ports.replace(&[port(80, RuleProtocol::Tcp, 250_000), port(53, RuleProtocol::Udp, 1_000_000)]);
        let server = "10.0.0.1:80".parse().unwrap();
        let taken = |ports: &Ports, n: u16| {
            ports.takes(RuleProtocol::Tcp, SocketAddr::new([10, 1, 0, 0].into(), n), server).unwrap()
        };
        let first: Vec<bool> = (0..10_000).map(|n| taken(&ports, n)).collect();
        let share = first.iter().filter(|taken| **taken).count();
        assert!((2_000..3_000).contains(&share), "{share}");
        ports.replace(&[port(80, RuleProtocol::Tcp, 250_000)]);
        assert!((0..10_000).all(|n| taken(&ports, n) == first[usize::from(n)]));
        assert_eq!(ports.takes(RuleProtocol::Udp, server, "10.0.0.1:53".parse().unwrap()), None);
    }

    #[test]
    fn the_larger_sample_of_a_port_counts() {
        let mut ports = Ports::default();
        ports.replace(&[port(80, RuleProtocol::Tcp, 0), port(80, RuleProtocol::Tcp, 1_000_000)]);
        assert_eq!(
            ports.takes(RuleProtocol::Tcp, "10.0.0.2:1".parse().unwrap(), "10.0.0.1:80".parse().unwrap()),
            Some(true)
        );
        ports.replace(&[port(53, RuleProtocol::Udp, 1)]);
        assert_eq!(ports.wanted(vec![1]), Wanted { interfaces: vec![1], tcp: vec![], udp: vec![53] });
    }
}
