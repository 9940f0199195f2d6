//! [`Feed`]: one mirrored flow on its way to one session, between the tap's reader, which pushes and never waits, and
//! [`super::writer`], which takes as fast as the link does. Before: [`super::fanout`].

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use link::{
    mirrored::{FrameHeader, FrameKind, Gap},
    rules::{Loss, LossReason},
};

use super::{
    counts::Counts,
    queue::{Queue, Taken},
    subscription::Subscription,
};
use crate::limits::Slot;

/// A flow's copy for one session.
#[derive(Debug)]
pub(super) struct Feed {
    number: u64,
    pub(super) subscription: Arc<Subscription>,
    counts: Arc<Counts>,
    state: Mutex<State>,
    /// Its place among the session's mirrored flows.
    _slot: Slot,
}

#[derive(Debug, Default)]
struct State {
    queue: Queue,
    /// Nothing is taken or written any more.
    is_closed: bool,
    writer: Option<Waker>,
    /// The writer waits for frames, and not for the link.
    is_writer_idle: bool,
}

impl Feed {
    pub(super) fn new(
        number: u64,
        subscription: Arc<Subscription>,
        counts: Arc<Counts>,
        slot: Slot,
        from_start: bool,
    ) -> Self {
        counts.open(from_start);
        subscription.shared.metrics.mirrored_flows.inc();
        Self { number, subscription, counts, state: Mutex::default(), _slot: slot }
    }

    /// Takes a frame, or counts why not. Never waits.
    pub(super) fn push(&self, header: FrameHeader, frame: &Bytes, now: Instant) {
        let mut state = self.lock();
        if state.is_closed || state.queue.has_ended() {
            return;
        }
        let before = state.queue.held();
        match header.kind {
            FrameKind::Bytes { .. } => self.push_payload(
                &mut state.queue,
                frame,
                Loss { flows: 0, bytes: header.len as u64, datagrams: 0 },
                now,
            ),
            FrameKind::Datagram => self.push_payload(
                &mut state.queue,
                frame,
                Loss { flows: 0, bytes: header.len as u64, datagrams: 1 },
                now,
            ),
            FrameKind::Gap => self.push_gap(&mut state.queue, frame),
            FrameKind::Finished | FrameKind::Reset | FrameKind::Gone => state.queue.end(frame),
        }
        let held = state.queue.held() - before;
        if held > 0 {
            self.subscription.shared.budget.take(held);
            if state.is_writer_idle {
                wake(state);
            }
        }
    }

    fn push_payload(&self, queue: &mut Queue, frame: &Bytes, payload: Loss, now: Instant) {
        let reason = if !queue.has_room(frame.len(), self.subscription.shared.budget.free()) {
            LossReason::Lag
        } else if !self.subscription.allows(payload.bytes, now) {
            LossReason::Rate
        } else {
            return queue.push(frame, payload, self.subscription.shared.budget.held());
        };
        queue.lose(reason, payload);
        self.lost(reason, payload);
    }

    fn push_gap(&self, queue: &mut Queue, frame: &Bytes) {
        // What cannot be read was refused when it came from the tap.
        let Ok(gap) = Gap::decode(&frame[FrameHeader::BYTES..]) else { return };
        queue.push_gap(frame, gap);
        self.lost(gap.reason, Loss { flows: 0, bytes: gap.bytes, datagrams: gap.datagrams });
    }

    fn lost(&self, reason: LossReason, loss: Loss) {
        self.counts.lose(reason, loss);
        self.subscription.shared.metrics.lose_mirrored(reason, loss);
    }

    /// What comes from here on is not copied, for this reason.
    pub(super) fn lose_rest(&self, reason: LossReason) {
        if !self.lock().is_closed {
            self.lost(reason, Loss { flows: 1, ..Loss::default() });
        }
    }

    /// The tap or the replica is gone: so is the flow, as far as anybody knows.
    pub(super) fn leave(&self, now: Instant) {
        let header = FrameHeader { kind: FrameKind::Gone, len: 0 };
        self.push(header, &Bytes::copy_from_slice(&header.encode()), now);
    }

    /// Drops what waits; the writer ends.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        self.drop_queue(&mut state);
        wake(state);
    }

    /// The writer ended.
    pub(super) fn closed(&self) {
        self.drop_queue(&mut self.lock());
        self.subscription.forget(self.number);
        self.counts.close();
        let metrics = &self.subscription.shared.metrics;
        metrics.mirrored_flows.dec();
        metrics.ended_mirrored_flows.inc();
    }

    /// What waited for the session until now is what it was too slow for.
    fn drop_queue(&self, state: &mut State) {
        state.is_closed = true;
        self.lost(LossReason::Lag, state.queue.waiting());
        self.subscription.shared.budget.give_back(state.queue.held());
        state.queue = Queue::default();
    }

    /// Waits until something can be taken, or nothing can ever be: `None` when the flow is closed. What waits goes to `batch`.
    pub(super) async fn take(&self, batch: &mut Vec<Bytes>) -> Option<Taken> {
        poll_fn(|cx| {
            let mut state = self.lock();
            if state.is_closed {
                return Poll::Ready(None);
            }
            let taken = state.queue.take(batch);
            if taken.bytes > 0 || state.queue.has_ended() {
                state.is_writer_idle = false;
                return Poll::Ready(Some(taken));
            }
            // An idle flow keeps no room for a batch.
            *batch = Vec::new();
            state.is_writer_idle = true;
            state.writer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// What waits goes to `batch`, without waiting.
    pub(super) fn take_now(&self, batch: &mut Vec<Bytes>) -> Taken {
        self.lock().queue.take(batch)
    }

    /// What was taken is written.
    pub(super) fn written(&self, taken: Taken) {
        let mut state = self.lock();
        if !state.is_closed {
            state.queue.written(taken);
            self.subscription.shared.budget.give_back(taken.bytes);
        }
        drop(state);
        let Loss { bytes, datagrams, .. } = taken.payload;
        self.counts.hand_on(bytes, datagrams);
        let metrics = &self.subscription.shared.metrics;
        metrics.mirrored_bytes.inc_by(bytes);
        metrics.mirrored_datagrams.inc_by(datagrams);
    }

    /// What was taken is not written, and never will be.
    pub(super) fn unwritten(&self, taken: Taken) {
        self.lost(LossReason::Lag, taken.payload);
    }

    /// Resolves as `future`, or to `None` as soon as the flow is closed.
    pub(super) async fn unless_closed<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            let mut state = self.lock();
            if state.is_closed {
                return Poll::Ready(None);
            }
            state.writer = Some(cx.waker().clone());
            drop(state);
            future.as_mut().poll(cx).map(Some)
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    state.is_writer_idle = false;
    let writer = state.writer.take();
    drop(state);
    if let Some(writer) = writer {
        writer.wake();
    }
}
