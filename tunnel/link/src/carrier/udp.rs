//! The `udp` carrier: a UDP socket that joins quinn's GSO batches and notices a closed port.
//!
//! quinn hands over at most ten segments a call; the kernel takes 64 KiB. Consecutive batches with the same destination and
//! segment size are joined and sent by one `sendmsg`, which takes about a tenth off the CPU of a bulk sender. A batch waits one
//! round of the scheduler at most, for the flusher task to run; a lone packet does not wait.

use std::{
    fmt, io,
    io::IoSliceMut,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use quinn_udp::UdpSocketState;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{io::Interest, net::UdpSocket, sync::Notify};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::joined::Joined;
use super::{Blocking, Poller, Writable};

mod joined;

/// Kernel buffer asked for in each direction: below 1 MiB a bulk flow loses packets, above 4 MiB nothing changes.
pub const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Messages received by one call, each of up to 64 segments. Usually one waits; quinn's 32 places would have to be laid out each time.
const RECEIVED_AT_ONCE: usize = 8;

/// A UDP socket under QUIC.
pub struct UdpCarrier {
    io: UdpSocket,
    state: UdpSocketState,
    joined: Mutex<Joined>,
    blocked: AtomicBool,
    pending: Arc<Notify>,
    closing: CancellationToken,
    /// Sends and receives that ended in `ECONNREFUSED` since the last packet arrived: only a connected socket sees them.
    refusals: AtomicU32,
    refused: Notify,
}

impl UdpCarrier {
    /// Wraps a bound socket and starts its flusher on `tasks`. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// What the socket options answer on a kernel that lacks them.
    pub fn new(socket: std::net::UdpSocket, tasks: &TaskTracker) -> io::Result<Arc<Self>> {
        let state = UdpSocketState::new((&socket).into())?;
        let carrier = Arc::new(Self {
            io: UdpSocket::from_std(socket)?,
            state,
            joined: Mutex::default(),
            blocked: AtomicBool::new(false),
            pending: Arc::default(),
            closing: CancellationToken::new(),
            refusals: AtomicU32::new(0),
            refused: Notify::new(),
        });
        tasks.spawn(flusher(Arc::downgrade(&carrier), Arc::clone(&carrier.pending), carrier.closing.clone()));
        Ok(carrier)
    }

    /// A socket for a session: connected to `gateway`, so that a closed port is told, and marked so that it stays out of the tunnel.
    ///
    /// # Errors
    /// No route to the gateway, no descriptor, or no right to set the mark.
    pub fn connected(gateway: SocketAddr, mark: Option<u32>) -> io::Result<std::net::UdpSocket> {
        let socket = Socket::new(Domain::for_address(gateway), Type::DGRAM, Some(Protocol::UDP))?;
        if let Some(mark) = mark {
            socket.set_mark(mark)?;
        }
        set_buffers(&socket);
        socket.set_nonblocking(true)?;
        socket.connect(&gateway.into())?;
        Ok(socket.into())
    }

    /// A socket for a gateway.
    ///
    /// # Errors
    /// The address is taken or not this machine's.
    pub fn listening(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        set_buffers(&socket);
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    }

    /// Resolves when the peer's kernel has refused `count` packets in a row, with none from the peer between.
    pub async fn refused(&self, count: u32) {
        loop {
            let refused = self.refused.notified();
            if self.refusals.load(Ordering::Relaxed) >= count {
                return;
            }
            refused.await;
        }
    }

    fn note(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::ConnectionRefused {
            self.refusals.fetch_add(1, Ordering::Relaxed);
            self.refused.notify_waiters();
        }
    }

    /// The socket is empty: whatever comes next makes it readable again, so nobody has to ask it once more to hear that.
    fn forget_readiness(&self) {
        let empty = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        // The error is our own.
        let _ = self.io.try_io(Interest::READABLE, empty);
    }

    fn lock(&self) -> MutexGuard<'_, Joined> {
        // Nothing in the critical sections can panic half-way through a change.
        self.joined.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what is joined. `WouldBlock` keeps it; any other error loses it, as the network may, and QUIC resends.
    fn flush(&self, joined: &mut Joined) -> io::Result<()> {
        let Some(destination) = joined.destination else { return Ok(()) };
        if joined.bytes.is_empty() {
            return Ok(());
        }
        let transmit = Transmit {
            destination,
            ecn: joined.ecn,
            contents: &joined.bytes,
            segment_size: (joined.bytes.len() > joined.segment_size).then_some(joined.segment_size),
            src_ip: joined.src_ip,
        };
        let sent = self.io.try_io(Interest::WRITABLE, || self.state.try_send((&self.io).into(), &transmit));
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.blocked.store(true, Ordering::Relaxed);
                return Err(error);
            }
            Err(error) => {
                self.note(&error);
                // An MTU probe that is too large for the path is told so here; that is its answer.
                tracing::trace!(%error, "packet lost at the socket");
            }
            Ok(()) => {}
        }
        self.blocked.store(false, Ordering::Relaxed);
        joined.bytes.clear();
        Ok(())
    }
}

