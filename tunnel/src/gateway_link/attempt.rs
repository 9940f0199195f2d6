//! [`Attempt`]: one try to get a link that is welcomed: an address of the gateway's name, a carrier, a hello.
//! Before: [`super::GatewayLink`]; after: [`link::dial`]. What failures mean is in [`super::explain`].

use std::{net::SocketAddr, sync::Arc, time::Duration};

use certs::SERVER_NAME;
use link::{
    carrier::CarrierChoice,
    control::{ControlError, ToGateway, ToSession, Welcome, read_message, write_message},
    dial::{Dialer, Link},
    error_code::CloseCode,
    header::StreamHeader,
    printable::printable,
    race::race,
    version::{self, VERSION},
};
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{WORDS_CHARS, control_stream::ControlStream, explain::Explain, watch::Welcomed};
use crate::{
    control::status::SessionStatus,
    session_options::{GatewayAddress, SessionError},
};

/// The gateway answers a hello with what it holds in memory.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(5);

/// How a link is tried for.
pub(super) struct Attempt {
    pub(super) gateway: GatewayAddress,
    pub(super) tls: Arc<rustls::ClientConfig>,
    pub(super) mark: Option<u32>,
    pub(super) choice: CarrierChoice,
    pub(super) tasks: TaskTracker,
    /// Holds the rules of the mirror, which every link is told.
    pub(super) status: Arc<SessionStatus>,
}

impl Attempt {
    /// Whichever of the addresses of the gateway's name welcomes first, on the carriers that were chosen.
    ///
    /// # Errors
    /// [`SessionError`]: the first address's, for it is the one that a person thinks of.
    pub(super) async fn connect(&self) -> Result<Welcomed, SessionError> {
        let addresses = self.addresses().await?;
        let won = race(&addresses, |address| self.connect_to(address)).await;
        won.map_err(|error| error.unwrap_or_else(|| self.explain().unreachable("its name has no address".to_owned())))
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, SessionError> {
        let GatewayAddress { host, port } = &self.gateway;
        let found = tokio::net::lookup_host((host.as_str(), *port)).await;
        found
            .map(Iterator::collect)
            .map_err(|error| self.explain().unreachable(format!("its name does not resolve: {error}")))
    }

    async fn connect_to(&self, gateway: SocketAddr) -> Result<Welcomed, SessionError> {
        let dialer = Dialer {
            gateway,
            tls: Arc::clone(&self.tls),
            server_name: SERVER_NAME,
            mark: self.mark,
            choice: self.choice,
            tasks: self.tasks.clone(),
        };
        let link = Unwelcomed(Some(dialer.dial().await.map_err(|error| self.explain().dial(error))?));
        let connection = link.connection();
        match timeout(WELCOME_TIMEOUT, say_hello(connection)).await {
            Ok(Ok((mut welcome, send, recv))) => {
                for words in [&mut welcome.identity, &mut welcome.program] {
                    *words = printable(words, WORDS_CHARS);
                }
                let both = version::negotiate(VERSION, welcome.version)?;
                let draining = CancellationToken::new();
                let (connection, status) = (connection.clone(), Arc::clone(&self.status));
                let control = ControlStream { connection, status, draining: draining.clone(), version: both };
                self.tasks.spawn(control.hold(send, recv));
                Ok(Welcomed { link: link.welcomed(), welcome: Arc::new(welcome), gateway, draining })
            }
            Ok(Err(error)) => Err(match connection.close_reason() {
                Some(reason) => self.explain().close(&reason),
                None => self.explain().foreign(error.to_string()),
            }),
            Err(_) => {
                Err(self.explain().unreachable("it accepts the identity, but does not answer a hello".to_owned()))
            }
        }
    }

    const fn explain(&self) -> Explain<'_> {
        Explain(&self.gateway)
    }
}

/// A link that is closed unless it is welcomed in the end: the hello may fail, and another address may be faster. To drop a link is not
/// enough, since tasks hold it too.
struct Unwelcomed(Option<Link>);

impl Unwelcomed {
    fn connection(&self) -> &Connection {
        &self.0.as_ref().expect("is there until it is welcomed").connection
    }

    fn welcomed(mut self) -> Link {
        self.0.take().expect("is there until it is welcomed")
    }
}

impl Drop for Unwelcomed {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            link.connection.close(CloseCode::Replaced.wire(), b"another address won, or this one failed");
        }
    }
}

/// Opens the control stream, says hello, and reads the answer.
async fn say_hello(connection: &Connection) -> Result<(Welcome, SendStream, RecvStream), ControlError> {
    let broken = |error: ConnectionError| ControlError::Io(error.into());
    let (mut send, mut recv) = connection.open_bi().await.map_err(broken)?;
    let mut header = Vec::with_capacity(StreamHeader::MAX_BYTES);
    StreamHeader::Control.encode(&mut header);
    send.write_all(&header).await.map_err(|error| ControlError::Io(error.into()))?;
    let hello = ToGateway::Hello { version: VERSION, program: env!("CARGO_PKG_VERSION").to_owned() };
    write_message(&mut send, &hello).await?;
    loop {
        if let ToSession::Welcome(welcome) = read_message(&mut recv).await? {
            return Ok((welcome, send, recv));
        }
    }
}
