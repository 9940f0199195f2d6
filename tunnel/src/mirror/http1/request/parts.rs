//! What a [`RequestFollower`](super::RequestFollower) has in hand: a head that is not whole, a body, a request on trial.
//!
//! What may stay for long is copied: a piece would keep the whole buffer that it was read into, with what came beside it.

use bytes::{Bytes, BytesMut};

use super::{Chunked, HeadScan, Step};

/// A block of a body that is kept grows up to this, and a piece more.
const BLOCK_BYTES: usize = 64 << 10;

#[derive(Debug, Default)]
pub(super) struct Partial {
    pub(super) scan: HeadScan,
    pub(super) held: Vec<u8>,
    /// The request before asked for another protocol.
    pub(super) upgrade: bool,
}

#[derive(Debug)]
pub(super) enum Body {
    Length {
        left: u64,
        all: u64,
    },
    Chunked(Chunked),
    /// With the request's end another protocol may begin.
    Upgrading(Box<Body>),
}

#[derive(Debug, Default)]
pub(super) struct Trial {
    pub(super) steps: Vec<Step>,
    pub(super) held: usize,
    /// A request of it has ended.
    pub(super) ended: bool,
}

impl Partial {
    /// The whole head, of which `end` is the rest.
    pub(super) fn join(&mut self, end: Bytes) -> Bytes {
        if self.held.is_empty() {
            return end;
        }
        self.held.extend_from_slice(&end);
        std::mem::take(&mut self.held).into()
    }
}

impl Trial {
    pub(super) fn keep(&mut self, step: Step) {
        let step = match step {
            Step::Begin { head, kind } => {
                self.held += head.len();
                Step::Begin { head: Bytes::copy_from_slice(&head), kind }
            }
            Step::Body(bytes) => {
                self.held += bytes.len();
                return self.keep_body(&bytes);
            }
            Step::Raw(bytes) => {
                self.held += bytes.len();
                Step::Raw(Bytes::copy_from_slice(&bytes))
            }
            Step::End { .. } | Step::Broken | Step::Missed | Step::Stray(_) | Step::Notice(_) => step,
        };
        self.steps.push(step);
    }

    fn keep_body(&mut self, bytes: &[u8]) {
        if let Some(Step::Body(block)) = self.steps.last_mut()
            && block.len() < BLOCK_BYTES
        {
            // It is nobody else's, so it grows where it is.
            let mut grown = BytesMut::from(std::mem::take(block));
            grown.extend_from_slice(bytes);
            *block = grown.freeze();
        } else {
            self.steps.push(Step::Body(Bytes::copy_from_slice(bytes)));
        }
    }

    /// The memory it takes, at most: a block that grew has up to twice its bytes.
    pub(super) const fn costs(&self) -> usize {
        self.steps.capacity() * size_of::<Step>() + 2 * self.held
    }
}

impl Body {
    /// How much of the front of `bytes` belongs to it, `None` when its framing is broken.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Length { left, .. } => {
                let now = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= now as u64;
                Some(now)
            }
            Self::Chunked(chunked) => chunked.take(bytes).ok(),
            Self::Upgrading(body) => body.take(bytes),
        }
    }

    /// The rest of it behind a gap, `None` when the gap is not within it.
    pub(super) fn pass(mut self, bytes: u64) -> Option<Self> {
        match &mut self {
            Self::Length { left, .. } => *left = left.checked_sub(bytes)?,
            Self::Chunked(chunked) => chunked.pass(bytes).ok()?,
            Self::Upgrading(_) => return None,
        }
        Some(self)
    }

    /// Its payload and whether another protocol may follow, once it has ended.
    pub(super) fn over(&self) -> Option<(u64, bool)> {
        match self {
            Self::Length { left, all } => (*left == 0).then_some((*all, false)),
            Self::Chunked(chunked) => chunked.is_over().then(|| (chunked.payload(), false)),
            Self::Upgrading(body) => body.over().map(|(payload, _)| (payload, true)),
        }
    }
}
