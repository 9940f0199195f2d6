//! [`UdpFlows`]: who sends datagrams to the target. A flow is a client's address and the target's, as long as it is not idle.
//! Before: [`super::flows`]; after: [`super::batch`].

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use netstack::moment::Moment;

use super::protocol::FlowNumber;

/// Flows at most. When full, of the [`CANDIDATES`] that were looked at longest ago the one goes that was idle for longest.
const MAX_FLOWS: usize = 16_384;
const CANDIDATES: usize = 8;
/// A flow that had nothing for so long ends, at the latest after twice that.
const IDLE: Duration = Duration::from_secs(60);

type Key = (SocketAddr, SocketAddr);

/// The flows.
#[derive(Debug, Default)]
pub(super) struct UdpFlows {
    flows: HashMap<Key, Flow>,
    /// Each flow once, with the time of the last look at it; the first was looked at longest ago.
    looks: VecDeque<(Key, Moment)>,
    opened: u64,
    losses: u64,
    evicted: u64,
}

#[derive(Debug, Clone, Copy)]
struct Flow {
    number: FlowNumber,
    last: Moment,
    losses: u64,
}

/// What a datagram means for its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// Its flow.
    pub(super) number: FlowNumber,
    /// It is the flow's first.
    pub(super) opened: bool,
    /// Frames were lost since the flow's last datagram; whether any were this flow's is unknown.
    pub(super) after_loss: bool,
    /// The flow that had to go for it.
    pub(super) evicted: Option<FlowNumber>,
}

impl UdpFlows {
    /// A datagram of a flow that is copied.
    pub(super) fn datagram(&mut self, key: Key, now: Moment) -> Seen {
        if let Some(flow) = self.flows.get_mut(&key) {
            flow.last = now;
            let after_loss = flow.losses != self.losses;
            flow.losses = self.losses;
            return Seen { number: flow.number, opened: false, after_loss, evicted: None };
        }
        let evicted = if self.flows.len() >= MAX_FLOWS { self.evict() } else { None };
        let number = FlowNumber::udp(self.opened);
        self.opened += 1;
        self.flows.insert(key, Flow { number, last: now, losses: self.losses });
        self.looks.push_back((key, now));
        Seen { number, opened: true, after_loss: false, evicted }
    }

    /// The ring lost frames.
    pub(super) const fn lost(&mut self) {
        self.losses += 1;
    }

    /// Ends the flows that are idle; `gone` gets their numbers.
    pub(super) fn expire(&mut self, now: Moment, mut gone: impl FnMut(FlowNumber)) {
        while let Some(&(key, looked)) = self.looks.front().filter(|(_, looked)| now >= *looked + IDLE) {
            self.looks.pop_front();
            match self.flows.get(&key) {
                Some(flow) if now >= flow.last + IDLE => {
                    gone(flow.number);
                    self.flows.remove(&key);
                }
                Some(_) => self.looks.push_back((key, now.max(looked))),
                None => {}
            }
        }
    }

    /// When [`UdpFlows::expire`] is due.
    pub(super) fn next_expiry(&self) -> Option<Moment> {
        self.looks.front().map(|(_, looked)| *looked + IDLE)
    }

    /// Ends the flows that are not to be kept.
    pub(super) fn retain(&mut self, keep: impl Fn(SocketAddr, SocketAddr) -> bool, mut gone: impl FnMut(FlowNumber)) {
        self.flows.retain(|&(client, server), flow| {
            let kept = keep(client, server);
            if !kept {
                gone(flow.number);
            }
            kept
        });
        self.looks.retain(|(key, _)| self.flows.contains_key(key));
    }

    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    /// Flows that had to go for others.
    pub(super) const fn evicted(&self) -> u64 {
        self.evicted
    }

    fn evict(&mut self) -> Option<FlowNumber> {
        let candidates = self.looks.iter().take(CANDIDATES).enumerate();
        let (index, _) = candidates.min_by_key(|(_, (key, _))| self.flows.get(key).map(|flow| flow.last))?;
        let (key, _) = self.looks.remove(index)?;
        self.evicted += 1;
        self.flows.remove(&key).map(|flow| flow.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> Key {
        (SocketAddr::new(n.to_be_bytes().into(), 1), "10.0.0.1:53".parse().unwrap())
    }

    #[test]
    fn an_idle_flow_ends_and_one_that_is_used_does_not() {
        let mut flows = UdpFlows::default();
        let first = flows.datagram(key(1), Moment::ORIGIN);
        flows.datagram(key(2), Moment::ORIGIN);
        assert!(first.opened);
        let (mut now, mut gone) = (Moment::ORIGIN, Vec::new());
        for _ in 0..10 {
            now = now + IDLE / 3;
            assert!(!flows.datagram(key(2), now).opened);
            flows.expire(now, |number| gone.push(number));
        }
        assert_eq!((gone, flows.len(), flows.looks.len()), (vec![first.number], 1, 1));
        assert!(flows.datagram(key(1), now).number != first.number);
        assert!(flows.next_expiry().unwrap() <= now + IDLE);
    }

    #[test]
    fn a_loss_is_told_to_each_flow_once() {
        let mut flows = UdpFlows::default();
        flows.datagram(key(1), Moment::ORIGIN);
        flows.lost();
        assert!(!flows.datagram(key(2), Moment::ORIGIN).after_loss);
        assert!(flows.datagram(key(1), Moment::ORIGIN).after_loss);
        assert!(!flows.datagram(key(1), Moment::ORIGIN).after_loss);
    }

    #[test]
    fn a_full_table_lets_go_of_a_flow_that_is_idle_and_says_so() {
        let mut flows = UdpFlows::default();
        let most = u32::try_from(MAX_FLOWS).unwrap();
        let first: Vec<FlowNumber> =
            (0..most).map(|n| flows.datagram(key(n), Moment::from_micros(n.into())).number).collect();
        let later = Moment::from_micros(1_000_000);
        flows.datagram(key(0), later);
        let seen = flows.datagram(key(most), later);
        assert_eq!(seen.evicted, Some(first[1]));
        assert_eq!((flows.len(), flows.looks.len(), flows.evicted()), (MAX_FLOWS, MAX_FLOWS, 1));
        let mut gone = 0;
        flows.retain(|client, _| client.ip() == key(0).0.ip(), |_| gone += 1);
        assert_eq!((gone, flows.len(), flows.looks.len()), (MAX_FLOWS - 1, 1, 1));
    }
}
