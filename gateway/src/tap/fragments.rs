//! [`Fragments`]: IP fragments, put together. A tap sees them before the kernel has done so. Used by [`super::flows`].
//!
//! Only a datagram's first fragment shows whether its port is wanted; the others pass the kernel's filter in any case. One whose first was
//! not seen may be waiting for it, or belong to another port, so few of those are kept, and they can't push out the others.
//!
//! What had no room here the target may have got, so it is [`Fragments::take_missing`]. What the target drops as well, since it overlaps or did
//! not come whole, is not. A fragment that the ring lost is one of the frames that the ring lost.

use std::{collections::VecDeque, mem, net::SocketAddr};

use link::rules::RuleProtocol;
use netstack::{
    drop_reason::DropReason,
    fragment::{Name, Reassembler},
    moment::Moment,
    packet::{FragmentInfo, Packet},
};

/// Datagrams without their first fragment that may wait; with more, the oldest is no longer known.
const MAX_WITHOUT_FIRST: usize = 8;
/// Datagrams with their first fragment that are known: more than the reassembler keeps, so that what it drops is known.
const MAX_WITH_FIRST: usize = 128;
/// Datagrams of which a part had no room that are known; of more, the oldest may stay untold.
const MAX_PASSED_OVER: usize = 256;

/// What a datagram's first fragment shows.
#[derive(Debug, Clone, Copy)]
pub(super) struct First {
    /// Of TCP the reassembly of the stream finds what is missing.
    pub(super) protocol: RuleProtocol,
    pub(super) client: SocketAddr,
    pub(super) server: SocketAddr,
    /// Payload of the whole UDP datagram.
    pub(super) bytes: usize,
}

/// Those that wait.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    reassembler: Reassembler,
    with_first: VecDeque<(Name, First)>,
    without_first: VecDeque<(Name, Moment)>,
    passed_over: VecDeque<Name>,
    missing: Vec<First>,
    dropped: u64,
}

impl Fragments {
    /// Adds one; gives the whole packet when nothing of it is missing. `first` is what it shows if it is the first of a datagram, which must be
    /// one that is wanted.
    pub(super) fn add(
        &mut self,
        packet: &Packet<'_>,
        fragment: FragmentInfo,
        first: Option<First>,
        now: Moment,
    ) -> Option<Vec<u8>> {
        let name = Name::of(packet, fragment);
        if let Some(first) = first {
            self.without_first.retain(|(other, _)| *other != name);
            if self.first_of(name).is_none() {
                remember(&mut self.with_first, (name, first), MAX_WITH_FIRST);
            }
        } else if self.first_of(name).is_none() && !self.may_wait(name, now) {
            self.pass_over(name);
            return None;
        }
        let mut dropped = Vec::new();
        let whole = self.reassembler.add_telling(packet, now, &mut |name, reason| dropped.push((name, reason)));
        self.note(dropped);
        if whole.is_some() {
            self.with_first.retain(|(other, _)| *other != name);
        }
        whole
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
        let mut dropped = Vec::new();
        self.reassembler.expire_telling(now, &mut |name, reason| dropped.push((name, reason)));
        self.note(dropped);
    }

    /// When [`Fragments::expire`] is due.
    pub(super) fn next_expiry(&self) -> Option<Moment> {
        self.reassembler.next_expiry()
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        *self = Self { dropped: self.dropped, ..Self::default() };
    }

    /// UDP datagrams that had no room, since the last call.
    pub(super) fn take_missing(&mut self) -> Vec<First> {
        mem::take(&mut self.missing)
    }

    /// Datagrams that were not completed.
    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }

    fn note(&mut self, dropped: Vec<(Name, DropReason)>) {
        for (name, reason) in dropped {
            self.dropped += 1;
            let at = self.first_of(name);
            let first = at.and_then(|at| self.with_first.remove(at)).map(|(_, first)| first);
            let had_no_room = reason == DropReason::FragmentsFull;
            match first {
                Some(first) => {
                    let is_missing =
                        had_no_room || (reason == DropReason::FragmentTimeout && self.passed_over.contains(&name));
                    self.missing.extend(Some(first).filter(|first| is_missing && first.protocol == RuleProtocol::Udp));
                }
                // The first may be still to come.
                None if had_no_room => self.pass_over(name),
                None => {}
            }
        }
    }

    fn pass_over(&mut self, name: Name) {
        if !self.passed_over.contains(&name) {
            remember(&mut self.passed_over, name, MAX_PASSED_OVER);
        }
    }

    fn first_of(&self, name: Name) -> Option<usize> {
        self.with_first.iter().position(|(other, _)| *other == name)
    }
}

fn remember<T>(known: &mut VecDeque<T>, another: T, most: usize) {
    if known.len() >= most {
        known.pop_front();
    }
    known.push_back(another);
}
