//! [`Stream`]: the tap's end of the stream to its gateway. It is never waited for without looking whether the gateway is still there.
//!
//! Before: [`super::batch`]; after: `gateway::mirror`, and back: [`super::capture`].

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        stat::{SFlag, fstat},
        uio::writev,
    },
    unistd::read,
};
use thiserror::Error;

use super::protocol::{LEASE, Requests, RequestsError, ToTap};

/// Slices that the kernel takes at once.
const MAX_SLICES: usize = 1_024;
/// Between two looks at the gateway while it takes nothing.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const READ_BYTES: usize = 16 << 10;
/// Messages that wait while the gateway takes nothing; then it is not read either.
const MAX_WAITING: usize = 64;

/// The tap's work is over.
#[derive(Debug, Error)]
pub enum StreamEnd {
    /// The gateway closed the stream, or died.
    #[error("the gateway is gone")]
    Closed,
    /// The gateway said nothing for so long that it is taken for dead.
    #[error("the gateway said nothing for {} s", LEASE.as_secs())]
    Silent,
    /// The stream broke.
    #[error("the stream to the gateway broke: {0}")]
    Broken(#[from] Errno),
    /// What the gateway says makes no sense.
    #[error(transparent)]
    Nonsense(#[from] RequestsError),
}

/// Both directions.
#[derive(Debug)]
pub(super) struct Stream {
    input: OwnedFd,
    output: OwnedFd,
    requests: Requests,
    waiting: VecDeque<ToTap>,
    heard: Instant,
    buffer: Vec<u8>,
}

impl Stream {
    /// Over `input`, and where that is no socket, `output` for the way back.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn new(input: OwnedFd, output: OwnedFd) -> io::Result<Self> {
        let both_ways = SFlag::from_bits_truncate(fstat(&input)?.st_mode).contains(SFlag::S_IFSOCK);
        let output = if both_ways { input.try_clone()? } else { output };
        for fd in [&input, &output] {
            let flags = OFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GETFL)?);
            fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        }
        let (requests, waiting) = (Requests::default(), VecDeque::new());
        Ok(Self { input, output, requests, waiting, heard: Instant::now(), buffer: vec![0; READ_BYTES] })
    }

    /// Reads what the gateway said, without waiting.
    ///
    /// # Errors
    /// [`StreamEnd`], also when it has been silent for too long.
    pub(super) fn listen(&mut self) -> Result<(), StreamEnd> {
        while self.waiting.len() < MAX_WAITING {
            match read(&self.input, &mut self.buffer) {
                Ok(0) => return Err(StreamEnd::Closed),
                Ok(len) => {
                    self.heard = Instant::now();
                    self.requests.extend(&self.buffer[..len]);
                    while let Some(message) = self.requests.take()? {
                        self.waiting.push_back(message);
                    }
                }
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(Errno::ECONNRESET) => return Err(StreamEnd::Closed),
                Err(errno) => return Err(errno.into()),
            }
        }
        // Only here, behind the reads: a tap that was stopped has what was said meanwhile before it.
        if self.heard.elapsed() > LEASE && self.waiting.is_empty() { Err(StreamEnd::Silent) } else { Ok(()) }
    }

    /// The next message that [`Stream::listen`] read.
    pub(super) fn take(&mut self) -> Option<ToTap> {
        self.waiting.pop_front()
    }

    /// Writes all of it, and waits for the gateway to take it: a tap has no queue but its rings.
    ///
    /// # Errors
    /// [`StreamEnd`].
    pub(super) fn write(&mut self, mut slices: &mut [IoSlice<'_>]) -> Result<(), StreamEnd> {
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let most = slices.len().min(MAX_SLICES);
            match writev(&self.output, &slices[..most]) {
                Ok(written) => IoSlice::advance_slices(&mut slices, written),
                Err(Errno::EAGAIN) => self.wait_for_room()?,
                Err(Errno::EINTR) => {}
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(StreamEnd::Closed),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn wait_for_room(&mut self) -> Result<(), StreamEnd> {
        let timeout = PollTimeout::try_from(LOOK_EVERY).expect("a short time");
        match poll(&mut [PollFd::new(self.output.as_fd(), PollFlags::POLLOUT)], timeout) {
            Ok(0) => self.listen(),
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Stream {
    /// What to poll for messages.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.input.as_fd()
    }
}
