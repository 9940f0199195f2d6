//! Counting and rates: how the limits of one session are kept. Pure.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// A number of things that may exist at once.
#[derive(Debug)]
pub(crate) struct Slots {
    used: Arc<AtomicUsize>,
    most: usize,
}

/// One of them; given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot(Arc<AtomicUsize>);

impl Slots {
    pub(crate) fn new(most: usize) -> Self {
        Self { used: Arc::default(), most }
    }

    /// A slot, if one is free.
    pub(crate) fn claim(&self) -> Option<Slot> {
        let claimed = self.used.fetch_add(1, Ordering::Relaxed);
        // Made first, so that giving up gives back.
        let slot = Slot(Arc::clone(&self.used));
        (claimed < self.most).then_some(slot)
    }

    pub(crate) const fn most(&self) -> usize {
        self.most
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The same for each key of many: how many each has at once.
#[derive(Debug)]
pub(crate) struct SlotsByKey<K: Hash + Eq> {
    used: Arc<Mutex<HashMap<K, usize>>>,
    most: usize,
}

/// One of a key's slots; given back when dropped.
#[derive(Debug)]
pub(crate) struct KeySlot<K: Hash + Eq> {
    used: Arc<Mutex<HashMap<K, usize>>>,
    key: K,
}

impl<K: Hash + Eq + Clone> SlotsByKey<K> {
    pub(crate) fn new(most: usize) -> Self {
        Self { used: Arc::default(), most }
    }

    /// A slot of `key`, if one is free.
    pub(crate) fn claim(&self, key: &K) -> Option<KeySlot<K>> {
        let mut used = locked(&self.used);
        let count = used.entry(key.clone()).or_default();
        // At least one slot is free for whoever has none, so no entry stays behind without a slot.
        if *count >= self.most.max(1) {
            return None;
        }
        *count += 1;
        Some(KeySlot { used: Arc::clone(&self.used), key: key.clone() })
    }
}

impl<K: Hash + Eq> Drop for KeySlot<K> {
    fn drop(&mut self) {
        let mut used = locked(&self.used);
        if let Some(count) = used.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                used.remove(&self.key);
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in the critical sections can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// So many events a second, with a burst of one second's worth (the generic cell rate algorithm).
#[derive(Debug)]
pub(crate) struct Rate {
    interval: Duration,
    /// When the bucket would be empty: an event moves it by one interval.
    due: Mutex<Instant>,
}

/// A burst is as many events as a second has.
const BURST: Duration = Duration::from_secs(1);

impl Rate {
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        Self { interval: BURST / per_second.max(1), due: Mutex::new(now) }
    }

    /// Whether one more event may happen; counts it if so.
    pub(crate) fn allows(&self, now: Instant) -> bool {
        let mut due = locked(&self.due);
        let next = (*due).max(now) + self.interval;
        let allowed = next <= now + BURST;
        if allowed {
            *due = next;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_given_back_when_dropped_and_a_failed_claim_takes_none() {
        let slots = Slots::new(1);
        let first = slots.claim();
        assert!(first.is_some() && slots.claim().is_none() && slots.claim().is_none());
        assert_eq!(slots.used(), 1);
        drop(first);
        assert!(slots.claim().is_some());
    }

    #[test]
    fn each_key_has_slots_of_its_own_and_leaves_nothing_behind() {
        let slots = SlotsByKey::new(2);
        let held: Vec<_> = (0..3).map(|_| slots.claim(&"alice")).collect();
        assert_eq!(held.iter().filter(|slot| slot.is_some()).count(), 2);
        assert!(slots.claim(&"bob").is_some());
        drop(held);
        assert!(locked(&slots.used).is_empty());
        assert!(slots.claim(&"alice").is_some());
    }

    #[test]
    fn a_rate_allows_its_burst_then_its_pace() {
        let start = Instant::now();
        let rate = Rate::new(10, start);
        let burst = (0..100).filter(|_| rate.allows(start)).count();
        assert_eq!(burst, 10);
        let later = start + Duration::from_millis(250);
        assert_eq!((0..100).filter(|_| rate.allows(later)).count(), 2);
        let much_later = start + Duration::from_secs(60);
        assert_eq!((0..100).filter(|_| rate.allows(much_later)).count(), 10);
    }
}
