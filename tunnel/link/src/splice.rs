//! Bytes between a stream and a socket, both ways, in one task and without a buffer while nothing flows.
//!
//! FIN crosses as FIN and a reset as a reset, in both directions: half-close keeps the other half open. Stream to socket goes by
//! `writev` from quinn's own buffers; socket to stream through one scratch buffer a thread. Used by `gateway::outbound`; the
//! session's side is `netstack::tcp_flow`.

use std::{
    cell::RefCell,
    future::{Future, pending, poll_fn},
    io::IoSlice,
    pin::pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use quinn::{ReadError, RecvStream, SendStream};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

pub use self::budget::Budget;
use self::budget::Held;
use crate::error_code::FLOW_RESET;

mod budget;

/// Chunks taken from a stream and given to one `writev`: a chunk is one packet's payload, so 64 make some 90 KiB.
const CHUNKS: usize = 64;
/// Read from a socket at once: larger reads leave remainders that are copied into fresh pages.
const SCRATCH_BYTES: usize = 64 << 10;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// Read at once, from either side, while the session's [`Budget`] is spent: with 32,768 flows that hold as much each way, 128 MiB.
const SPARING_BYTES: usize = 2 << 10;

/// How a splice ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Both sides finished.
    Finished,
    /// The stream's side reset the flow, or its link is gone; the socket was reset.
    ResetByStream,
    /// The socket's side reset the flow; the stream was reset.
    ResetBySocket,
}

/// What a splice carried, bytes each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    /// From the stream to the socket.
    pub to_socket: u64,
    /// From the socket to the stream.
    pub to_stream: u64,
}

/// Copies until both directions have finished or one is reset. `carried` is kept up to date meanwhile; what waits between stream and
/// socket counts in `budget`, which all flows of a session share. `over` resolves when the flow must not go on: while the socket is full
/// nothing else may tell that the link is gone.
pub async fn splice(
    socket: TcpStream,
    send: SendStream,
    recv: RecvStream,
    budget: &Budget,
    over: impl Future<Output = ()>,
    carried: impl Fn(Carried),
) -> Ending {
    let mut splice = Splice {
        socket,
        send,
        recv,
        unwritten: Vec::new(),
        unsent: Bytes::new(),
        held: Held::nothing(budget),
        to_socket: Direction::Open,
        to_stream: Direction::Open,
    };
    let ending = {
        let stopped = splice.send.stopped();
        let mut stopped = pin!(async move {
            if let Ok(None) = stopped.await {
                // Our own FIN was acknowledged, which ends nothing.
                pending::<()>().await;
            }
        });
        let mut over = pin!(over);
        poll_fn(|cx| {
            let mut moved = Carried::default();
            let outcome = splice.poll(cx, &mut moved);
            splice.held.set(splice.unwritten.iter().map(Bytes::len).sum::<usize>() + splice.unsent.len());
            if moved != Carried::default() {
                carried(moved);
            }
            if outcome.is_pending()
                && (over.as_mut().poll(cx).is_ready()
                    || (splice.reads_no_stream() && stopped.as_mut().poll(cx).is_ready()))
            {
                return Poll::Ready(Ending::ResetByStream);
            }
            outcome
        })
        .await
    };
    splice.end(ending);
    ending
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Open,
    Finishing,
    Done,
}

struct Splice<'a> {
    socket: TcpStream,
    send: SendStream,
    recv: RecvStream,
    /// Read from the stream, not taken by the socket yet: empty unless the socket is full.
    unwritten: Vec<Bytes>,
    /// Read from the socket, not taken by the stream yet: empty unless the stream is blocked, then at most the scratch buffer's size.
    unsent: Bytes,
    held: Held<'a>,
    to_socket: Direction,
    to_stream: Direction,
}

