//! The `tcp` carrier: QUIC packets on one TCP connection, each behind a big-endian `u16` length.
//!
//! With packets of 65,000 bytes QUIC's own cost vanishes, so this is also the fastest carrier on a LAN. TCP is reliable, so QUIC
//! never sees loss; what waits is bounded by `TCP_NOTSENT_LOWAT`, so that QUIC's scheduler, not the kernel, decides what goes next.

mod received;

use std::{
    fmt, io,
    io::{IoSlice, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use self::received::{LENGTH_BYTES, Received};
use super::{Blocking, Poller, Writable};

/// Largest QUIC packet on this carrier; MTU discovery climbs to it.
pub const MAX_PACKET_BYTES: u16 = 65_000;
/// Bytes read from the kernel at once: eight of the largest packets.
const READ_BUFFER_BYTES: usize = 512 << 10;
/// What a peer without a certificate can make this side hold: the largest frame, for the session may send one behind its certificate.
const UNPROVEN_BUFFER_BYTES: usize = LENGTH_BYTES + u16::MAX as usize;
/// What may wait unsent in the kernel: two of the largest packets, so that a small one is never behind more.
const NOTSENT_LOWAT_BYTES: u32 = 128 << 10;
/// After the end of the connection, QUIC has handled the packets before it by then: a close among them says more than the end.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// One TCP connection under QUIC.
pub struct TcpCarrier {
    io: TcpStream,
    local: SocketAddr,
    peer: SocketAddr,
    sending: Mutex<Vec<u8>>,
    blocked: AtomicBool,
    receiving: Mutex<Received>,
    /// Whether the other end has shown its certificate.
    proven: AtomicBool,
    /// Whether the other end has sent a byte.
    heard: AtomicBool,
    ended: CancellationToken,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in the critical sections can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TcpCarrier {
    /// Connects to a gateway's TCP port; marked so that it stays out of the tunnel.
    ///
    /// # Errors
    /// What `connect()` answers.
    pub async fn connect(gateway: SocketAddr, mark: Option<u32>) -> io::Result<Arc<Self>> {
        let socket = Socket::new(Domain::for_address(gateway), Type::STREAM, Some(Protocol::TCP))?;
        if let Some(mark) = mark {
            socket.set_mark(mark)?;
        }
        socket.set_nonblocking(true)?;
        let socket = TcpSocket::from_std_stream(socket.into());
        Self::new(socket.connect(gateway).await?)
    }

    /// Wraps an open connection.
    ///
    /// # Errors
    /// The connection is gone already.
    pub fn new(io: TcpStream) -> io::Result<Arc<Self>> {
        io.set_nodelay(true)?;
        SockRef::from(&io).set_tcp_notsent_lowat(NOTSENT_LOWAT_BYTES)?;
        let (local, peer) = (io.local_addr()?, io.peer_addr()?);
        Ok(Arc::new(Self {
            io,
            local,
            peer,
            sending: Mutex::default(),
            blocked: AtomicBool::new(false),
            receiving: Mutex::default(),
            proven: AtomicBool::new(false),
            heard: AtomicBool::new(false),
            ended: CancellationToken::new(),
        }))
    }

    /// The other end of the TCP connection.
    pub const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The handshake is over, so from here on reads may be as large as they are fast.
    pub fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// Whether the other end has sent anything at all.
    pub fn has_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// Resolves when the connection is over and what came before the end has been handled. QUIC is not told: to it, a carrier that breaks is
    /// a network that loses all packets, and whoever waits here closes what runs on it.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
        sleep(LAST_WORDS).await;
    }

    /// Writes what an earlier send left over.
    fn drain(&self) -> io::Result<()> {
        let mut sending = locked(&self.sending);
        let mut written = 0;
        let outcome = loop {
            if written == sending.len() {
                break Ok(());
            }
            match self.io.try_write(&sending[written..]) {
                Ok(count) => written += count,
                Err(error) => break Err(error),
            }
        };
        sending.drain(..written);
        self.blocked.store(!sending.is_empty(), Ordering::Relaxed);
        outcome
    }
}

impl AsyncUdpSocket for TcpCarrier {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Poller::boxed(self)
    }

    /// Takes the packet in any case: a `WouldBlock` while the poller says ready would make quinn spin without end. What the kernel
    /// does not take waits here, one packet at most, and the poller holds quinn back until it is gone.
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut sending = locked(&self.sending);
        let length = u16::try_from(transmit.contents.len()).map_err(|_| io::ErrorKind::InvalidInput)?.to_be_bytes();
        if !sending.is_empty() {
            // Only quinn's endpoint answers without asking the poller: stateless packets, which the network may lose.
            return Ok(());
        }
        let slices = [IoSlice::new(&length), IoSlice::new(transmit.contents)];
        let written = match self.io.try_write_vectored(&slices) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            // The reading side ends the carrier; a send has nobody to tell.
            Err(_) => return Ok(()),
        };
        if written < LENGTH_BYTES {
            sending.extend_from_slice(&length[written..]);
        }
        sending.extend_from_slice(&transmit.contents[written.saturating_sub(LENGTH_BYTES)..]);
        self.blocked.store(!sending.is_empty(), Ordering::Relaxed);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut received = locked(&self.receiving);
        loop {
            let mut count = 0;
            while count < bufs.len().min(meta.len()) {
                let Some(packet) = received.packet() else { break };
                let len = packet.len().min(bufs[count].len());
                bufs[count][..len].copy_from_slice(&packet[..len]);
                meta[count] = RecvMeta { addr: self.peer, len, stride: len.max(1), ecn: None, dst_ip: None };
                count += 1;
            }
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
            if self.ended.is_cancelled() || ready!(self.io.poll_read_ready(cx)).is_err() {
                self.ended.cancel();
                return Poll::Pending;
            }
            let most = if self.proven.load(Ordering::Relaxed) { READ_BUFFER_BYTES } else { UNPROVEN_BUFFER_BYTES };
            match self.io.try_read(received.room(most)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(read) if read > 0 => {
                    received.filled(read);
                    self.heard.store(true, Ordering::Relaxed);
                }
                Ok(_) | Err(_) => {
                    self.ended.cancel();
                    return Poll::Pending;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

impl Blocking for TcpCarrier {
    fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    fn writable(self: Arc<Self>) -> Writable {
        Box::pin(async move {
            loop {
                self.io.writable().await?;
                match self.drain() {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // A broken connection is the reading side's to report.
                    Ok(()) | Err(_) => return Ok(()),
                }
            }
        })
    }
}

impl fmt::Debug for TcpCarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpCarrier").field("local", &self.local).field("peer", &self.peer).finish_non_exhaustive()
    }
}
