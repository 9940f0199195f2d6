//! [`FlowTable`]: the flows that are alive, by their name, and the tombstones of those that were.
//!
//! Owns the cap, who goes first when it is reached, and idle timeouts; every operation is O(1), whatever the number of flows. Does not own
//! what a flow is. Before: [`crate::segment`], [`crate::udp`]; after: [`crate::tcp_flow`] and `tunnel::outbound`.
//!
//! When a flow is to be added and [`Limits::flows`] are there, one goes, from the first of these that has any: tombstones of closed
//! flows, of silent dials (the oldest first), flows whose dial is under way (the oldest), UDP flows (the longest idle). An established
//! TCP flow never goes: when nothing else is left, the new flow is refused.

mod slots;

use std::{collections::HashMap, time::Duration};

use rustc_hash::FxBuildHasher;

use self::slots::{Class, Slots};
use crate::{drop_reason::DropReason, flow::FlowKey, moment::Moment};

/// How many flows, and how long the silent ones.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Flows and tombstones together.
    pub flows: usize,
    /// TCP flows whose dial is under way. When reached, a new one is refused (its kernel sends the SYN again), since evicting an older
    /// one would only make both start anew for ever.
    pub dials: usize,
    /// How long a UDP flow may be idle.
    pub datagrams_idle: Duration,
}

impl Limits {
    /// About 14 MiB of table and, each at its 9 KiB, 600 MiB of flows. Dials as many as a busy browser or a port scan needs. UDP
    /// as RFC 4787 REQ-5 recommends at the least for a NAT is 2 minutes; DNS alone would then leave thousands, so half of it.
    pub const DEFAULT: Self = Self { flows: 65_536, dials: 4096, datagrams_idle: Duration::from_secs(60) };
}

/// Tombstones kept at most; the oldest goes for a new one. Each is about 250 bytes.
const MAX_TOMBSTONES: usize = 4096;

/// How long a closed flow is remembered: Linux repeats its last FIN after 0.2, 0.4 and 0.8 s.
const CLOSED_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a dial without an outcome is remembered: Linux repeats a SYN for up to 127 s (`tcp_syn_retries` 6).
const SILENT_TIMEOUT: Duration = Duration::from_secs(130);

/// What kind of flow it is, which decides how long it stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// TCP whose dial is under way. Stays until told otherwise.
    Dialing,
    /// UDP. Stays until idle.
    Datagrams,
    /// TCP. Stays until told otherwise.
    Established,
}

/// What a flow left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tombstone {
    /// A TCP flow has ended. A SYN opens the next one; anything else is acknowledged ([`crate::tcp_reply::acknowledge`]) or dropped.
    Closed,
    /// A dial ended without an outcome. SYNs are dropped, or each would start another dial.
    Silent,
}

/// What the table has under a name.
#[derive(Debug)]
pub enum Lookup<'a, V> {
    /// A flow.
    Live(&'a mut V),
    /// What one left behind.
    Buried(Tombstone),
    /// Nothing.
    Unknown,
}

/// The flows.
#[derive(Debug)]
pub struct FlowTable<V> {
    limits: Limits,
    names: HashMap<FlowKey, u32, FxBuildHasher>,
    slots: Slots<V>,
}

impl<V> FlowTable<V> {
    /// An empty table.
    pub fn new(limits: Limits) -> Self {
        Self { limits, names: HashMap::default(), slots: Slots::new() }
    }

