//! The gateway's side of a link's start: one UDP port and one TCP port with the same number, handshakes bounded in number and time.
//!
//! Before: the network; after: `gateway::server`, which gets connections whose peers have proved a certificate.

#[cfg(test)]
mod tests;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use aws_lc_rs::hmac;
use quinn::{
    AsyncUdpSocket, Connection, Endpoint, Incoming, ServerConfig, TokioRuntime, crypto::rustls::QuicServerConfig,
};
use quinn_proto::HashedConnectionIdGenerator;
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    carrier::{Carrier, tcp::TcpCarrier, udp::UdpCarrier},
    error_code::CloseCode,
    transport::{endpoint_config, govern_send_window, transport_config},
};

/// A handshake takes three round trips; who takes longer than this is not trying.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The session's first packet follows its TCP connection at once; who keeps silent holds a place for no longer than this.
const FIRST_PACKET_TIMEOUT: Duration = Duration::from_secs(3);
/// Handshakes under way at once on each carrier; more are not answered, and a peer tries again. Apart, because whoever can open TCP
/// connections can fill this without a certificate.
const MAX_HANDSHAKES: usize = 256;
/// Bytes that QUIC keeps of one peer, and of all together, until its handshake is taken up, which is at once: some packets, where the
/// default is 10 and 100 MiB for each endpoint, and a TCP carrier is an endpoint.
const EARLY_BYTES: u64 = 64 << 10;
const EARLY_TOTAL_BYTES: u64 = 1 << 20;
/// With more than this under way, a UDP peer first proves its address.
const HANDSHAKES_BEFORE_RETRY: usize = 64;
/// How often a UDP port that is taken is asked for: a gateway that drains takes seconds.
const PORT_PERIOD: Duration = Duration::from_millis(500);
/// Connections waiting to be accepted; when full, finished handshakes wait, and with them their permits.
const ACCEPT_QUEUE_CONNECTIONS: usize = 64;

/// A peer that proved its certificate.
#[derive(Debug)]
pub struct Arrived {
    /// Streams and datagrams.
    pub connection: Connection,
    /// What it runs on.
    pub carrier: Carrier,
}

/// The gateway cannot listen.
#[derive(Debug, Error)]
pub enum ListenError {
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address} ({carrier}): is another gateway running there?")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// For which carrier.
        carrier: Carrier,
        /// The kernel's word.
        source: io::Error,
    },
    /// The TLS configuration does not fit QUIC.
    #[error("the TLS configuration does not fit QUIC")]
    Tls(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
}

/// Both carriers' ports.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    arrivals: mpsc::Receiver<Arrived>,
    stop: CancellationToken,
    /// Of UDP, once its port is had.
    endpoint: Arc<OnceLock<Endpoint>>,
    _over: DropGuard,
}

/// What the accepting tasks share.
#[derive(Clone)]
struct Accepting {
    crypto: Arc<QuicServerConfig>,
    reset_key: Arc<hmac::Key>,
    /// By it the next run knows this run's connection IDs, and answers only to such with a reset.
    id_key: u64,
    arrivals: mpsc::Sender<Arrived>,
    udp_handshakes: Arc<Semaphore>,
    tcp_handshakes: Arc<Semaphore>,
    tasks: TaskTracker,
    /// New peers are refused.
    stop: CancellationToken,
    /// Nobody listens any more.
    over: CancellationToken,
}

impl Listener {
    /// Listens on `address` for UDP and TCP (the same port for both, also when it is 0), with tasks on `tasks`. A UDP port that is taken
    /// although the TCP port is free is a gateway's that drains: it is taken over when that ends. Peers of an earlier
    /// run are told at once that their connection is gone if `reset_secret` is the one of that run.
    ///
    /// # Errors
    /// [`ListenError`] as its variants say.
    pub async fn bind(
        address: SocketAddr,
        tls: Arc<rustls::ServerConfig>,
        reset_secret: &[u8; 64],
        tasks: &TaskTracker,
    ) -> Result<Self, ListenError> {
        let failed = |carrier, address| move |source| ListenError::Bind { address, carrier, source };
        let tcp = TcpListener::bind(address).await.map_err(failed(Carrier::Tcp, address))?;
        let address = tcp.local_addr().map_err(failed(Carrier::Tcp, address))?;
        let (listener, accepting) = Self::start(address, tls, reset_secret, tasks)?;
        match accepting.open_udp(address) {
            Ok(network) => listener.serve(&accepting, network)?,
            Err(source) if source.kind() == io::ErrorKind::AddrInUse => {
                tracing::warn!(%address, "the UDP port is taken, by a gateway that drains or by something else: sessions come over TCP until it is free");
                tasks.spawn(accepting.clone().await_udp(address, Arc::clone(&listener.endpoint)));
            }
            Err(source) => return Err(failed(Carrier::Udp, address)(source)),
        }
        tasks.spawn(accepting.accept_tcp(tcp));
        Ok(listener)
    }

