//! [`Reassembler`]: IP fragments from the TUN device, or from a tap, put together again.
//!
//! An application's datagram is fragmented when it is larger than the device's MTU of 65,535, which over IPv6 a UDP datagram can be, or
//! when it says so itself. To a target it comes in fragments of its MTU: 65,000 bytes in 44 of them. Owns the fragments that wait, bounded in number, bytes and time. Before: [`crate::packet`], when
//! [`Packet::fragment`] says so; after: [`crate::packet`] again, with the whole.

mod pending;

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use self::pending::{Added, Pending};
use crate::{
    drop_reason::{DropCounters, DropReason},
    moment::Moment,
    packet::{FragmentInfo, IpProtocol, Packet},
};

/// Datagrams that may wait for fragments. The kernel sends a datagram's fragments in a row, so there is one per application and family that
/// sends at this moment; a tap sees those of all clients, mixed. When full, the oldest goes.
const MAX_DATAGRAMS: usize = 64;

/// Bytes that may wait: 32 datagrams of the greatest length. When exceeded, the oldest datagram goes.
const MAX_BYTES: usize = 32 * 65_536;

/// How long a datagram may wait. Between the kernel and us is nothing but the device's queue, and between a client and a target a network
/// that is a small part of this long: what has not come by then was dropped.
/// (RFC 8200 4.5 allows 60 s at most.)
const TIMEOUT: Duration = Duration::from_secs(10);

/// Fragments that wait for others.
#[derive(Debug, Default)]
pub struct Reassembler {
    /// The oldest first.
    waiting: VecDeque<(Name, Moment, Pending)>,
    bytes: usize,
}

/// What the fragments of one datagram have in common: RFC 791 3.2 counts the protocol in, RFC 8200 4.5 does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    source: IpAddr,
    destination: IpAddr,
    id: u32,
    protocol: Option<IpProtocol>,
}

impl Name {
    /// Of the datagram that `packet` is a fragment of.
    pub fn of(packet: &Packet<'_>, fragment: FragmentInfo) -> Self {
        let source = packet.source();
        let protocol = source.is_ipv4().then(|| packet.protocol());
        Self { source, destination: packet.destination(), id: fragment.id, protocol }
    }
}

impl Reassembler {
    /// Nothing waits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `packet`; gives the whole packet back when it was the last one missing. What had to be dropped is counted in `drops`, once a
    /// datagram. A packet that is no fragment gives nothing.
    pub fn add(&mut self, packet: &Packet<'_>, now: Moment, drops: &mut DropCounters) -> Option<Vec<u8>> {
        self.add_telling(packet, now, &mut |_, reason| drops.count(reason))
    }

    /// The same. `dropped` is told which datagram had to be dropped, and why.
    pub fn add_telling(
        &mut self,
        packet: &Packet<'_>,
        now: Moment,
        dropped: &mut impl FnMut(Name, DropReason),
    ) -> Option<Vec<u8>> {
        let fragment = packet.fragment()?;
        let name = Name::of(packet, fragment);
        self.expire_telling(now, dropped);
        let index = self.find_or_start(name, now, dropped);
        let (_, _, pending) = &mut self.waiting[index];
        let before = pending.bytes();
        let added = pending.add(packet, fragment);
        self.bytes = self.bytes - before + pending.bytes();
        let whole = match added {
            Added::Waiting => None,
            Added::Dropped(reason) => {
                dropped(name, reason);
                None
            }
            Added::Complete => self.take(index).and_then(|(_, pending)| pending.into_packet()),
        };
        while self.bytes > MAX_BYTES {
            self.drop_oldest(DropReason::FragmentsFull, dropped);
        }
        whole
    }

    /// Forgets the datagrams whose time is over.
    pub fn expire(&mut self, now: Moment, drops: &mut DropCounters) {
        self.expire_telling(now, &mut |_, reason| drops.count(reason));
    }

    /// The same. `dropped` is told which they are.
    pub fn expire_telling(&mut self, now: Moment, dropped: &mut impl FnMut(Name, DropReason)) {
        while self.next_expiry().is_some_and(|expiry| now >= expiry) {
            self.drop_oldest(DropReason::FragmentTimeout, dropped);
        }
    }

    /// When [`Reassembler::expire`] is due.
    pub fn next_expiry(&self) -> Option<Moment> {
        self.waiting.front().map(|&(_, since, _)| since + TIMEOUT)
    }

    /// Bytes that wait.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    fn find_or_start(&mut self, name: Name, now: Moment, dropped: &mut impl FnMut(Name, DropReason)) -> usize {
        // From the back: the fragment before this one was most likely the last.
        if let Some(index) = self.waiting.iter().rposition(|&(other, ..)| other == name) {
            return index;
        }
        if self.waiting.len() == MAX_DATAGRAMS {
            self.drop_oldest(DropReason::FragmentsFull, dropped);
        }
        self.waiting.push_back((name, now, Pending::default()));
        self.waiting.len() - 1
    }

    fn drop_oldest(&mut self, reason: DropReason, dropped: &mut impl FnMut(Name, DropReason)) {
        // What was dropped before has been told then.
        if let Some((name, _)) = self.take(0).filter(|(_, pending)| !pending.is_spoilt()) {
            dropped(name, reason);
        }
    }

    fn take(&mut self, index: usize) -> Option<(Name, Pending)> {
        let (name, _, pending) = self.waiting.remove(index)?;
        self.bytes -= pending.bytes();
        Some((name, pending))
    }
}

#[cfg(test)]
mod tests;
