//! What a tap is to copy: the union of what the rules of all sessions ask of it. Pure. Used by [`super::tap`].

use std::collections::BTreeMap;

use link::rules::Sample;

use super::fanout::Port;
use crate::tap::protocol::{MAX_PORTS, TappedPort};

/// The rules of a tap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Raised with every change.
    pub(super) generation: u64,
    /// At most [`MAX_PORTS`].
    pub(super) ports: Vec<TappedPort>,
}

impl Wanted {
    /// Takes over what is wanted; whether anything changed. What a tap copies is never given up for another port.
    pub(super) fn change(&mut self, wanted: impl Iterator<Item = (Port, Sample)>) -> bool {
        let mut wanted: BTreeMap<Port, Sample> = wanted.collect();
        let tapped = |(protocol, port): Port, sample| TappedPort { port, protocol, sample };
        let kept = self.ports.iter().map(|old| (old.protocol, old.port));
        let mut ports: Vec<_> = kept.filter_map(|port| Some(tapped(port, wanted.remove(&port)?))).collect();
        ports.extend(wanted.into_iter().map(|(port, sample)| tapped(port, sample)).take(MAX_PORTS - ports.len()));
        let has_changed = ports != self.ports;
        self.ports = ports;
        self.generation += u64::from(has_changed);
        has_changed
    }

    /// Whether this port is among them.
    pub(super) fn has(&self, (protocol, port): Port) -> bool {
        self.ports.iter().any(|tapped| (tapped.protocol, tapped.port) == (protocol, port))
    }
}

#[cfg(test)]
mod tests {
    use link::rules::RuleProtocol::{Tcp, Udp};

    use super::*;

    #[test]
    fn a_generation_is_raised_by_changes_only() {
        let mut wanted = Wanted::default();
        assert!(wanted.change([((Tcp, 80), Sample::ALL), ((Udp, 80), Sample::ALL)].into_iter()));
        assert!(!wanted.change([((Udp, 80), Sample::ALL), ((Tcp, 80), Sample::ALL)].into_iter()));
        assert!(wanted.change([((Udp, 80), Sample::millionths(7)), ((Tcp, 80), Sample::ALL)].into_iter()));
        assert!(wanted.change(std::iter::empty()));
        assert_eq!(wanted, Wanted { generation: 3, ports: Vec::new() });
    }

    #[test]
    fn ports_above_the_most_are_left_out_and_take_nobodys_place() {
        let mut wanted = Wanted::default();
        wanted.change([((Tcp, 50_000), Sample::ALL)].into_iter());
        let many = (1..=2_000).map(|port| ((Tcp, port), Sample::ALL));
        wanted.change(many.chain([((Tcp, 50_000), Sample::ALL)]));
        assert_eq!(wanted.ports.len(), MAX_PORTS);
        assert!(wanted.has((Tcp, 50_000)) && wanted.has((Tcp, 1)) && !wanted.has((Tcp, 2_000)));
    }
}