    /// Listens on `network` alone, which carries UDP payloads in a way of its own, as a test's does in memory.
    ///
    /// # Errors
    /// [`ListenError`] as its variants say.
    pub fn over(
        network: Arc<dyn AsyncUdpSocket>,
        tls: Arc<rustls::ServerConfig>,
        reset_secret: &[u8; 64],
        tasks: &TaskTracker,
    ) -> Result<Self, ListenError> {
        let address = network.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
        let (listener, accepting) = Self::start(address, tls, reset_secret, tasks)?;
        listener.serve(&accepting, network)?;
        Ok(listener)
    }

    fn start(
        address: SocketAddr,
        tls: Arc<rustls::ServerConfig>,
        reset_secret: &[u8; 64],
        tasks: &TaskTracker,
    ) -> Result<(Self, Accepting), ListenError> {
        let (sender, arrivals) = mpsc::channel(ACCEPT_QUEUE_CONNECTIONS);
        let (stop, over) = (CancellationToken::new(), CancellationToken::new());
        let reset_key = hmac::Key::new(hmac::HMAC_SHA256, reset_secret);
        let accepting = Accepting {
            crypto: Arc::new(QuicServerConfig::try_from(tls)?),
            id_key: id_key(&reset_key),
            reset_key: Arc::new(reset_key),
            arrivals: sender,
            udp_handshakes: Arc::new(Semaphore::new(MAX_HANDSHAKES)),
            tcp_handshakes: Arc::new(Semaphore::new(MAX_HANDSHAKES)),
            tasks: tasks.clone(),
            stop: stop.clone(),
            over: over.clone(),
        };
        let endpoint = Arc::default();
        Ok((Self { address, arrivals, stop, endpoint, _over: over.drop_guard() }, accepting))
    }

    fn serve(&self, accepting: &Accepting, network: Arc<dyn AsyncUdpSocket>) -> Result<(), ListenError> {
        let failed = |source| ListenError::Bind { address: self.address, carrier: Carrier::Udp, source };
        let endpoint = accepting.endpoint(Carrier::Udp, network).map_err(failed)?;
        let endpoint = self.endpoint.get_or_init(|| endpoint).clone();
        accepting.tasks.spawn(accepting.clone().accept_udp(endpoint));
        Ok(())
    }

    /// Where it listens, with the port it got.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The next peer; `None` after [`Self::stop`]. Safe to cancel.
    pub async fn accept(&mut self) -> Option<Arrived> {
        self.arrivals.recv().await
    }

    /// Takes no new peers, and tells them so at once: they may find another gateway. Those that were accepted stay.
    pub fn stop(&mut self) {
        self.stop.cancel();
        self.arrivals.close();
        while let Ok(arrived) = self.arrivals.try_recv() {
            turn_away(&arrived.connection);
        }
    }

    /// Waits until the closed connections' last packets are out, for a short while.
    pub async fn flush(&self) {
        if let Some(endpoint) = self.endpoint.get() {
            let _ = timeout(Duration::from_millis(500), endpoint.wait_idle()).await;
        }
    }
}

