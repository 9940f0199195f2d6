//! One connection to a listener: the copy of a mirrored connection, or of a part of it that begins where a message begins.
//!
//! 1. [`Copy::dial`] begins to connect; what is pushed meanwhile waits in the [`queue`].
//! 2. [`Copy::begin`], [`Copy::push`], [`Copy::end`]: bytes go to the socket as slices of the packets they came in; only what it does
//!    not take at once is copied and held, within the session's [`Budget`](super::budget::Budget).
//! 3. [`Copy::poll`] dials, writes, and reads what the listener answers, which is counted and thrown away.
//! 4. [`Copy::cut`]: what is pushed can't go on. A request that the listener has no byte of is taken back; otherwise it must not take
//!    for whole what is not, so the connection ends with a reset.
//! 5. [`drain`] brings it to its end.
//!
//! Before: [`super::connection`]; after: the listener.

mod outstanding;
mod queue;

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io::{self, IoSlice},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};

use self::{outstanding::Outstanding, queue::Queue};
use super::{
    budget::Share,
    http1::{answer::AnswerFollower, head::RequestKind},
    live_rule::{LiveRule, Why},
};
use crate::control::mirror_status::Presence;

/// A listener on this machine answers at once, unless its backlog is full.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// After the client has finished, a listener may take this long to answer what it was asked before it learns of the end: many programs
/// give up what they are about when their client does, while this client has had its answer from the target.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// And this long to take the rest once it knows.
const FINISH_TIMEOUT: Duration = Duration::from_secs(30);
/// What is to be reset goes on for this long, so that requests that are whole can be answered.
const RESET_TIMEOUT: Duration = Duration::from_secs(5);
/// Slices given to one `writev`.
const SLICES: usize = 64;
/// Read at once from the listener.
const SCRATCH_BYTES: usize = 64 << 10;
/// Reads of answers before other flows get their turn.
const READS_A_TURN: usize = 8;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

