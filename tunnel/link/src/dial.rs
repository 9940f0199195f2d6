//! The session's side of a link's start: both carriers tried at once, the better one kept.
//!
//! `udp` wins if it is there within [`UDP_HEAD_START`] of `tcp`: it tolerates loss and a change of address. The loser is closed
//! before it says hello, so the gateway never counts it as a session. Before: `tunnel::gateway_link`; after: quinn.

mod error;
#[cfg(test)]
mod tests;

use std::{future::pending, io, net::SocketAddr, sync::Arc, time::Duration};

use quinn::{
    AsyncUdpSocket, ClientConfig, Connection, ConnectionError, Endpoint, TokioRuntime, TransportErrorCode,
    crypto::rustls::QuicClientConfig,
};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

pub use self::error::DialError;
use self::error::plainer;
use crate::{
    carrier::{Carrier, CarrierChoice, tcp::TcpCarrier, udp::UdpCarrier},
    error_code::CloseCode,
    transport::{endpoint_config, govern_send_window, transport_config},
};

/// How much later than `tcp` a handshake on `udp` may end and still be preferred.
const UDP_HEAD_START: Duration = Duration::from_millis(300);
/// A handshake takes three round trips at most; a gateway that has not answered by then will not.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Refused packets in a row, with none from the gateway between, that mean its port is closed: a lone one may be a stray.
const REFUSALS_WHEN_OPEN: u32 = 3;

/// A connected link: the QUIC connection and what it runs on.
#[derive(Debug, Clone)]
pub struct Link {
    /// Streams and datagrams.
    pub connection: Connection,
    /// What it runs on.
    pub carrier: Carrier,
    endpoint: Endpoint,
}

impl Link {
    /// Closes the connection and waits until the gateway was told, for a short while.
    pub async fn close(&self, code: CloseCode, reason: &str) {
        self.connection.close(code.wire(), reason.as_bytes());
        let _ = timeout(Duration::from_millis(500), self.endpoint.wait_idle()).await;
    }
}

/// How to reach one gateway address.
#[derive(Debug, Clone)]
pub struct Dialer {
    /// The gateway.
    pub gateway: SocketAddr,
    /// The identity and the authority, TLS 1.3.
    pub tls: Arc<rustls::ClientConfig>,
    /// The name in the gateway's certificate.
    pub server_name: &'static str,
    /// `SO_MARK` of the link's own packets.
    pub mark: Option<u32>,
    /// Which carriers to try.
    pub choice: CarrierChoice,
    /// Owns the tasks of the links.
    pub tasks: TaskTracker,
}

impl Dialer {
    /// Connects, on whichever carrier is best.
    ///
    /// # Errors
    /// [`DialError`]; of two failures the one that says more.
    pub async fn dial(&self) -> Result<Link, DialError> {
        let link = match self.choice {
            CarrierChoice::Udp => self.dial_udp().await?,
            CarrierChoice::Tcp => self.dial_tcp().await?,
            CarrierChoice::Auto => self.race().await?,
        };
        self.tasks.spawn(govern_send_window(link.connection.clone()));
        Ok(link)
    }