impl Splice<'_> {
    fn poll(&mut self, cx: &mut Context<'_>, moved: &mut Carried) -> Poll<Ending> {
        if self.to_socket != Direction::Done
            && let Poll::Ready(Err(ending)) = self.poll_to_socket(cx, &mut moved.to_socket)
        {
            return Poll::Ready(ending);
        }
        if self.to_stream != Direction::Done
            && let Poll::Ready(Err(ending)) = self.poll_to_stream(cx, &mut moved.to_stream)
        {
            return Poll::Ready(ending);
        }
        if self.to_socket == Direction::Done && self.to_stream == Direction::Done {
            return Poll::Ready(Ending::Finished);
        }
        Poll::Pending
    }

    /// Whether nobody reads the stream, so that its end would not be seen there: its FIN has come, or the socket is full.
    const fn reads_no_stream(&self) -> bool {
        matches!(self.to_socket, Direction::Done) || !self.unwritten.is_empty()
    }

    fn poll_to_socket(&mut self, cx: &mut Context<'_>, moved: &mut u64) -> Poll<Result<(), Ending>> {
        loop {
            if !self.unwritten.is_empty() {
                ready!(self.poll_write(cx, moved))?;
            } else if self.to_socket == Direction::Finishing {
                if ready!(pin!(&mut self.socket).poll_shutdown(cx)).is_err() {
                    return Poll::Ready(Err(Ending::ResetBySocket));
                }
                self.to_socket = Direction::Done;
                return Poll::Ready(Ok(()));
            } else {
                let read = self.read_stream(cx);
                if read.is_pending() {
                    // An idle flow holds no buffer.
                    self.unwritten = Vec::new();
                }
                match ready!(read) {
                    Ok(Some(())) => {}
                    Ok(None) => self.to_socket = Direction::Finishing,
                    Err(ReadError::Reset(_) | ReadError::ConnectionLost(_)) => {
                        return Poll::Ready(Err(Ending::ResetByStream));
                    }
                    Err(ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected) => {
                        unreachable!("the stream is read in order, by nobody else, and never in 0-RTT")
                    }
                }
            }
        }
    }

    /// Fills `unwritten`; `None` at the stream's end.
    fn read_stream(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<()>, ReadError>> {
        if self.held.must_spare() {
            let chunk = ready!(pin!(self.recv.read_chunk(SPARING_BYTES, true)).poll(cx))?;
            // Copied, for a piece of a packet keeps the whole of it.
            return Poll::Ready(Ok(chunk.map(|chunk| self.unwritten.push(Bytes::copy_from_slice(&chunk.bytes)))));
        }
        let mut chunks = [const { Bytes::new() }; CHUNKS];
        let count = ready!(pin!(self.recv.read_chunks(&mut chunks)).poll(cx))?;
        Poll::Ready(Ok(count.map(|count| self.unwritten.extend(chunks.into_iter().take(count)))))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, moved: &mut u64) -> Poll<Result<(), Ending>> {
        let mut taken = 0;
        while taken < self.unwritten.len() {
            let slices = std::array::from_fn::<_, CHUNKS, _>(|at| {
                IoSlice::new(self.unwritten.get(taken + at).map_or(&[], |chunk| chunk))
            });
            match ready!(pin!(&mut self.socket).poll_write_vectored(cx, &slices)) {
                Ok(mut written) => {
                    *moved += written as u64;
                    while let Some(chunk) = self.unwritten.get_mut(taken)
                        && written >= chunk.len()
                    {
                        written -= chunk.len();
                        *chunk = Bytes::new();
                        taken += 1;
                    }
                    if let Some(chunk) = self.unwritten.get_mut(taken) {
                        chunk.advance(written);
                    }
                }
                Err(_) => return Poll::Ready(Err(Ending::ResetBySocket)),
            }
        }
        self.unwritten.clear();
        Poll::Ready(Ok(()))
    }

    fn poll_to_stream(&mut self, cx: &mut Context<'_>, moved: &mut u64) -> Poll<Result<(), Ending>> {
        loop {
            if self.unsent.is_empty() {
                match ready!(self.poll_read(cx, moved)) {
                    Ok(0) => {
                        // Fails only if the stream was stopped, which the other direction or the stop itself reports.
                        let _ = self.send.finish();
                        self.to_stream = Direction::Done;
                        return Poll::Ready(Ok(()));
                    }
                    Ok(_) => {}
                    Err(ending) => return Poll::Ready(Err(ending)),
                }
            } else {
                match ready!(pin!(&mut self.send).poll_write(cx, &self.unsent)) {
                    Ok(sent) => {
                        *moved += sent as u64;
                        self.unsent.advance(sent);
                    }
                    Err(_) => return Poll::Ready(Err(Ending::ResetByStream)),
                }
            }
        }
    }

    /// Reads into the thread's scratch buffer and from there into the stream; what the stream does not take is kept.
    fn poll_read(&mut self, cx: &mut Context<'_>, moved: &mut u64) -> Poll<Result<usize, Ending>> {
        let most = if self.held.must_spare() { SPARING_BYTES } else { SCRATCH_BYTES };
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(&mut scratch[..most]);
            if ready!(pin!(&mut self.socket).poll_read(cx, &mut buffer)).is_err() {
                return Poll::Ready(Err(Ending::ResetBySocket));
            }
            let read = buffer.filled();
            if read.is_empty() {
                return Poll::Ready(Ok(0));
            }
            let sent = match pin!(&mut self.send).poll_write(cx, read) {
                Poll::Ready(Ok(sent)) => sent,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Ending::ResetByStream)),
                Poll::Pending => 0,
            };
            *moved += sent as u64;
            self.unsent = Bytes::copy_from_slice(&read[sent..]);
            Poll::Ready(Ok(read.len()))
        })
    }

    fn end(mut self, ending: Ending) {
        match ending {
            Ending::Finished => {}
            Ending::ResetByStream | Ending::ResetBySocket => {
                // Each fails only if that direction has ended already.
                let _ = self.send.reset(FLOW_RESET);
                let _ = self.recv.stop(FLOW_RESET);
                // With a linger of zero the socket's close is an RST.
                let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
            }
        }
    }
}

#[cfg(test)]
mod tests;
