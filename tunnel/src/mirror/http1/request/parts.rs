//! What a [`RequestFollower`](super::RequestFollower) has in hand: a head that is not whole, a body, a request on trial.

use bytes::{Bytes, BytesMut};

use super::{Chunked, HeadScan, Step};

#[derive(Debug, Default)]
pub(super) struct Partial {
    pub(super) scan: HeadScan,
    pub(super) held: Vec<Bytes>,
    pub(super) len: usize,
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
        let mut head = BytesMut::with_capacity(self.len + end.len());
        for piece in self.held.drain(..).chain([end]) {
            head.extend_from_slice(&piece);
        }
        self.len = 0;
        head.freeze()
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
