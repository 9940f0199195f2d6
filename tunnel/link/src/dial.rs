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
        let unreachable = |source| DialError::Unreachable { gateway: self.gateway, source };
        let socket = UdpCarrier::connected(self.gateway, self.mark).map_err(unreachable)?;
        let carrier = UdpCarrier::new(socket, &self.tasks).map_err(unreachable)?;
        let link = self.handshake(Carrier::Udp, Arc::clone(&carrier) as _, carrier.refused(1)).await?;
        let watched = link.connection.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = carrier.refused(REFUSALS_WHEN_OPEN) => {
                    watched.close(CloseCode::Done.wire(), b"the gateway's port is closed");
                }
                _ = watched.closed() => {}
            }
        });
        Ok(link)
    }

    async fn dial_tcp(&self) -> Result<Link, DialError> {
        let gateway = self.gateway;
        let connecting = timeout(HANDSHAKE_TIMEOUT, TcpCarrier::connect(gateway, self.mark));
        let carrier = match connecting.await {
            Err(_) => return Err(DialError::NoAnswer { gateway, tried: "tcp" }),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Err(DialError::Refused { gateway });
            }
            Ok(Err(source)) => return Err(DialError::Unreachable { gateway, source }),
            Ok(Ok(carrier)) => carrier,
        };
        self.handshake(Carrier::Tcp, carrier, pending()).await
    }

    async fn handshake(
        &self,
        carrier: Carrier,
        socket: Arc<dyn AsyncUdpSocket>,
        refused: impl Future<Output = ()>,
    ) -> Result<Link, DialError> {
        let gateway = self.gateway;
        let failed = |reason: String| DialError::Tls { reason };
        let crypto = QuicClientConfig::try_from(Arc::clone(&self.tls)).map_err(|error| failed(error.to_string()))?;
        let mut client = ClientConfig::new(Arc::new(crypto));
        client.transport_config(transport_config(carrier));
        let endpoint =
            Endpoint::new_with_abstract_socket(endpoint_config(carrier), None, socket, Arc::new(TokioRuntime))
                .map_err(|source| DialError::Unreachable { gateway, source })?;
        let connecting =
            endpoint.connect_with(client, gateway, self.server_name).map_err(|error| failed(error.to_string()))?;
        tokio::select! {
            outcome = connecting => match outcome {
                Ok(connection) => Ok(Link { connection, carrier, endpoint }),
                Err(error) => Err(self.explain(carrier, error)),
            },
            () = refused => Err(DialError::Refused { gateway }),
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
            // quinn's words for a carrier that broke: the other end hung up on bytes it did not understand.
            ConnectionError::LocallyClosed => DialError::NotAGateway { gateway },
            ConnectionError::TransportError(ref inner) if inner.reason.contains("driver future was dropped") => {
                DialError::NotAGateway { gateway }
            }
            ConnectionError::ConnectionClosed(ref close)
                if close.error_code == TransportErrorCode::CONNECTION_REFUSED =>
            {
                DialError::Refused { gateway }
            }
            ConnectionError::VersionMismatch
            | ConnectionError::TransportError(_)
            | ConnectionError::ConnectionClosed(_)
            | ConnectionError::ApplicationClosed(_)
            | ConnectionError::Reset
            | ConnectionError::CidsExhausted => DialError::Handshake { gateway, source: error },
        }
    }
}
