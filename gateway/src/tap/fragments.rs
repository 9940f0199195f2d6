//! [`Fragments`]: IP fragments, put together. A tap sees them before the kernel has done so. Used by [`super::flows`].
//!
//! Only a datagram's first fragment shows whether its port is wanted; the others pass the kernel's filter in any case. One whose first was
//! not seen may be waiting for it, or belong to another port, so few of those are kept, and they can't push out the others.

use std::{collections::VecDeque, net::IpAddr};

use netstack::{
    drop_reason::{DropCounters, DropReason},
    fragment::Reassembler,
    moment::Moment,
    packet::{FragmentInfo, Packet},
};

/// Datagrams without their first fragment that may wait; with more, the oldest is no longer known.
const MAX_WITHOUT_FIRST: usize = 8;
/// Datagrams with their first fragment that are known; the reassembler keeps no more than that.
const MAX_WITH_FIRST: usize = 64;

type Name = (IpAddr, IpAddr, u32);

/// Those that wait.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    reassembler: Reassembler,
    with_first: VecDeque<Name>,
    without_first: VecDeque<(Name, Moment)>,
    drops: DropCounters,
}

impl Fragments {
    /// Adds one; gives the whole packet when nothing of it is missing. The first of a datagram must be one that is wanted.
    pub(super) fn add(&mut self, packet: &Packet<'_>, fragment: FragmentInfo, now: Moment) -> Option<Vec<u8>> {
        let name = (packet.source(), packet.destination(), fragment.id);
        if fragment.offset == 0 {
            self.without_first.retain(|(other, _)| *other != name);
            remember(&mut self.with_first, name, MAX_WITH_FIRST);
        } else if !self.with_first.contains(&name) && !self.may_wait(name, now) {
            return None;
        }
        let whole = self.reassembler.add(packet, now, &mut self.drops)?;
        self.with_first.retain(|other| *other != name);
        Some(whole)
    }

    fn may_wait(&mut self, name: Name, now: Moment) -> bool {
        if self.without_first.iter().any(|(other, _)| *other == name) {
            return true;
        }
        // One that has waited for a while waits in vain, and its place is free.
        const PATIENCE_MICROS: u64 = 1_000_000;
        if self.without_first.front().is_some_and(|(_, since)| now.as_micros() > since.as_micros() + PATIENCE_MICROS) {
            self.without_first.pop_front();
        }
        let room = self.without_first.len() < MAX_WITHOUT_FIRST;
        if room {
            self.without_first.push_back((name, now));
        }
        room
    }

    /// Forgets those whose time is over.
    pub(super) fn expire(&mut self, now: Moment) {
        self.reassembler.expire(now, &mut self.drops);
    }

    /// When [`Fragments::expire`] is due.
    pub(super) fn next_expiry(&self) -> Option<Moment> {
        self.reassembler.next_expiry()
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        self.reassembler = Reassembler::new();
        self.with_first.clear();
        self.without_first.clear();
    }

    /// Datagrams that were not completed.
    pub(super) fn dropped(&self) -> u64 {
        let reasons = [
            DropReason::FragmentOverlap,
            DropReason::FragmentMalformed,
            DropReason::FragmentsFull,
            DropReason::FragmentTimeout,
        ];
        reasons.into_iter().map(|reason| self.drops.of(reason)).sum::<u64>()
    }
}

fn remember(names: &mut VecDeque<Name>, name: Name, most: usize) {
    if names.contains(&name) {
        return;
    }
    if names.len() >= most {
        names.pop_front();
    }
    names.push_back(name);
}
