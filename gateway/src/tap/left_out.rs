//! [`LeftOut`]: what is not in a rule's sample, counted. Before: [`super::flows`]; after: [`super::protocol::PortStats`].

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    net::SocketAddr,
};

use link::rules::{Loss, RuleProtocol};
use netstack::moment::Moment;

use super::protocol::ListeningPort;

/// Flows that are told apart at once. With more, a flow may be counted again when it goes on: the count is of use, its last digit is not.
const MAX_FLOWS: usize = 8_192;
/// A flow that was silent for so long, up to twice that, counts as another.
const ROTATE_MICROS: u64 = 60_000_000;

/// What a packet says of its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// It is the first.
    Begins,
    /// It goes on.
    GoesOn,
    /// It is over.
    Ends,
}

type Flow = (RuleProtocol, SocketAddr, SocketAddr);

/// Counts for each port, and the flows that were counted.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    counts: BTreeMap<ListeningPort, Loss>,
    /// Whether each has ended.
    recent: HashMap<Flow, bool>,
    older: HashMap<Flow, bool>,
    rotated: Moment,
}

impl LeftOut {
    /// Counts a packet of a flow that is left out.
    pub(super) fn count(&mut self, flow: Flow, payload: usize, sign: Sign, now: Moment) {
        let (protocol, _, server) = flow;
        let loss = self.counts.entry(ListeningPort { port: server.port(), protocol }).or_default();
        loss.bytes += payload as u64;
        loss.datagrams += u64::from(protocol == RuleProtocol::Udp);
        // Behind its end a connection has packets still; only what begins is another.
        let ended = match self.recent.get(&flow).or_else(|| self.older.get(&flow)) {
            Some(ended) if !ended || sign != Sign::Begins => *ended || sign == Sign::Ends,
            _ => {
                loss.flows += 1;
                sign == Sign::Ends
            }
        };
        if self.recent.len() >= MAX_FLOWS || now.as_micros() > self.rotated.as_micros() + ROTATE_MICROS {
            self.older = mem::take(&mut self.recent);
            self.rotated = now;
        }
        self.recent.insert(flow, ended);
    }

    /// What was counted for a port.
    pub(super) fn of(&self, port: ListeningPort) -> Loss {
        self.counts.get(&port).copied().unwrap_or_default()
    }

    /// Forgets the ports that have no rule any more.
    pub(super) fn retain(&mut self, keep: impl Fn(ListeningPort) -> bool) {
        self.counts.retain(|port, _| keep(*port));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_counted_once_however_many_packets_they_have() {
        let mut left_out = LeftOut::default();
        let server: SocketAddr = "10.0.0.1:80".parse().unwrap();
        let flow = |n: u16| (RuleProtocol::Tcp, SocketAddr::new([10, 1, 0, 0].into(), n), server);
        for round in 0..3 {
            for n in 0..100 {
                left_out.count(flow(n), 10, Sign::GoesOn, Moment::from_micros(round * (ROTATE_MICROS / 2 + 1)));
            }
        }
        let port = ListeningPort { port: 80, protocol: RuleProtocol::Tcp };
        assert_eq!(left_out.of(port), Loss { flows: 100, bytes: 3_000, datagrams: 0 });
        for (sign, flows) in [(Sign::Ends, 100), (Sign::GoesOn, 100), (Sign::Begins, 101), (Sign::Begins, 101)] {
            left_out.count(flow(0), 0, sign, Moment::ORIGIN);
            assert_eq!(left_out.of(port).flows, flows);
        }
        for n in 0..u16::MAX {
            left_out.count(flow(n), 0, Sign::GoesOn, Moment::ORIGIN);
            assert!(left_out.recent.len() + left_out.older.len() <= 2 * MAX_FLOWS);
        }
        left_out.retain(|_| false);
        assert_eq!(left_out.of(port), Loss::default());
    }
}
