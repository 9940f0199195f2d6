//! [`Flows`]: the connections of a [`super::Reassembler`] by name and by index, in the order of their ages, and their numbers.
//!
//! Each kind has a limit of its own, so a flood of one never drives out another: of ended ones and half-open ones the oldest goes, of open
//! ones the idlest (to a second) that the target has not confirmed, and only then the idlest of all.

use std::collections::{HashMap, HashSet};

use super::{
    Chain,
    event::FlowId,
    handshake::Embryo,
    key::{Key, Seed},
    limits::Limits,
    stream::Stream,
};
use crate::moment::Moment;

/// What kind of flow it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// It has ended; what still comes of it is ignored.
    Ended,
    Embryo,
    /// Open, by what was seen.
    Seen,
    /// Open, by what the target says, too.
    Confirmed,
}

pub(super) const CLASSES: [Class; 4] = [Class::Ended, Class::Embryo, Class::Seen, Class::Confirmed];

#[derive(Debug)]
pub(super) enum State {
    Free,
    Ended {
        /// The sequence number of its first byte, if that was seen.
        first: Option<u32>,
        /// Bytes that came out of it, and of its gaps.
        told: u64,
    },
    Embryo(Embryo),
    Open(Stream),
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) key: Key,
    pub(super) state: State,
    /// Of an open flow.
    pub(super) id: FlowId,
    /// When the last segment came.
    pub(super) seen: Moment,
    /// When it got its place among those of its class.
    pub(super) placed: Moment,
    pub(super) opened: Moment,
    /// Why the target should be asked; a set of [`super::settlement`]'s bits.
    pub(super) questions: u8,
    /// Since when it waits for the bytes at an offset.
    pub(super) waiting: Option<(Moment, u64)>,
}

#[derive(Debug)]
pub(super) struct Flows {
    limits: Limits,
    slots: Vec<Slot>,
    free: Vec<u32>,
    names: HashMap<Key, u32, Seed>,
    /// What was looked up last: frames come in runs.
    last: Option<(Key, u32)>,
    ages: Chain<4>,
    ids: HashSet<FlowId>,
    next_id: u32,
    /// Flows with questions.
    pub(super) questioned: usize,
}

impl Flows {
    pub(super) fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            slots: Vec::new(),
            free: Vec::new(),
            names: HashMap::with_hasher(Seed::new(seed)),
            last: None,
            ages: Chain::new(),
            ids: HashSet::new(),
            next_id: 0,
            questioned: 0,
        }
    }

    pub(super) fn find(&mut self, key: Key) -> Option<u32> {
        if let Some((last, index)) = self.last
            && last == key
        {
            return Some(index);
        }
        let index = *self.names.get(&key)?;
        self.last = Some((key, index));
        Some(index)
    }

    pub(super) fn slot(&self, index: u32) -> &Slot {
        &self.slots[index as usize]
    }

    pub(super) fn slot_mut(&mut self, index: u32) -> &mut Slot {
        &mut self.slots[index as usize]
    }

    pub(super) fn stream(&self, index: u32) -> Option<&Stream> {
        match &self.slots.get(index as usize)?.state {
            State::Open(stream) => Some(stream),
            State::Free | State::Ended { .. } | State::Embryo(_) => None,
        }
    }

    /// Adds a flow, for which there must be room.
    pub(super) fn add(&mut self, key: Key, state: State, class: Class, now: Moment) -> u32 {
        let id = FlowId::new(0);
        let slot = Slot { key, state, id, seen: now, placed: now, opened: now, questions: 0, waiting: None };
        let index = if let Some(index) = self.free.pop() {
            self.slots[index as usize] = slot;
            index
        } else {
            self.slots.push(slot);
            u32::try_from(self.slots.len() - 1).expect("limits are far below 2^32")
        };
        self.names.insert(key, index);
        self.ages.push(index, class as usize);
        index
    }

    /// A number for a flow that opens: the next that none has.
    pub(super) fn number(&mut self, index: u32) -> FlowId {
        loop {
            self.next_id = self.next_id.wrapping_add(1);
            let id = FlowId::new(self.next_id);
            if self.ids.insert(id) {
                self.slots[index as usize].id = id;
                return id;
            }
        }
    }

    /// Makes it another kind of flow, or the youngest of its kind.
    pub(super) fn place(&mut self, index: u32, class: Class, now: Moment) {
        self.ages.push(index, class as usize);
        self.slots[index as usize].placed = now;
    }

    pub(super) fn class(&self, index: u32) -> Class {
        CLASSES[self.ages.list(index).expect("every flow has a class")]
    }

    /// What an open flow was is over.
    pub(super) fn close(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if let State::Open(stream) = &slot.state {
            slot.state = State::Ended { first: stream.first(), told: stream.next };
            self.ids.remove(&slot.id);
        }
        slot.waiting = None;
        self.set_questions(index, 0);
    }

    /// Forgets a flow that is not open.
    pub(super) fn remove(&mut self, index: u32) {
        self.close(index);
        self.ages.remove(index);
        let slot = &mut self.slots[index as usize];
        slot.state = State::Free;
        self.names.remove(&slot.key);
        self.last = None;
        self.free.push(index);
        if self.names.is_empty() {
            // What ten thousand flows needed is not kept for the next two.
            let Self { limits, next_id, .. } = *self;
            let names = HashMap::with_hasher(*self.names.hasher());
            *self = Self { names, next_id, ..Self::new(limits, 0) };
        }
    }

    pub(super) fn set_questions(&mut self, index: u32, questions: u8) {
        let slot = &mut self.slots[index as usize];
        self.questioned += usize::from(questions != 0);
        self.questioned -= usize::from(slot.questions != 0);
        slot.questions = questions;
    }

    /// Which flow has to go before one of `class` comes.
    pub(super) fn surplus(&self, class: Class) -> Option<u32> {
        let len = |class| self.ages.len(class as usize);
        let first = |class| self.ages.first(class as usize);
        match class {
            Class::Ended | Class::Embryo if len(class) >= self.limits.aside() => first(class),
            Class::Seen | Class::Confirmed if self.open() >= self.limits.flows => {
                first(Class::Seen).or_else(|| first(Class::Confirmed))
            }
            Class::Ended | Class::Embryo | Class::Seen | Class::Confirmed => None,
        }
    }

    /// The flow of `class` that got its place first.
    pub(super) fn oldest(&self, class: Class) -> Option<(u32, Moment)> {
        self.ages.first(class as usize).map(|index| (index, self.slot(index).placed))
    }

    /// Open flows.
    pub(super) const fn open(&self) -> usize {
        self.ages.len(Class::Seen as usize) + self.ages.len(Class::Confirmed as usize)
    }

    /// Whether so many are open that those which the target has not confirmed should be.
    pub(super) const fn is_crowded(&self) -> bool {
        self.ages.len(Class::Seen as usize) > 0 && self.open() >= self.limits.crowd()
    }

    /// Every index that is or was in use.
    pub(super) fn indices(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.slots.len()).expect("limits are far below 2^32")
    }
}
