//! [`Accepting`]: the tasks behind a listener: peers taken from both ports, their handshakes bounded in number and time.
//! Before: the network; after: [`super::Listener`], which hands out those that have proved a certificate.

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
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Arrived;
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
pub(super) const MAX_HANDSHAKES: usize = 256;
/// Bytes that QUIC keeps of one peer, and of all together, until its handshake is taken up, which is at once: some packets, where the
/// default is 10 and 100 MiB for each endpoint, and a TCP carrier is an endpoint.
const EARLY_BYTES: u64 = 64 << 10;
const EARLY_TOTAL_BYTES: u64 = 1 << 20;
/// With more than this under way, a UDP peer first proves its address.
const HANDSHAKES_BEFORE_RETRY: usize = 64;
/// How often a UDP port that is taken is asked for: a gateway that drains takes seconds.
const PORT_PERIOD: Duration = Duration::from_millis(500);

/// What the accepting tasks share.
#[derive(Clone)]
pub(super) struct Accepting {
    pub(super) crypto: Arc<QuicServerConfig>,
    pub(super) reset_key: Arc<hmac::Key>,
    /// By it the next run knows this run's connection IDs, and answers only to such with a reset.
    pub(super) id_key: u64,
    pub(super) arrivals: mpsc::Sender<Arrived>,
    pub(super) udp_handshakes: Arc<Semaphore>,
    pub(super) tcp_handshakes: Arc<Semaphore>,
    pub(super) tasks: TaskTracker,
    /// New peers are refused.
    pub(super) stop: CancellationToken,
    /// Nobody listens any more.
    pub(super) over: CancellationToken,
}

impl Accepting {
    pub(super) fn endpoint(&self, carrier: Carrier, socket: Arc<dyn AsyncUdpSocket>) -> io::Result<Endpoint> {
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

    pub(super) fn open_udp(&self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(UdpCarrier::new(UdpCarrier::listening(address)?, &self.tasks)?)
    }

    /// Waits until whoever has the UDP port lets it go, and takes peers from then on.
    pub(super) async fn await_udp(self, address: SocketAddr, place: Arc<OnceLock<Endpoint>>) {
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

    pub(super) async fn accept_udp(self, endpoint: Endpoint) {
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

    pub(super) async fn accept_tcp(self, listener: TcpListener) {
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
pub(super) fn id_key(reset_key: &hmac::Key) -> u64 {
    let tag = hmac::sign(reset_key, b"connection ids");
    let (first, _) = tag.as_ref().split_first_chunk().expect("SHA-256 has 32 bytes");
    u64::from_be_bytes(*first)
}

/// Closes a connection that came too late.
pub(super) fn turn_away(connection: &Connection) {
    connection.close(CloseCode::Draining.wire(), b"the gateway ends");
}