fn set_buffers(socket: &Socket) {
    // A refusal costs throughput, not function.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    let asked = SOCKET_BUFFER_BYTES * 2;
    if SockRef::from(socket).recv_buffer_size().is_ok_and(|got| got < asked) {
        tracing::debug!("the kernel caps UDP buffers below {asked} bytes: raise net.core.rmem_max and wmem_max");
    }
}

/// Sends what quinn's drivers left joined, one round of the scheduler after they ran.
async fn flusher(carrier: Weak<UdpCarrier>, pending: Arc<Notify>, closing: CancellationToken) {
    loop {
        tokio::select! {
            () = pending.notified() => {}
            () = closing.cancelled() => return,
        }
        tokio::task::yield_now().await;
        let Some(strong) = carrier.upgrade() else { return };
        while strong.flush(&mut strong.lock()).is_err() {
            if strong.io.writable().await.is_err() {
                return;
            }
        }
    }
}

impl AsyncUdpSocket for UdpCarrier {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Poller::boxed(self)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut joined = self.lock();
        let goes_along = joined.bytes.is_empty() || (self.state.max_gso_segments() > 1 && joined.takes(transmit));
        if !goes_along {
            self.flush(&mut joined)?;
        }
        let first = joined.bytes.is_empty();
        joined.push(transmit);
        if joined.is_full() {
            // Refused for now is fine: it is held here, and the flusher waits for the socket.
            let _ = self.flush(&mut joined);
        }
        if first && transmit.segment_size.is_none() {
            // quinn has no more for now, so waiting would only delay it. Refused is fine, as above.
            let _ = self.flush(&mut joined);
        }
        if first && !joined.bytes.is_empty() {
            self.pending.notify_one();
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            let most = bufs.len().min(RECEIVED_AT_ONCE);
            match self.io.try_io(Interest::READABLE, || self.state.recv((&self.io).into(), &mut bufs[..most], meta)) {
                Ok(count) => {
                    self.refusals.store(0, Ordering::Relaxed);
                    if count < most {
                        self.forget_readiness();
                    }
                    return Poll::Ready(Ok(count));
                }
                // Also what a connected socket reports of earlier sends; none of it ends the carrier.
                Err(error) => self.note(&error),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }
}

impl Blocking for UdpCarrier {
    fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    fn writable(self: Arc<Self>) -> Writable {
        Box::pin(async move { self.io.writable().await })
    }
}

impl Drop for UdpCarrier {
    fn drop(&mut self) {
        self.closing.cancel();
        let mut joined = std::mem::take(&mut *self.lock());
        // The last packet is usually the close frame: worth one try, not a wait.
        let _ = self.flush(&mut joined);
    }
}

impl fmt::Debug for UdpCarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpCarrier").field("local", &self.io.local_addr().ok()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