    /// What is under `key`. It counts as traffic: an idle time starts anew.
    pub fn lookup(&mut self, key: &FlowKey, now: Moment) -> Lookup<'_, V> {
        let Some(&index) = self.names.get(key) else { return Lookup::Unknown };
        match self.slots.class(index) {
            Class::Closed => Lookup::Buried(Tombstone::Closed),
            Class::Silent => Lookup::Buried(Tombstone::Silent),
            class @ (Class::Dialing | Class::Datagrams | Class::Established) => {
                if class == Class::Datagrams {
                    self.slots.move_to(index, class, now);
                }
                self.slots.value_mut(index).map_or(Lookup::Unknown, Lookup::Live)
            }
        }
    }

    /// Adds the flow that `make` gives; gives back the flow that had to go for it, or was under this name.
    ///
    /// # Errors
    /// When nothing may go; `make` is then not called.
    pub fn insert(
        &mut self,
        key: FlowKey,
        standing: Standing,
        now: Moment,
        make: impl FnOnce() -> V,
    ) -> Result<Option<(FlowKey, V)>, DropReason> {
        if standing == Standing::Dialing && self.slots.len(Class::Dialing) >= self.limits.dials {
            return Err(DropReason::DialsFull);
        }
        let gone = match self.names.get(&key) {
            Some(&index) => self.take(index),
            None if self.names.len() >= self.limits.flows => {
                let index = self.slots.first_to_go().ok_or(DropReason::FlowsFull)?;
                self.take(index)
            }
            None => None,
        };
        let index = self.slots.add(key, make(), standing.into(), now);
        self.names.insert(key, index);
        Ok(gone)
    }

    /// The flow's standing has changed: its dial succeeded.
    pub fn set_standing(&mut self, key: &FlowKey, standing: Standing, now: Moment) {
        if let Some(&index) = self.names.get(key)
            && self.slots.value_mut(index).is_some()
        {
            self.slots.move_to(index, standing.into(), now);
        }
    }

    /// Takes the flow out and leaves a tombstone.
    pub fn bury(&mut self, key: &FlowKey, tombstone: Tombstone, now: Moment) -> Option<V> {
        let &index = self.names.get(key)?;
        let value = self.slots.take_value(index)?;
        let class = match tombstone {
            Tombstone::Closed => Class::Closed,
            Tombstone::Silent => Class::Silent,
        };
        self.slots.move_to(index, class, now);
        if self.slots.len(Class::Closed) + self.slots.len(Class::Silent) > MAX_TOMBSTONES
            && let Some(oldest) = self.slots.first_to_go()
        {
            self.take(oldest);
        }
        Some(value)
    }

    /// Takes the flow, or its tombstone, out without a trace.
    pub fn remove(&mut self, key: &FlowKey) -> Option<V> {
        let &index = self.names.get(key)?;
        self.take(index).map(|(_, value)| value)
    }

    /// Takes out one flow whose idle time is over, and every tombstone. Call until `None`.
    pub fn expire(&mut self, now: Moment) -> Option<(FlowKey, V)> {
        for class in [Class::Closed, Class::Silent, Class::Datagrams] {
            while let Some((index, since)) = self.slots.oldest(class)
                && now >= since + self.timeout(class)
            {
                if let Some(flow) = self.take(index) {
                    return Some(flow);
                }
            }
        }
        None
    }

    /// When [`FlowTable::expire`] is due.
    pub fn next_expiry(&self) -> Option<Moment> {
        [Class::Closed, Class::Silent, Class::Datagrams]
            .into_iter()
            .filter_map(|class| self.slots.oldest(class).map(|(_, since)| since + self.timeout(class)))
            .min()
    }

    /// Every flow, in no order. O(n): for shutdown and reports.
    pub fn iter(&self) -> impl Iterator<Item = (&FlowKey, &V)> {
        self.slots.iter()
    }

    /// Flows of this standing.
    pub fn count(&self, standing: Standing) -> usize {
        self.slots.len(standing.into())
    }

    /// Flows and tombstones.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether it has neither flows nor tombstones.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    const fn timeout(&self, class: Class) -> Duration {
        match class {
            Class::Closed => CLOSED_TIMEOUT,
            Class::Silent => SILENT_TIMEOUT,
            Class::Datagrams => self.limits.datagrams_idle,
            Class::Dialing | Class::Established => Duration::MAX,
        }
    }

    /// Takes a slot out; a tombstone has no value.
    fn take(&mut self, index: u32) -> Option<(FlowKey, V)> {
        let (key, value) = self.slots.take(index);
        self.names.remove(&key);
        if self.names.is_empty() {
            // What ten thousand flows needed is not kept for the next two.
            self.names.shrink_to_fit();
            self.slots.clear();
        }
        value.map(|value| (key, value))
    }
}

impl From<Standing> for Class {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Dialing => Self::Dialing,
            Standing::Datagrams => Self::Datagrams,
            Standing::Established => Self::Established,
        }
    }
}

#[cfg(test)]
mod tests;