type Dialing = Pin<Box<dyn Future<Output = Result<TcpStream, Presence>>>>;

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
    /// Begins to connect. `header` goes ahead of everything.
    pub(super) fn dial(rule: Arc<LiveRule>, listener: SocketAddr, share: Share, header: &[u8]) -> Self {
        let mut queue = Queue::default();
        queue.append(header);
        let own = header.len() as u64;
        Self {
            outstanding: Outstanding::new(Arc::clone(&rule)),
            rule,
            stage: Stage::Dialing(Box::pin(connect(listener))),
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
            has_shut: false,
            listener_finished: false,
            waits_no_more: false,
            overflowed: false,
            resume_at: None,
        }
    }

    pub(super) const fn has_opened(&self) -> bool {
        self.has_opened
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
            self.share.set(self.queue.capacity());
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

    /// What was pushed last can't go on. Bytes that are taken back count as lost for `why`.
    pub(super) fn cut(&mut self, why: Why) {
        match self.outstanding.in_progress() {
            Some(start) => {
                self.take_back(start.max(self.written), why);
                self.outstanding.miss_last();
                if start < self.written {
                    self.plan = Plan::Reset;
                }
            }
            None if self.raw => self.plan = Plan::Reset,
            None => {}
        }
        if why == Why::ListenerLag {
            self.resume_at = Some(self.queue.len() / 2);
        }
    }

    /// The client has finished.
    pub(super) fn finish(&mut self) {
        if self.plan == Plan::Going {
            self.plan = Plan::Finish;
        }
    }

    /// The client has reset.
    pub(super) const fn abort(&mut self) {
        self.plan = Plan::Abort;
    }

    /// Ends it at once; what is held is lost for `why`.
    pub(super) fn abandon(&mut self, why: Why) {
        let is_broken = self.raw || self.outstanding.in_progress().is_some() || self.pushed > self.written;
        if let Stage::Open(socket) = &self.stage
            && is_broken
            && !self.has_shut
        {
            reset(socket);
        }
        self.over(why);
    }

    fn goes_straight(&self) -> bool {
        self.queue.len() == 0 && matches!(self.stage, Stage::Open(_))
    }

    fn fits(&self, bytes: usize) -> bool {
        !self.is_doomed() && (self.goes_straight() || self.share.admits(self.queue.capacity() + bytes))
    }

    /// Takes back what was pushed from this offset on.
    fn take_back(&mut self, offset: u64, why: Why) {
        let mut back = usize::try_from(self.pushed - offset).unwrap_or(usize::MAX);
        self.rule.losses(why).bytes.add(back as u64);
        self.pushed = offset;
        while back > 0
            && let Some(last) = self.batch.last_mut()
        {
            let now = back.min(last.len());
            last.truncate(last.len() - now);
            self.batched -= now;
            back -= now;
            if last.is_empty() {
                self.batch.pop();
            }
        }
        self.queue.drop_back(back.min(self.queue.len()));
        self.share.set(self.queue.capacity());
    }

    /// Dials, writes, reads; ready when it is over. Must be polled after every push.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Stage::Dialing(dialing) = &mut self.stage {
            match ready!(dialing.as_mut().poll(cx)) {
                Ok(socket) => {
                    self.rule.found_listener(Presence::Listening);
                    self.stage = Stage::Open(socket);
                    self.has_opened = true;
                }
                Err(presence) => {
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

    /// The client's FIN, behind all that it sent and all that it was answered.
    fn poll_shut(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        let is_due = self.pushed == self.written && (self.outstanding.is_empty() || self.waits_no_more);
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
            self.share.set(self.queue.capacity());
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
        if !self.share.admits(self.queue.capacity() + self.batched) {
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
        self.share.set(self.queue.capacity());
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

    fn over(&mut self, why: Why) {
        if matches!(std::mem::replace(&mut self.stage, Stage::Over), Stage::Over) {
            return;
        }
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

impl Drop for Copy {
    fn drop(&mut self) {
        self.abandon(Why::NotDelivered);
    }
}

/// The listener ended the connection.
struct Ended;

/// Brings a copy to its end, as far as that may take; switching its rule off ends it at once. Says whether the listener took it.
pub(super) async fn drain(mut copy: Copy) -> bool {
    let most = if copy.plan == Plan::Finish { FINISH_TIMEOUT } else { RESET_TIMEOUT };
    let off = copy.rule.off();
    if copy.plan == Plan::Finish {
        let answered = off.run_until_cancelled(poll_fn(|cx| copy.poll(cx)));
        copy.waits_no_more = timeout(ANSWER_TIMEOUT, answered).await.is_err();
    }
    let drained = timeout(most, off.run_until_cancelled(poll_fn(|cx| copy.poll(cx)))).await;
    match drained {
        Ok(Some(())) => {}
        Ok(None) => copy.abandon(Why::SwitchedOff),
        Err(_) => {
            if let Stage::Open(socket) = &copy.stage {
                reset(socket);
            }
            copy.over(Why::ListenerLag);
        }
    }
    copy.has_opened
}

/// With a linger of zero a socket's close is an RST.
fn reset(socket: &TcpStream) {
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

async fn connect(listener: SocketAddr) -> Result<TcpStream, Presence> {
    let socket = match timeout(DIAL_TIMEOUT, TcpStream::connect(listener)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(Presence::Refused),
        Ok(Err(error)) => {
            tracing::debug!(%listener, %error, "a listener cannot be reached");
            return Err(Presence::Unreachable);
        }
        Err(_) => return Err(Presence::Unreachable),
    };
    // Where nobody listens, a socket that happens to have the listener's port connects to itself.
    if socket.local_addr().is_ok_and(|local| local == listener) {
        reset(&socket);
        return Err(Presence::Refused);
    }
    // What arrives is passed on as it arrived.
    let _ = socket.set_nodelay(true);
    Ok(socket)
}
