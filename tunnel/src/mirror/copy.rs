//! One connection to a listener: the copy of a mirrored connection, or of a part of it that begins where a message begins.
//!
//! 1. [`Copy::dial`] begins to connect; what is pushed meanwhile waits in the [`queue`].
//! 2. [`Copy::begin`], [`Copy::push`], [`Copy::end`]: bytes go to the socket as slices of the packets they came in; only what it does
//!    not take at once is copied and held, within the session's [`Budget`](super::budget::Budget).
//! 3. [`Copy::poll`] dials, writes, and reads what the listener answers, which is counted and thrown away.
//! 4. [`Copy::cut`] ([`ending`]): what is pushed can't go on. A request that the listener has no byte of is taken back; otherwise it
//!    must not take for whole what is not, so the connection ends with a reset.
//! 5. [`drain`] brings it to its end.
//!
//! Before: [`super::connection`]; after: the listener.

mod dial;
mod drive;
mod ending;
mod outstanding;
mod queue;

use std::{future::Future, net::SocketAddr, pin::Pin, sync::Arc};

use bytes::Bytes;
use tokio::net::TcpStream;

pub(super) use self::ending::drain;
use self::{
    dial::{Undialed, connect},
    outstanding::Outstanding,
    queue::Queue,
};
use super::{
    budget::Share,
    http1::{answer::AnswerFollower, head::RequestKind},
    live_rule::{LiveRule, Why},
    sockets::Slot,
};
use crate::control::mirror_status::Presence;

/// What a copy takes beside what it holds, while a listener has yet to take it: its task and its socket. It counts as held, so that a
/// listener that is stopped under thousands of connections a second costs no more than the budget.
const WAITING_BYTES: usize = 6 << 10;

type Dialing = Pin<Box<dyn Future<Output = Result<TcpStream, Undialed>>>>;

enum Stage {
    Dialing(Dialing),
    Open(TcpStream),
    Over,
}

/// What is to become of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// It goes on.
    Going,
    /// The client has finished: so does the copy, behind what is held.
    Finish,
    /// Something is missing: a reset, behind what is held and once the whole requests are answered.
    Reset,
    /// The client has reset: a reset behind what is held.
    Abort,
}

/// A connection to a listener.
pub(super) struct Copy {
    rule: Arc<LiveRule>,
    stage: Stage,
    _slot: Slot,
    plan: Plan,
    share: Share,
    /// Held: what the socket did not take.
    queue: Queue,
    /// Pushed since the last poll, behind the queue; empty between polls.
    batch: Vec<Bytes>,
    batched: usize,
    /// Bytes of the header of our own, which are nobody's payload.
    own: u64,
    /// Bytes given and bytes the socket took, our own header included.
    pushed: u64,
    written: u64,
    outstanding: Outstanding,
    answers: Option<AnswerFollower>,
    /// What is pushed is no HTTP/1: it is whole only as a whole.
    raw: bool,
    has_opened: bool,
    /// Once it is over: why it could not go on.
    ended_for: Why,
    has_shut: bool,
    listener_finished: bool,
    /// The listener does not answer: it is told of the client's end all the same.
    waits_no_more: bool,
    /// What was pushed last did not fit.
    overflowed: bool,
    /// After a lag: how little must be held before a request begins again.
    resume_at: Option<usize>,
}

impl Copy {
    /// Begins to connect; `None` when too much waits for listeners. `header` goes ahead of everything.
    pub(super) fn dial(
        rule: Arc<LiveRule>,
        listener: SocketAddr,
        share: Share,
        slot: Slot,
        header: &[u8],
    ) -> Option<Self> {
        if !share.admits(WAITING_BYTES) {
            return None;
        }
        let mut queue = Queue::default();
        queue.append(header);
        let own = header.len() as u64;
        let mut copy = Self {
            outstanding: Outstanding::new(Arc::clone(&rule)),
            rule,
            stage: Stage::Dialing(Box::pin(connect(listener))),
            _slot: slot,
            plan: Plan::Going,
            share,
            queue,
            batch: Vec::new(),
            batched: 0,
            own,
            pushed: own,
            written: 0,
            answers: None,
            raw: true,
            has_opened: false,
            ended_for: Why::NotDelivered,
            has_shut: false,
            listener_finished: false,
            waits_no_more: false,
            overflowed: false,
            resume_at: None,
        };
        copy.charge();
        Some(copy)
    }

    pub(super) const fn has_opened(&self) -> bool {
        self.has_opened
    }

    /// Why it could not go on, once it is over.
    pub(super) const fn ended_for(&self) -> Why {
        self.ended_for
    }

    /// Whether nothing more can be pushed.
    pub(super) fn is_doomed(&self) -> bool {
        self.plan != Plan::Going
    }

    /// Whether the listener is still behind after a lag, so that no request begins.
    pub(super) fn is_behind(&self) -> bool {
        self.resume_at.is_some_and(|most| self.queue.len() > most)
    }

    /// What was pushed since the last time did not fit, and was cut.
    pub(super) const fn take_overflow(&mut self) -> bool {
        std::mem::replace(&mut self.overflowed, false)
    }

    /// A request begins with these bytes; `false` when they do not fit, and nothing was changed.
    pub(super) fn begin(&mut self, head: Bytes, kind: RequestKind) -> bool {
        if self.outstanding.is_full() || !self.fits(head.len()) {
            return false;
        }
        self.resume_at = None;
        self.raw = false;
        self.answers.get_or_insert_default();
        self.outstanding.begin(kind, self.pushed);
        self.push(head)
    }

    /// More of a request; `false` when it does not fit, and nothing was changed.
    pub(super) fn push(&mut self, bytes: Bytes) -> bool {
        if !self.fits(bytes.len()) {
            return false;
        }
        self.pushed += bytes.len() as u64;
        if self.goes_straight() {
            self.batched += bytes.len();
            self.batch.push(bytes);
        } else {
            self.queue.append(&bytes);
            self.charge();
        }
        true
    }

    /// As [`Self::push`], of a connection that is not followed.
    pub(super) fn push_raw(&mut self, bytes: Bytes) -> bool {
        let fits = self.push(bytes);
        self.raw |= fits;
        fits
    }

    /// The request is whole.
    pub(super) fn end(&mut self) {
        self.outstanding.end(self.pushed);
        self.outstanding.settle(self.written);
    }

    fn goes_straight(&self) -> bool {
        self.queue.len() == 0 && matches!(self.stage, Stage::Open(_))
    }

    fn fits(&self, bytes: usize) -> bool {
        !self.is_doomed() && (self.goes_straight() || self.share.admits(self.costs() + bytes))
    }

    fn costs(&self) -> usize {
        let is_waiting = matches!(self.stage, Stage::Dialing(_)) || self.is_doomed();
        self.queue.capacity() + if is_waiting { WAITING_BYTES } else { 0 }
    }

    fn charge(&mut self) {
        self.share.set(self.costs());
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.abandon(Why::NotDelivered);
    }
}
