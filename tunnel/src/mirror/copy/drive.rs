//! What moves a [`struct@Copy`]: it dials, writes what was pushed, reads what the listener answers, and ends.
//! Before: [`super`]; after: the listener.

use std::{
    cell::RefCell,
    io::IoSlice,
    pin::pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    Copy, Plan, Presence, Queue, Stage, Why,
    dial::{Undialed, reset},
};
use crate::control::mirror_status::NoticeKind;

/// Slices given to one `writev`.
const SLICES: usize = 64;
/// Read at once from the listener.
const SCRATCH_BYTES: usize = 64 << 10;
/// Reads of answers before other flows get their turn.
const READS_A_TURN: usize = 8;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

impl Copy {
    /// Dials, writes, reads; ready when it is over. Must be polled after every push.
    pub(in crate::mirror) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Stage::Dialing(dialing) = &mut self.stage {
            match ready!(dialing.as_mut().poll(cx)) {
                Ok(socket) => {
                    self.rule.found_listener(Presence::Listening);
                    self.stage = Stage::Open(socket);
                    self.has_opened = true;
                    self.charge();
                }
                Err(Undialed::NoDescriptor) => {
                    self.rule.notice(NoticeKind::Descriptors);
                    self.over(Why::ListenerLag);
                }
                Err(Undialed::Found(presence)) => {
                    self.rule.found_listener(presence);
                    self.over(Why::NotDelivered);
                }
            }
        }
        let written = self.poll_write(cx);
        // What a listener has answered counts even if it is gone.
        let read = self.poll_read(cx);
        self.outstanding.settle(self.written);
        let shut = self.poll_shut(cx);
        if written.is_err() || read.is_err() || shut.is_err() || self.is_at_end() {
            self.over(Why::NotDelivered);
        }
        if matches!(self.stage, Stage::Over) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn is_at_end(&self) -> bool {
        let Stage::Open(socket) = &self.stage else { return false };
        let is_written = self.pushed == self.written;
        match self.plan {
            Plan::Going => self.listener_finished && !self.raw,
            Plan::Finish => self.has_shut && self.listener_finished,
            Plan::Reset | Plan::Abort => {
                let ends =
                    is_written && (self.plan == Plan::Abort || self.outstanding.is_empty() || self.listener_finished);
                if ends {
                    reset(socket);
                }
                ends
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        while self.pushed > self.written {
            let Stage::Open(socket) = &mut self.stage else { return Ok(()) };
            let mut slices = [IoSlice::new(&[]); SLICES];
            let waiting = self.queue.slices().chain(self.batch.iter().map(AsRef::as_ref));
            let count = slices.iter_mut().zip(waiting).map(|(slot, slice)| *slot = IoSlice::new(slice)).count();
            match pin!(socket).poll_write_vectored(cx, &slices[..count]) {
                Poll::Ready(Ok(0) | Err(_)) => return Err(Ended),
                Poll::Ready(Ok(written)) => self.wrote(written),
                Poll::Pending => {
                    self.hold();
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The client's FIN, behind all that it sent and all that it was answered. What it did not send whole has no answer.
    fn poll_shut(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        let is_answered = self.outstanding.is_empty() || self.outstanding.in_progress().is_some();
        let is_due = self.pushed == self.written && (is_answered || self.waits_no_more);
        if self.plan == Plan::Finish
            && !self.has_shut
            && is_due
            && let Stage::Open(socket) = &mut self.stage
            && let Poll::Ready(shut) = pin!(socket).poll_shutdown(cx)
        {
            self.has_shut = true;
            return shut.map_err(|_| Ended);
        }
        Ok(())
    }

    fn wrote(&mut self, bytes: usize) {
        let own = self.own.saturating_sub(self.written).min(bytes as u64);
        self.rule.counts.bytes.add(bytes as u64 - own);
        self.written += bytes as u64;
        let of_queue = bytes.min(self.queue.len());
        if of_queue > 0 {
            self.queue.take(of_queue);
            self.charge();
        }
        let (mut left, mut done) = (bytes - of_queue, 0);
        self.batched -= left;
        for piece in &mut self.batch {
            let now = left.min(piece.len());
            piece.advance(now);
            left -= now;
            if !piece.is_empty() {
                break;
            }
            done += 1;
        }
        self.batch.drain(..done);
    }

    /// The socket is full: what it did not take is held, as far as that may be.
    fn hold(&mut self) {
        if self.batched == 0 {
            return;
        }
        if !self.share.admits(self.costs() + self.batched) {
            let excess = self.batched - self.batched.min(self.share.room());
            let offset = self.pushed - excess as u64;
            self.take_back(offset, Why::ListenerLag);
            self.outstanding.cut(offset);
            self.cut(Why::ListenerLag);
            self.overflowed = true;
        }
        for piece in self.batch.drain(..) {
            self.queue.append(&piece);
        }
        self.batched = 0;
        self.charge();
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        let Stage::Open(socket) = &mut self.stage else { return Ok(()) };
        if self.listener_finished {
            return Ok(());
        }
        for _ in 0..READS_A_TURN {
            let read = SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                let read = pin!(&mut *socket).poll_read(cx, &mut buffer);
                let bytes = buffer.filled();
                if let Some(answers) = &mut self.answers {
                    answers.take(bytes, || self.outstanding.answer());
                }
                read.map_ok(|()| bytes.len())
            });
            match read {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(_)) => return Err(Ended),
                Poll::Ready(Ok(0)) => {
                    self.listener_finished = true;
                    return Ok(());
                }
                Poll::Ready(Ok(bytes)) => self.rule.counts.answer_bytes.add(bytes as u64),
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    pub(super) fn over(&mut self, why: Why) {
        if matches!(std::mem::replace(&mut self.stage, Stage::Over), Stage::Over) {
            return;
        }
        self.ended_for = why;
        let held = self.pushed - self.written.max(self.own).min(self.pushed);
        self.rule.losses(why).bytes.add(held);
        self.pushed = self.written;
        self.batch = Vec::new();
        self.batched = 0;
        self.queue = Queue::default();
        self.share.set(0);
        self.outstanding.miss_all();
    }
}

/// The listener ended the connection.
struct Ended;
