//! What waits for time: smoltcp's retransmissions and probes, idle UDP flows, tombstones, and the report to the status.
//!
//! A heap of moments; a flow is in it only while it asks for one, and once: an entry that turns out early is put back. So a flow that
//! sends a megabyte a millisecond costs one entry a second, and an idle one none.

use std::{
    cell::{Cell, RefCell},
    cmp::Reverse,
    collections::BinaryHeap,
    rc::Rc,
    time::Duration,
};

use netstack::{flow::FlowKey, flow_table::Lookup, moment::Moment};
use tokio::{sync::Notify, time::sleep_until};

use super::{Entry, Outbound};

/// Timers are rounded up to this, so that many flows wake the thread once. smoltcp's shortest wait is a second.
const STEP: Duration = Duration::from_millis(20);
/// How often idle flows are looked for and the status is told.
const HOUSEKEEPING: Duration = Duration::from_millis(500);

/// When flows want to be looked at again.
#[derive(Default)]
pub(super) struct Timers {
    heap: RefCell<BinaryHeap<Reverse<Due>>>,
    /// What the firing task sleeps for.
    sleeping_until: Cell<Option<Moment>>,
    earlier: Notify,
}

#[derive(PartialEq, Eq)]
struct Due {
    at: Moment,
    key: FlowKey,
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.as_micros().cmp(&other.at.as_micros())
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Timers {
    /// Wakes the flow at or shortly after `at`.
    pub(super) fn add(&self, at: Moment, key: FlowKey) {
        self.heap.borrow_mut().push(Reverse(Due { at, key }));
        if self.sleeping_until.get().is_some_and(|until| at.as_micros() + micros(STEP) < until.as_micros()) {
            self.earlier.notify_one();
        }
    }

    fn next(&self) -> Option<Moment> {
        self.heap.borrow().peek().map(|due| due.0.at)
    }

    fn pop(&self, now: Moment) -> Option<FlowKey> {
        let mut heap = self.heap.borrow_mut();
        if heap.peek()?.0.at.as_micros() > now.as_micros() {
            return None;
        }
        if heap.len() * 4 < heap.capacity() {
            heap.shrink_to(64);
        }
        heap.pop().map(|due| due.0.key)
    }
}

/// Fires timers until the session ends.
pub(super) async fn fire(outbound: Rc<Outbound>) {
    let timers = &outbound.timers;
    let mut housekeeping = outbound.now() + HOUSEKEEPING;
    loop {
        let next = timers
            .next()
            .map_or(housekeeping, |at| if at.as_micros() < housekeeping.as_micros() { at } else { housekeeping });
        let rounded = Moment::from_micros(next.as_micros().next_multiple_of(micros(STEP)));
        timers.sleeping_until.set(Some(rounded));
        tokio::select! {
            () = sleep_until((outbound.origin + Duration::from_micros(rounded.as_micros())).into()) => {}
            () = timers.earlier.notified() => {}
        }
        timers.sleeping_until.set(None);
        let now = outbound.now();
        while let Some(key) = timers.pop(now) {
            let flow = match outbound.table.borrow_mut().lookup(&key, now) {
                Lookup::Live(Entry::Tcp(flow)) => Rc::clone(flow),
                Lookup::Live(Entry::Datagrams(_)) | Lookup::Buried(_) | Lookup::Unknown => continue,
            };
            flow.timer(&outbound, now);
        }
        if now.as_micros() >= housekeeping.as_micros() {
            keep_house(&outbound, now);
            housekeeping = now + HOUSEKEEPING;
        }
    }
}

fn keep_house(outbound: &Outbound, now: Moment) {
    loop {
        let expired = outbound.table.borrow_mut().expire(now);
        match expired {
            Some((key, entry)) => outbound.evicted(key, entry),
            None => break,
        }
    }
    outbound.fragments.borrow_mut().expire(now, &mut outbound.drops.borrow_mut());
    outbound.report();
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).expect("the constants here are under a second")
}
