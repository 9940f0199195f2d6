//! The session's side of a link's start: both carriers tried at once, the better one kept.
//!
//! `udp` wins if it is there within [`UDP_HEAD_START`] of `tcp`: it tolerates loss and a change of address. The loser is closed
//! before it says hello, so the gateway never counts it as a session. Before: `tunnel::gateway_link`; after: quinn.

use std::{future::pending, io, net::SocketAddr, sync::Arc, time::Duration};

use quinn::{
    AsyncUdpSocket, ClientConfig, Connection, ConnectionError, Endpoint, TokioRuntime, crypto::rustls::QuicClientConfig,
};
use thiserror::Error;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

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

/// Why there is no link. The texts say what was tried; the remedy depends on who asks.
#[derive(Debug, Error)]
pub enum DialError {
    /// The port is closed, or nothing is on the way there.
    #[error("{gateway} refuses connections: is the gateway running, and is this its port?")]
    Refused {
        /// Who was dialed.
        gateway: SocketAddr,
    },
    /// Neither carrier was answered.
    #[error("{gateway} does not answer on {tried}: check the address, and firewalls between here and there")]
    NoAnswer {
        /// Who was dialed.
        gateway: SocketAddr,
        /// On which carriers.
        tried: &'static str,
    },
    /// Something answers, but not with QUIC.
    #[error("{gateway} is not an adit gateway: it answers with something else")]
    NotAGateway {
        /// Who was dialed.
        gateway: SocketAddr,
    },
    /// The handshake failed: certificates, most often.
    #[error("the gateway at {gateway} and this identity do not accept each other")]
    Handshake {
        /// Who was dialed.
        gateway: SocketAddr,
        /// QUIC's word, with the TLS alert in it.
        source: ConnectionError,
    },
    /// The TLS configuration does not fit QUIC.
    #[error("the TLS configuration cannot be used: {reason}")]
    Tls {
        /// What is wrong with it.
        reason: String,
    },
    /// This machine cannot send there.
    #[error("{gateway} cannot be reached from this machine")]
    Unreachable {
        /// Who was dialed.
        gateway: SocketAddr,
        /// The kernel's word.
        source: io::Error,
    },
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
            ConnectionError::VersionMismatch
            | ConnectionError::TransportError(_)
            | ConnectionError::ConnectionClosed(_)
            | ConnectionError::ApplicationClosed(_)
            | ConnectionError::Reset
            | ConnectionError::CidsExhausted => DialError::Handshake { gateway, source: error },
        }
    }
}

/// Of two failures the one that tells more about what is wrong.
fn plainer(on_udp: DialError, on_tcp: DialError) -> DialError {
    match (on_udp, on_tcp) {
        (handshake @ DialError::Handshake { .. }, _) | (_, handshake @ DialError::Handshake { .. }) => handshake,
        (foreign @ DialError::NotAGateway { .. }, _) | (_, foreign @ DialError::NotAGateway { .. }) => foreign,
        (DialError::NoAnswer { gateway, .. }, DialError::NoAnswer { .. }) => {
            DialError::NoAnswer { gateway, tried: "udp or tcp" }
        }
        (_, on_tcp) => on_tcp,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::{
        listen::Listener,
        testing::{SERVER_NAME, linked, tls},
    };

    fn dialer(gateway: SocketAddr, tls: Arc<rustls::ClientConfig>, choice: CarrierChoice) -> Dialer {
        Dialer { gateway, tls, server_name: SERVER_NAME, mark: None, choice, tasks: TaskTracker::new() }
    }

    #[tokio::test]
    async fn udp_is_preferred_where_both_work() {
        let (link, arrived, _listener) = linked(CarrierChoice::Auto).await;
        assert_eq!(link.carrier, Carrier::Udp);
        drop(arrived);
    }

    #[tokio::test]
    async fn tcp_is_used_where_udp_is_swallowed() {
        let (client, server) = tls();
        let tasks = TaskTracker::new();
        let mut listener = Listener::bind("127.0.0.1:0".parse().unwrap(), server, &[7; 64], &tasks).await.unwrap();
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = proxy.local_addr().unwrap();
        let _swallows = UdpSocket::bind(address).unwrap();
        let gateway = listener.local_addr();
        tasks.spawn(async move {
            let (mut near, _) = proxy.accept().await.unwrap();
            let mut far = TcpStream::connect(gateway).await.unwrap();
            let _ = copy_bidirectional(&mut near, &mut far).await;
        });
        let dialer = dialer(address, client, CarrierChoice::Auto);
        let (link, arrived) = tokio::join!(dialer.dial(), listener.accept());
        assert_eq!(link.unwrap().carrier, Carrier::Tcp);
        assert_eq!(arrived.unwrap().carrier, Carrier::Tcp);
    }

    #[tokio::test]
    async fn a_closed_port_is_told_at_once() {
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for choice in [CarrierChoice::Auto, CarrierChoice::Udp, CarrierChoice::Tcp] {
            let error = dialer(address, tls().0, choice).dial().await.unwrap_err();
            assert!(matches!(error, DialError::Refused { .. }), "{choice:?}: {error}");
        }
    }

    #[tokio::test]
    async fn a_server_of_something_else_is_told_apart() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let tasks = TaskTracker::new();
        tasks.spawn(async move {
            let (mut stream, _) = server.accept().await.unwrap();
            let _ = stream.read(&mut [0; 64]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        });
        let error = dialer(address, tls().0, CarrierChoice::Auto).dial().await.unwrap_err();
        assert!(matches!(error, DialError::NotAGateway { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn another_authority_is_told() {
        let (_, server) = tls();
        let tasks = TaskTracker::new();
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), server, &[7; 64], &tasks).await.unwrap();
        let error = dialer(listener.local_addr(), tls().0, CarrierChoice::Auto).dial().await.unwrap_err();
        assert!(matches!(error, DialError::Handshake { .. }), "{error}");
    }
}
