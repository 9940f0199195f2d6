//! The gateway's side of a link's start: one UDP port and one TCP port with the same number, handshakes bounded in number and time.
//!
//! Before: the network; after: `gateway::server`, which gets connections whose peers have proved a certificate.

mod accepting;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use aws_lc_rs::hmac;
use quinn::{AsyncUdpSocket, Connection, Endpoint, crypto::rustls::QuicServerConfig};
use thiserror::Error;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use self::accepting::{Accepting, MAX_HANDSHAKES, id_key, turn_away};
use crate::carrier::Carrier;

/// Ports that are tried when any will do, until one is free for UDP as well: a program with many sockets has every fortieth.
const ANY_PORTS: usize = 32;
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

impl Listener {
    /// Listens on `address` for UDP and TCP, with tasks on `tasks`. Port 0 is one that is free for both. A UDP port that was asked for and
    /// is taken although the TCP port is free is a gateway's that drains: it is taken over when that ends. Peers of an earlier run are
    /// told at once that their connection is gone if `reset_secret` is the one of that run.
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
        let asked = address;
        let (mut listener, accepting) = Self::start(asked, tls, reset_secret, tasks)?;
        let mut tries = if asked.port() == 0 { ANY_PORTS } else { 1 };
        let (tcp, udp) = loop {
            let tcp = TcpListener::bind(asked).await.map_err(failed(Carrier::Tcp, asked))?;
            listener.address = tcp.local_addr().map_err(failed(Carrier::Tcp, asked))?;
            let udp = accepting.open_udp(listener.address);
            tries -= 1;
            let is_taken = udp.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
            if !is_taken || tries == 0 {
                break (tcp, udp);
            }
        };
        let address = listener.address;
        match udp {
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
