//! [`Slots`]: the flows of a [`super::FlowTable`] by index, each in the doubly linked list of its class, the oldest first.

use crate::{flow::FlowKey, moment::Moment};

/// In the order in which they go when room is needed; the last never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Closed,
    Silent,
    Dialing,
    Datagrams,
    Established,
}

const CLASSES: usize = 5;
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Slot<V> {
    key: FlowKey,
    /// `None` in a tombstone and in a free slot.
    value: Option<V>,
    class: Class,
    /// When it came into its class, or had traffic.
    since: Moment,
    before: u32,
    behind: u32,
}

#[derive(Debug, Clone, Copy)]
struct List {
    first: u32,
    last: u32,
    len: usize,
}

#[derive(Debug)]
pub(super) struct Slots<V> {
    slots: Vec<Slot<V>>,
    free: Vec<u32>,
    lists: [List; CLASSES],
}

impl<V> Slots<V> {
    pub(super) const fn new() -> Self {
        const EMPTY: List = List { first: NONE, last: NONE, len: 0 };
        Self { slots: Vec::new(), free: Vec::new(), lists: [EMPTY; CLASSES] }
    }

    pub(super) fn add(&mut self, key: FlowKey, value: V, class: Class, now: Moment) -> u32 {
        let slot = Slot { key, value: Some(value), class, since: now, before: NONE, behind: NONE };
        let index = if let Some(index) = self.free.pop() {
            self.slots[index as usize] = slot;
            index
        } else {
            self.slots.push(slot);
            u32::try_from(self.slots.len() - 1).expect("the table's cap is far below 2^32")
        };
        self.link(index, class, now);
        index
    }

    /// Frees a slot.
    pub(super) fn take(&mut self, index: u32) -> (FlowKey, Option<V>) {
        self.unlink(index);
        self.free.push(index);
        let slot = &mut self.slots[index as usize];
        (slot.key, slot.value.take())
    }

    /// Forgets every free slot; nothing else may be left.
    pub(super) fn clear(&mut self) {
        debug_assert_eq!(self.free.len(), self.slots.len(), "a slot is in use");
        *self = Self::new();
    }

    /// Makes it the youngest of `class`.
    pub(super) fn move_to(&mut self, index: u32, class: Class, now: Moment) {
        self.unlink(index);
        self.link(index, class, now);
    }

    pub(super) fn class(&self, index: u32) -> Class {
        self.slots[index as usize].class
    }

    pub(super) fn value_mut(&mut self, index: u32) -> Option<&mut V> {
        self.slots[index as usize].value.as_mut()
    }

    pub(super) fn take_value(&mut self, index: u32) -> Option<V> {
        self.slots[index as usize].value.take()
    }

    pub(super) const fn len(&self, class: Class) -> usize {
        self.lists[class as usize].len
    }

    pub(super) fn oldest(&self, class: Class) -> Option<(u32, Moment)> {
        let first = self.lists[class as usize].first;
        self.slots.get(first as usize).map(|slot| (first, slot.since))
    }

    pub(super) fn first_to_go(&self) -> Option<u32> {
        [Class::Closed, Class::Silent, Class::Dialing, Class::Datagrams]
            .into_iter()
            .find_map(|class| self.oldest(class))
            .map(|(index, _)| index)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&FlowKey, &V)> {
        self.slots.iter().filter_map(|slot| slot.value.as_ref().map(|value| (&slot.key, value)))
    }

    fn link(&mut self, index: u32, class: Class, now: Moment) {
        let list = &mut self.lists[class as usize];
        let last = std::mem::replace(&mut list.last, index);
        if last == NONE {
            list.first = index;
        }
        list.len += 1;
        if let Some(slot) = self.slots.get_mut(last as usize) {
            slot.behind = index;
        }
        let slot = &mut self.slots[index as usize];
        (slot.class, slot.since, slot.before, slot.behind) = (class, now, last, NONE);
    }

    fn unlink(&mut self, index: u32) {
        let slot = &self.slots[index as usize];
        let (class, before, behind) = (slot.class, slot.before, slot.behind);
        let list = &mut self.lists[class as usize];
        list.len -= 1;
        if before == NONE {
            list.first = behind;
        }
        if behind == NONE {
            list.last = before;
        }
        if let Some(slot) = self.slots.get_mut(before as usize) {
            slot.behind = behind;
        }
        if let Some(slot) = self.slots.get_mut(behind as usize) {
            slot.before = before;
        }
    }
}