impl Accepting {
    fn endpoint(&self, carrier: Carrier, socket: Arc<dyn AsyncUdpSocket>) -> io::Result<Endpoint> {
        let mut server = ServerConfig::with_crypto(Arc::clone(&self.crypto) as _);
        server
            .transport_config(transport_config(carrier))
            // One connection is all that a TCP carrier is for.
            .max_incoming(if carrier == Carrier::Tcp { 1 } else { MAX_HANDSHAKES })
            .incoming_buffer_size(EARLY_BYTES)
            .incoming_buffer_size_total(EARLY_TOTAL_BYTES);
        let mut config = endpoint_config(carrier);
        let id_key = self.id_key;
        config.reset_key(Arc::clone(&self.reset_key) as _);
        config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id_key)));
        Endpoint::new_with_abstract_socket(config, Some(server), socket, Arc::new(TokioRuntime))
    }

    fn open_udp(&self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(UdpCarrier::new(UdpCarrier::listening(address)?, &self.tasks)?)
    }

    /// Waits until whoever has the UDP port lets it go, and takes peers from then on.
    async fn await_udp(self, address: SocketAddr, place: Arc<OnceLock<Endpoint>>) {
        while !self.stop.is_cancelled() {
            tokio::select! {
                () = sleep(PORT_PERIOD) => {}
                () = self.over.cancelled() => return,
            }
            let opened = self.open_udp(address).and_then(|network| self.endpoint(Carrier::Udp, network));
            if let Ok(endpoint) = opened {
                tracing::info!(%address, "the UDP port is free: sessions come over it too");
                let endpoint = place.get_or_init(|| endpoint).clone();
                return self.accept_udp(endpoint).await;
            }
        }
    }

    async fn accept_udp(self, endpoint: Endpoint) {
        loop {
            let incoming = tokio::select! {
                incoming = endpoint.accept() => incoming,
                () = self.over.cancelled() => None,
            };
            let Some(incoming) = incoming else { return };
            if self.stop.is_cancelled() {
                incoming.refuse();
                continue;
            }
            let under_way = MAX_HANDSHAKES - self.udp_handshakes.available_permits();
            if under_way >= HANDSHAKES_BEFORE_RETRY && incoming.may_retry() {
                let _ = incoming.retry();
                continue;
            }
            match Arc::clone(&self.udp_handshakes).try_acquire_owned() {
                Ok(permit) => {
                    let accepting = self.clone();
                    self.tasks.spawn(async move { accepting.handshake(Carrier::Udp, incoming, permit).await });
                }
                Err(_) => incoming.ignore(),
            }
        }
    }

    async fn accept_tcp(self, listener: TcpListener) {
        let mut is_failing = false;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    is_failing = false;
                    if let Ok(permit) = Arc::clone(&self.tcp_handshakes).try_acquire_owned() {
                        self.tasks.spawn(self.clone().serve_tcp(stream, permit));
                    }
                }
                Err(error) => {
                    // Descriptors have run out: what is open goes on, and closing some of it makes room. Said once.
                    if !is_failing {
                        tracing::warn!(%error, "cannot accept a TCP carrier");
                    }
                    is_failing = true;
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// A TCP carrier has an endpoint of its own, for one connection, which lives as long as that does.
    async fn serve_tcp(self, stream: TcpStream, permit: OwnedSemaphorePermit) {
        let Ok(carrier) = TcpCarrier::new(stream) else { return };
        let Ok(endpoint) = self.endpoint(Carrier::Tcp, Arc::clone(&carrier) as _) else { return };
        let arriving = async {
            let incoming = timeout(FIRST_PACKET_TIMEOUT, endpoint.accept()).await.ok()??;
            self.handshake(Carrier::Tcp, incoming, permit).await
        };
        let connection = tokio::select! {
            connection = arriving => connection,
            () = carrier.ended() => None,
        };
        let Some(connection) = connection else { return };
        carrier.prove();
        tokio::select! {
            () = carrier.ended() => connection.close(CloseCode::Done.wire(), b"the TCP connection ended"),
            _ = connection.closed() => {}
        }
    }

    async fn handshake(
        &self,
        carrier: Carrier,
        incoming: Incoming,
        permit: OwnedSemaphorePermit,
    ) -> Option<Connection> {
        let peer = incoming.remote_address();
        let outcome = timeout(HANDSHAKE_TIMEOUT, incoming).await;
        let connection = match outcome {
            Ok(Ok(connection)) => Some(connection),
            Ok(Err(error)) => {
                tracing::info!(%peer, %carrier, %error, "handshake failed");
                None
            }
            Err(_) => {
                tracing::debug!(%peer, %carrier, "handshake took too long");
                None
            }
        }?;
        self.tasks.spawn(govern_send_window(connection.clone()));
        let sent = self.arrivals.send(Arrived { connection: connection.clone(), carrier }).await;
        drop(permit);
        if sent.is_err() {
            turn_away(&connection);
            return None;
        }
        Some(connection)
    }
}

/// The key of connection IDs, from the key of resets.
fn id_key(reset_key: &hmac::Key) -> u64 {
    let tag = hmac::sign(reset_key, b"connection ids");
    let (first, _) = tag.as_ref().split_first_chunk().expect("SHA-256 has 32 bytes");
    u64::from_be_bytes(*first)
}

/// Closes a connection that came too late.
fn turn_away(connection: &Connection) {
    connection.close(CloseCode::Draining.wire(), b"the gateway ends");
}
