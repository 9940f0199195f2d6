//! What moves a [`struct@Copy`]: it dials, writes what was pushed, reads what the listener answers, and ends.
//! Before: [`super`]; after: the listener.

use std::{
    cell::RefCell,
    future::poll_fn,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Buf;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};

use super::{Copy, Plan, Presence, Queue, Stage, Why};

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

/// Brings a copy to its end, as far as that may take; switching its rule off ends it at once. Says whether the listener took it.
pub(in crate::mirror) async fn drain(mut copy: Copy) -> bool {
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
pub(super) fn reset(socket: &TcpStream) {
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

pub(super) async fn connect(listener: SocketAddr) -> Result<TcpStream, Presence> {
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
