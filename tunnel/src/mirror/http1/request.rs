//! Follows what a client sends: where each request starts and ends, from the connection's first byte or from wherever it is joined.
//!
//! 1. [`RequestFollower::take`] gets the bytes as they come, and appends [`Step`]s: the same bytes, with what they belong to.
//! 2. A head is held back until it is whole; a body goes on at once.
//! 3. In the middle nothing goes on until a segment begins with a whole head, behind a pause, a pushed segment or a gap, and until that
//!    request has ended where a segment was pushed or where the next head stands. Until then it is on trial, held by `trial`; a body
//!    that merely carries a request fails there.
//! 4. After a gap within a body the framing still says where the next request starts; after any other gap it is sought anew.
//! 5. A connection that never was HTTP/1, or is not any more, goes on as raw bytes while nothing of it is missing.
//!
//! [`follow`] goes from one state to the next, [`parts`] is what it has in hand. What becomes of the steps is
//! [`crate::mirror::connection`]'s.

mod follow;
mod parts;

use bytes::Bytes;

use self::parts::{Body, Partial, Trial};
use super::{
    chunked::Chunked,
    head::{Framing, Head, HeadScan, RequestKind, Scan},
};
use crate::control::mirror_status::NoticeKind;

/// What a piece of the stream is to be done with. All bytes that are taken come out again, in order, in exactly one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A request starts, with this head.
    Begin {
        /// The whole head.
        head: Bytes,
        /// What kind of request.
        kind: RequestKind,
    },
    /// More of the request that began last.
    Body(Bytes),
    /// That request is whole.
    End {
        /// Bytes of its body, without what frames them.
        body: u64,
    },
    /// That request, or the raw connection, will never be whole: something of it is missing.
    Broken,
    /// A request of which only a part of the head was seen.
    Missed,
    /// So many bytes that belong to nothing whose start was seen.
    Stray(u64),
    /// Bytes of a connection that is not followed.
    Raw(Bytes),
    /// Something that a person may want to know.
    Notice(NoticeKind),
}

/// Where a piece of the stream lies.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place {
    /// Its first byte was the first of a segment.
    pub starts_segment: bool,
    /// Its last byte was the last of a segment,
    pub ends_segment: bool,
    /// which had PSH set.
    pub pushed: bool,
    /// Nothing came for a while before it.
    pub quiet: bool,
}

/// A place in what a client sends.
#[derive(Debug)]
pub struct RequestFollower {
    state: State,
    /// Steps of a request that was found in the middle, until it has ended where it should.
    trial: Option<Trial>,
    /// The framing was right about where a request starts at least once since the stream was joined, or it was seen from its start.
    is_proven: bool,
    /// A request has begun since then.
    has_begun: bool,
    /// What was before is not known: nothing was taken yet, or it is missing.
    is_new: bool,
    last_pushed: bool,
}

#[derive(Debug)]
enum State {
    /// A request starts here, or the connection is no HTTP/1.
    Head(Partial),
    Body(Body),
    Raw,
    Seeking,
    /// Nothing can be joined any more.
    Lost,
}

impl RequestFollower {
    /// For a connection that is seen from its first byte.
    pub fn from_start() -> Self {
        Self::in_state(State::Head(Partial::default()), true)
    }

    /// For a connection that is to be joined at its next request.
    pub const fn from_middle() -> Self {
        Self::in_state(State::Seeking, false)
    }

    /// For a connection that is passed on whatever it is.
    pub const fn raw() -> Self {
        Self::in_state(State::Raw, true)
    }

    /// For a connection of which nothing is wanted.
    pub const fn nothing() -> Self {
        Self::in_state(State::Lost, false)
    }

    const fn in_state(state: State, is_proven: bool) -> Self {
        Self { state, trial: None, is_proven, has_begun: false, is_new: true, last_pushed: false }
    }

    /// Whether a message is sought and none has been found: what comes is nobody's.
    pub const fn is_seeking(&self) -> bool {
        matches!(self.state, State::Seeking) && self.trial.is_none()
    }

    /// Bytes that are held back.
    pub fn held(&self) -> usize {
        let partial = match &self.state {
            State::Head(partial) => partial.held.len(),
            State::Body(_) | State::Raw | State::Seeking | State::Lost => 0,
        };
        partial + self.trial.as_ref().map_or(0, |trial| trial.held)
    }

    /// The memory that they take, at most.
    pub fn costs(&self) -> usize {
        let partial = match &self.state {
            State::Head(partial) => partial.held.capacity(),
            State::Body(_) | State::Raw | State::Seeking | State::Lost => 0,
        };
        partial + self.trial.as_ref().map_or(0, Trial::costs)
    }

    /// The next bytes, at least one.
    pub fn take(&mut self, bytes: Bytes, place: Place, out: &mut Vec<Step>) {
        // The empty lines that may stand before a request could be the end of another one.
        let is_start = place.starts_segment && bytes.first().is_some_and(u8::is_ascii_uppercase);
        let may_start = is_start && (self.is_new || place.quiet || self.last_pushed);
        self.is_new = false;
        if may_start && self.is_seeking() {
            self.trial = Some(Trial::default());
            self.state = State::Head(Partial::default());
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = match self.state {
                State::Head(_) => self.head(rest, out),
                State::Body(_) => self.body(rest, out),
                State::Raw => self.emit(Step::Raw(rest), out),
                State::Seeking | State::Lost => self.emit(Step::Stray(rest.len() as u64), out),
            };
        }
        self.last_pushed = place.ends_segment && place.pushed;
        if self.last_pushed && self.is_between() && self.trial.as_ref().is_some_and(|trial| trial.ended) {
            self.acquit(out);
        }
    }

    /// Bytes are missing here.
    pub fn gap(&mut self, bytes: u64, out: &mut Vec<Step>) {
        self.is_new = true;
        self.reject(out);
        match std::mem::replace(&mut self.state, State::Seeking) {
            State::Head(partial) => {
                if !self.has_begun {
                    // Whatever this connection is, its first bytes are missing.
                    out.push(Step::Broken);
                } else if !partial.held.is_empty() {
                    out.push(Step::Missed);
                }
                if !partial.held.is_empty() {
                    out.push(Step::Stray(partial.held.len() as u64));
                }
                self.forget();
            }
            State::Body(body) => {
                out.push(Step::Broken);
                self.forget();
                if let Some(body) = body.pass(bytes) {
                    self.has_begun = true;
                    self.state = State::Body(body);
                    self.end_if_over(out);
                }
            }
            State::Raw => {
                out.push(Step::Broken);
                self.state = State::Lost;
            }
            State::Seeking => {}
            State::Lost => self.state = State::Lost,
        }
    }

    /// Nothing more comes.
    pub fn finish(&mut self, out: &mut Vec<Step>) {
        if self.trial.as_ref().is_some_and(|trial| trial.ended) && matches!(self.state, State::Head(_)) {
            self.acquit(out);
        }
        self.reject(out);
        self.release(Bytes::new(), out);
    }

    /// Gives up what is held back, for the sake of memory: a request on trial is not joined, one whose head is not whole is missed and the
    /// next one sought, and a connection that begins with a head that does not end is not followed.
    pub fn relieve(&mut self, out: &mut Vec<Step>) {
        self.reject(out);
        let held = self.held();
        if held == 0 {
            return;
        }
        if self.has_begun {
            self.forget();
            self.state = State::Seeking;
            out.extend([Step::Missed, Step::Stray(held as u64)]);
        } else {
            self.release(Bytes::new(), out);
        }
    }
}

#[cfg(test)]
mod tests;
