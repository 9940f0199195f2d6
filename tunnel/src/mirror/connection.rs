//! A mirrored TCP connection, in one task: its stream, what it is, and the copy that a listener gets of it.
//!
//! 1. [`Connection::poll`] reads what is there, at most [`CHUNKS`] chunks, and takes the frames apart;
//! 2. [`Connection::bytes`] lets the follower say what they belong to;
//! 3. [`steps`]: [`Connection::apply`] gives each step to the copy, or counts why not: a copy begins with the connection or with a request, and
//!    when it has ended (no listener, a lag, a gap) what is left of the message is dropped, and the next request begins another;
//! 4. [`ending`]: [`Connection::end`] carries over how the client ended.
//!
//! Before: [`super::arrival`]; after: [`super::copy`].

mod ending;
mod pieces;
mod steps;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use link::mirrored::MirrorHeader;
use quinn::RecvStream;

use super::{
    Mirror,
    budget::Share,
    copy::Copy,
    frames::{End, Frames, Piece},
    http1::request::{Place, RequestFollower, Step},
    live_rule::{LiveRule, Why},
    print::transcript::Transcript,
    proxy_header,
};
use crate::control::{
    mirror_message::{Existing, Listener, PrintedEvent},
    mirror_status::NoticeKind,
};

/// Chunks taken from a stream at once: a chunk is one packet's payload, so 64 make some 90 KiB.
const CHUNKS: usize = 64;
/// Rounds before other flows get their turn.
const ROUNDS_A_TURN: usize = 16;
/// A pause after which a message may begin: longer than what lies between two segments of one message.
const QUIET: Duration = Duration::from_millis(2);
/// Segments in which something known is looked for, while none is a request.
const SNIFFS: u8 = 4;

/// Carries a connection until its end.
pub(super) async fn carry(
    mirror: &Rc<Mirror>,
    rule: &Arc<LiveRule>,
    flow: MirrorHeader,
    recv: RecvStream,
    first: Bytes,
) {
    let off = rule.off();
    let mut connection = Connection::new(mirror, rule, flow, recv);
    let mut first = Some(first);
    let ended = {
        let mut off = pin!(off.cancelled());
        poll_fn(|cx| {
            if off.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Outcome::Off);
            }
            connection.poll(cx, first.take())
        })
        .await
    };
    connection.end(ended).await;
}

/// How a mirrored connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// As the client's did.
    Said(End),
    /// The link is gone, or the gateway gave the stream up.
    Lost,
    /// What the gateway sent is no mirrored connection.
    Malformed,
    /// The rule was switched off.
    Off,
}

struct Connection {
    mirror: Rc<Mirror>,
    rule: Arc<LiveRule>,
    flow: MirrorHeader,
    recv: RecvStream,
    frames: Frames,
    follower: RequestFollower,
    steps: Vec<Step>,
    copy: Option<Copy>,
    /// What comes belongs to a message, or a connection, of which something was not passed on, and why.
    dropping: Option<Why>,
    /// A request has begun and not ended.
    in_request: bool,
    /// What the follower holds back.
    held: Share,
    last_at: Instant,
    sniffs_left: u8,
    transcript: Transcript,
    bytes: u64,
    /// A listener took a copy; without one the whole connection is lost, for the reason beside it.
    was_opened: bool,
    not_opened: Why,
    /// That there was no descriptor for a copy was told.
    is_crowded: bool,
}

impl Connection {
    fn new(mirror: &Rc<Mirror>, rule: &Arc<LiveRule>, flow: MirrorHeader, recv: RecvStream) -> Self {
        let follower = match (flow.from_start, rule.spec.existing) {
            (true, _) => RequestFollower::from_start(),
            (false, Existing::Http) => RequestFollower::from_middle(),
            (false, Existing::Raw) => RequestFollower::raw(),
            (false, Existing::Skip) => RequestFollower::nothing(),
        };
        let mut connection = Self {
            mirror: Rc::clone(mirror),
            rule: Arc::clone(rule),
            flow,
            recv,
            frames: Frames::default(),
            follower,
            steps: Vec::new(),
            copy: None,
            dropping: Some(Why::NotJoined),
            in_request: false,
            held: mirror.budget.share(),
            last_at: Instant::now(),
            sniffs_left: SNIFFS,
            transcript: Transcript::default(),
            bytes: 0,
            was_opened: false,
            not_opened: Why::NotJoined,
            is_crowded: false,
        };
        if connection.flow.from_start || rule.spec.existing == Existing::Raw {
            connection.dial();
        }
        connection
    }

    /// A copy from here on.
    fn dial(&mut self) {
        self.dropping = None;
        match self.rule.spec.listener {
            Listener::Print => self.was_opened = true,
            Listener::At(listener) => {
                let header = if self.rule.spec.proxy_protocol { proxy_header::encode(&self.flow) } else { Vec::new() };
                let (slot, share) = (self.mirror.sockets.claim(), self.mirror.budget.share());
                if slot.is_none() && !std::mem::replace(&mut self.is_crowded, true) {
                    self.rule.notice(NoticeKind::Descriptors);
                }
                self.copy = slot.and_then(|slot| Copy::dial(Arc::clone(&self.rule), listener, share, slot, &header));
                let is_dialed = self.copy.is_some();
                self.not_opened = if is_dialed { Why::NotDelivered } else { Why::ListenerLag };
                self.dropping = (!is_dialed).then_some(Why::ListenerLag);
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, first: Option<Bytes>) -> Poll<Outcome> {
        let mut chunks = [const { Bytes::new() }; CHUNKS];
        let mut count = first.map_or(0, |first| {
            chunks[0] = first;
            1
        });
        for _ in 0..ROUNDS_A_TURN {
            let now = Instant::now();
            let mut quiet = now.saturating_duration_since(self.last_at) >= QUIET;
            for chunk in &mut chunks[..count] {
                self.last_at = now;
                match self.chunk(std::mem::take(chunk), std::mem::take(&mut quiet)) {
                    None => {}
                    Some(outcome) => {
                        self.poll_copy(cx);
                        return Poll::Ready(outcome);
                    }
                }
            }
            self.pause();
            self.poll_copy(cx);
            count = match ready!(pin!(self.recv.read_chunks(&mut chunks)).poll(cx)) {
                Ok(Some(count)) => count,
                Ok(None) | Err(_) => return Poll::Ready(Outcome::Lost),
            };
        }
        // There may be more, in the chunks as well.
        for chunk in &mut chunks[..count] {
            if let Some(outcome) = self.chunk(std::mem::take(chunk), false) {
                self.poll_copy(cx);
                return Poll::Ready(outcome);
            }
        }
        self.poll_copy(cx);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_copy(&mut self, cx: &mut Context<'_>) {
        let Some(copy) = &mut self.copy else { return };
        let is_over = copy.poll(cx).is_ready();
        self.was_opened |= copy.has_opened();
        if copy.take_overflow() {
            self.dropping = Some(Why::ListenerLag);
        }
        if is_over {
            let why = copy.ended_for();
            self.copy = None;
            (self.not_opened, self.dropping) = (why, Some(why));
        }
    }
}