    /// Connects over `network` alone, which carries UDP payloads in a way of its own, as a test's does in memory.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn dial_over(&self, network: Arc<dyn AsyncUdpSocket>) -> Result<Link, DialError> {
        let link = self.handshake(Carrier::Udp, network, pending()).await?;
        self.tasks.spawn(govern_send_window(link.connection.clone()));
        Ok(link)
    }

    async fn race(&self) -> Result<Link, DialError> {
        let (udp, tcp) = (self.dial_udp(), self.dial_tcp());
        tokio::pin!(udp, tcp);
        tokio::select! {
            first = &mut udp => match first {
                Ok(link) => Ok(link),
                Err(on_udp) => tcp.await.map_err(|on_tcp| plainer(on_udp, on_tcp)),
            },
            first = &mut tcp => match first {
                Err(on_tcp) => udp.await.map_err(|on_udp| plainer(on_udp, on_tcp)),
                Ok(link) => match timeout(UDP_HEAD_START, udp).await {
                    Ok(Ok(better)) => {
                        link.connection.close(CloseCode::Replaced.wire(), b"the other carrier won");
                        Ok(better)
                    }
                    Ok(Err(_)) | Err(_) => Ok(link),
                },
            },
        }
    }

    async fn dial_udp(&self) -> Result<Link, DialError> {
        let gateway = self.gateway;
        let unreachable = |source| DialError::Unreachable { gateway, source };
        let socket = UdpCarrier::connected(gateway, self.mark).map_err(unreachable)?;
        let carrier = UdpCarrier::new(socket, &self.tasks).map_err(unreachable)?;
        let refused = async {
            carrier.refused(1).await;
            DialError::Refused { gateway }
        };
        let link = self.handshake(Carrier::Udp, Arc::clone(&carrier) as _, refused).await?;
        let closed = async move { carrier.refused(REFUSALS_WHEN_OPEN).await };
        self.tasks.spawn(close_after(closed, link.connection.clone(), "the gateway's port is closed"));
        Ok(link)
    }

    async fn dial_tcp(&self) -> Result<Link, DialError> {
        let gateway = self.gateway;
        let connecting = timeout(HANDSHAKE_TIMEOUT, TcpCarrier::connect(gateway, self.mark));
        let carrier = match connecting.await {
            Err(_) => return Err(DialError::NoAnswer { gateway, tried: "tcp" }),
            Ok(Err(error)) => return Err(explain_connect(gateway, error)),
            Ok(Ok(carrier)) => carrier,
        };
        let hung_up = async {
            carrier.ended().await;
            if carrier.has_heard() { DialError::NotAGateway { gateway } } else { DialError::HungUp { gateway } }
        };
        let link = self.handshake(Carrier::Tcp, Arc::clone(&carrier) as _, hung_up).await?;
        carrier.prove();
        let ended = async move { carrier.ended().await };
        self.tasks.spawn(close_after(ended, link.connection.clone(), "the TCP connection ended"));
        Ok(link)
    }

    /// Waits for the handshake, or until `failed` says why there will be none.
    async fn handshake(
        &self,
        carrier: Carrier,
        socket: Arc<dyn AsyncUdpSocket>,
        failed: impl Future<Output = DialError>,
    ) -> Result<Link, DialError> {
        let gateway = self.gateway;
        let unfit = |reason: String| DialError::Tls { reason };
        let crypto = QuicClientConfig::try_from(Arc::clone(&self.tls)).map_err(|error| unfit(error.to_string()))?;
        let mut client = ClientConfig::new(Arc::new(crypto));
        client.transport_config(transport_config(carrier));
        let endpoint =
            Endpoint::new_with_abstract_socket(endpoint_config(carrier), None, socket, Arc::new(TokioRuntime))
                .map_err(|source| DialError::Unreachable { gateway, source })?;
        let connecting =
            endpoint.connect_with(client, gateway, self.server_name).map_err(|error| unfit(error.to_string()))?;
        tokio::select! {
            outcome = connecting => match outcome {
                Ok(connection) => Ok(Link { connection, carrier, endpoint }),
                Err(error) => Err(self.explain(carrier, error)),
            },
            error = failed => Err(error),
            () = sleep(HANDSHAKE_TIMEOUT) => Err(self.no_answer(carrier)),
        }
    }

    const fn no_answer(&self, carrier: Carrier) -> DialError {
        let tried = match carrier {
            Carrier::Udp => "udp",
            Carrier::Tcp => "tcp",
        };
        DialError::NoAnswer { gateway: self.gateway, tried }
    }

    fn explain(&self, carrier: Carrier, error: ConnectionError) -> DialError {
        let gateway = self.gateway;
        match error {
            ConnectionError::TimedOut => self.no_answer(carrier),
            ConnectionError::ConnectionClosed(ref close)
                if close.error_code == TransportErrorCode::CONNECTION_REFUSED =>
            {
                DialError::Refused { gateway }
            }
            ConnectionError::VersionMismatch
            | ConnectionError::TransportError(_)
            | ConnectionError::ConnectionClosed(_)
            | ConnectionError::ApplicationClosed(_)
            | ConnectionError::LocallyClosed
            | ConnectionError::Reset
            | ConnectionError::CidsExhausted => DialError::Handshake { gateway, source: error },
        }
    }
}

/// What the kernel says of a TCP connection that did not come about.
fn explain_connect(gateway: SocketAddr, error: io::Error) -> DialError {
    // Reset at once: its listener was closed with the connection in the queue.
    let is_refused = matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset);
    if is_refused { DialError::Refused { gateway } } else { DialError::Unreachable { gateway, source: error } }
}

/// Closes a connection whose carrier is over; ends with the connection.
async fn close_after(over: impl Future<Output = ()>, connection: Connection, reason: &'static str) {
    tokio::select! {
        () = over => connection.close(CloseCode::Done.wire(), reason.as_bytes()),
        _ = connection.closed() => {}
    }
}
