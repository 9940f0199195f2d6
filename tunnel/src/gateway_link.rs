//! The link to the gateway as the session sees it: there, or being made again.
//!
//! 1. [`GatewayLink::connect`] makes the first link, so that a wrong address or identity is told at once.
//! 2. [`GatewayLink::keep`] waits for its end and makes the next, with a backoff, until the session ends.
//! 3. [`LinkWatch`] is what the data plane holds: the link of the moment, or a short wait for one.
//!
//! Flows belong to a link: when it ends they are reset, and new ones go on the next. Before: [`crate::session`]; after: [`link::dial`].

mod flapping;

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use certs::{Identity, SERVER_NAME, Side};
use link::{
    carrier::CarrierChoice,
    control::{ControlError, ToGateway, ToSession, Welcome, read_message, write_message},
    dial::{DialError, Dialer, Link},
    error_code::CloseCode,
    header::StreamHeader,
    printable::printable,
    version::{self, VERSION},
};
use quinn::{ConnectionError, RecvStream, SendStream, TransportErrorCode};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::flapping::Flapping;
use crate::{
    control::status::{SessionStatus, State},
    session_options::{GatewayAddress, SessionError},
};

/// The gateway answers a hello with what it holds in memory.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(5);
/// The first pause before another try; it doubles up to the next constant.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// A gateway that comes back is found within a second.
const BACKOFF_MOST: Duration = Duration::from_millis(800);
/// After this long without a link, somebody sleeps or travels: tries cost battery.
const OUTAGE_LONG: Duration = Duration::from_secs(120);
/// The pause in a long outage, or after a refusal that only a person can mend.
const BACKOFF_LONG: Duration = Duration::from_secs(5);
/// A new flow waits this long for a link that is being made: longer than the restart of a gateway's process.
const PATIENCE: Duration = Duration::from_secs(3);

/// Characters of a gateway's words that a person is shown.
const WORDS_CHARS: usize = 256;

/// A link that has said hello and was welcomed.
#[derive(Debug, Clone)]
pub struct Welcomed {
    /// The link.
    pub link: Link,
    /// The gateway's answer.
    pub welcome: Arc<Welcome>,
    /// The gateway's address.
    pub gateway: SocketAddr,
}

/// What a flow holds: the link of the moment, if there is one.
#[derive(Debug, Clone)]
pub struct LinkWatch(watch::Receiver<Option<Welcomed>>);

impl LinkWatch {
    /// The link if it is there, without waiting.
    pub fn current(&self) -> Option<Welcomed> {
        self.0.borrow().clone()
    }

    /// The link, or a short wait for one that is being made; `None` when there is none in that time.
    pub async fn patient(&self) -> Option<Welcomed> {
        let mut watch = self.0.clone();
        let there = watch.wait_for(Option::is_some);
        timeout(PATIENCE, there).await.ok()?.ok()?.clone()
    }

    /// A watch without a link, and without anybody who makes one.
    #[cfg(test)]
    pub(crate) fn without_link() -> Self {
        Self(watch::channel(None).1)
    }

    /// Resolves when the link changes; `Err` when the session ends.
    ///
    /// # Errors
    /// The keeper is gone.
    pub async fn changed(&mut self) -> Result<Option<Welcomed>, watch::error::RecvError> {
        self.0.changed().await?;
        Ok(self.0.borrow_and_update().clone())
    }
}

/// Makes links to one gateway, one at a time.
pub struct GatewayLink {
    gateway: GatewayAddress,
    tls: Arc<rustls::ClientConfig>,
    mark: Option<u32>,
    choice: CarrierChoice,
    tasks: TaskTracker,
    status: Arc<SessionStatus>,
    current: watch::Sender<Option<Welcomed>>,
}

impl GatewayLink {
    /// A link to be: nothing is sent yet.
    ///
    /// # Errors
    /// [`SessionError::Identity`] when the identity does not make a TLS configuration.
    pub fn new(
        gateway: GatewayAddress,
        identity: &Identity,
        mark: Option<u32>,
        choice: CarrierChoice,
        tasks: TaskTracker,
        status: Arc<SessionStatus>,
    ) -> Result<Self, certs::TlsError> {
        let tls = Arc::new(certs::client_config(identity, &[version::ALPN])?);
        let ends = identity.not_after().duration_since(UNIX_EPOCH).ok();
        status.update(|summary| summary.link.identity_ends_unix = ends.map(|ends| ends.as_secs()));
        Ok(Self { gateway, tls, mark, choice, tasks, status, current: watch::Sender::new(None) })
    }

    /// What flows watch.
    pub fn watch(&self) -> LinkWatch {
        LinkWatch(self.current.subscribe())
    }

    /// One attempt: each address of the gateway's name in turn, on the carriers that were chosen.
    ///
    /// # Errors
    /// [`SessionError`]: the first address's, for it is the one that a person thinks of.
    pub async fn connect(&self) -> Result<Welcomed, SessionError> {
        let mut first = None;
        for address in self.addresses().await? {
            match self.connect_to(address).await {
                Ok(welcomed) => {
                    self.publish(&welcomed);
                    return Ok(welcomed);
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| self.unreachable("its name has no address".to_owned())))
    }

    /// Keeps a link up until `stop`: waits for the end of this one, and makes another.
    pub async fn keep(self, mut welcomed: Welcomed, stop: CancellationToken) {
        let mut flapping = Flapping::default();
        loop {
            let up_since = Instant::now();
            let reason = tokio::select! {
                reason = welcomed.link.connection.closed() => reason,
                () = stop.cancelled() => {
                    welcomed.link.close(CloseCode::Done, "the session ends").await;
                    return;
                }
            };
            tracing::info!(%reason, "the link ended");
            self.current.send_replace(None);
            self.status.enter(State::Reconnecting, Some(printable(&reason.to_string(), WORDS_CHARS)));
            let pause = flapping.pause_after(up_since.elapsed());
            let next = tokio::select! {
                next = async { sleep(pause).await; self.reconnect().await } => next,
                () = stop.cancelled() => return,
            };
            self.status.update(|summary| summary.link.reconnects += 1);
            welcomed = next;
        }
    }

    async fn reconnect(&self) -> Welcomed {
        let began = Instant::now();
        let mut pause = BACKOFF_FIRST;
        loop {
            let error = match self.connect().await {
                Ok(welcomed) => return welcomed,
                Err(error) => error,
            };
            tracing::debug!(%error, "no link yet");
            let hopeless = !matches!(error, SessionError::Unreachable { .. });
            self.status.enter(State::Reconnecting, Some(error.to_string()));
            let long = hopeless || began.elapsed() > OUTAGE_LONG;
            sleep(if long { BACKOFF_LONG } else { pause }).await;
            pause = (pause * 2).min(BACKOFF_MOST);
        }
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, SessionError> {
        let GatewayAddress { host, port } = &self.gateway;
        let found = tokio::net::lookup_host((host.as_str(), *port)).await;
        found.map(Iterator::collect).map_err(|error| self.unreachable(format!("its name does not resolve: {error}")))
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
        let link = dialer.dial().await.map_err(|error| self.explain_dial(error))?;
        match timeout(WELCOME_TIMEOUT, say_hello(&link)).await {
            Ok(Ok((mut welcome, send, recv))) => {
                for words in [&mut welcome.identity, &mut welcome.program] {
                    *words = printable(words, WORDS_CHARS);
                }
                version::negotiate(VERSION, welcome.version)?;
                self.tasks.spawn(hold_control(link.connection.clone(), send, recv));
                Ok(Welcomed { link, welcome: Arc::new(welcome), gateway })
            }
            Ok(Err(error)) => Err(match link.connection.close_reason() {
                Some(reason) => self.explain_close(&reason),
                None => self.foreign(error.to_string()),
            }),
            Err(_) => Err(self.unreachable("it accepts the identity, but does not answer a hello".to_owned())),
        }
    }

    fn publish(&self, welcomed: &Welcomed) {
        let Welcomed { link, welcome, gateway } = welcomed;
        self.status.update(|summary| {
            summary.link.gateway = self.gateway.to_string();
            summary.link.address = Some(*gateway);
            summary.link.carrier = Some(link.carrier.to_string());
            summary.link.rtt_micros = u64::try_from(link.connection.rtt().as_micros()).ok();
            summary.link.identity.clone_from(&welcome.identity);
            summary.link.session = Some(welcome.session);
            summary.link.gateway_version = Some(welcome.program.clone());
            summary.link.protocol = version::negotiate(VERSION, welcome.version).ok().map(|both| both.to_string());
        });
        tracing::info!(session = welcome.session, carrier = %link.carrier, "link up");
        self.current.send_replace(Some(welcomed.clone()));
        self.status.enter(State::Connected, None);
    }

    fn unreachable(&self, reason: String) -> SessionError {
        SessionError::Unreachable { gateway: self.gateway.clone(), reason: printable(&reason, WORDS_CHARS) }
    }

    fn foreign(&self, reason: String) -> SessionError {
        SessionError::Foreign { gateway: self.gateway.clone(), reason: printable(&reason, WORDS_CHARS) }
    }

    fn explain_dial(&self, error: DialError) -> SessionError {
        match error {
            DialError::Refused { .. } | DialError::NoAnswer { .. } => self.unreachable(error.to_string()),
            DialError::Unreachable { ref source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                SessionError::Privilege { action: "mark the link's own packets" }
            }
            DialError::Unreachable { ref source, .. } => self.unreachable(format!("{error}: {source}")),
            DialError::NotAGateway { .. } => self.foreign(error.to_string()),
            DialError::Handshake { source, .. } => self.explain_close(&source),
            DialError::Tls { .. } => self.foreign(error.to_string()),
        }
    }

    /// What the end of a connection that was never welcomed means.
    fn explain_close(&self, reason: &ConnectionError) -> SessionError {
        match reason {
            ConnectionError::ApplicationClosed(close) => {
                let words = printable(&String::from_utf8_lossy(&close.reason), WORDS_CHARS);
                match CloseCode::from_wire(close.error_code) {
                    Some(CloseCode::Version) => SessionError::Version { gateway: self.gateway.clone(), reason: words },
                    Some(CloseCode::Forbidden | CloseCode::Expired) => {
                        SessionError::Refused { gateway: self.gateway.clone(), reason: words }
                    }
                    Some(code) if code.is_worth_a_retry() => self.unreachable(words),
                    Some(_) | None => self.foreign(words),
                }
            }
            ConnectionError::ConnectionClosed(close) => self.explain_alert(close.error_code, Side::Gateway, reason),
            ConnectionError::TransportError(error) => self.explain_alert(error.code, Side::Session, reason),
            ConnectionError::TimedOut | ConnectionError::Reset | ConnectionError::LocallyClosed => {
                self.unreachable(reason.to_string())
            }
            ConnectionError::VersionMismatch | ConnectionError::CidsExhausted => self.foreign(reason.to_string()),
        }
    }

    /// A TLS alert in a person's words: QUIC carries it as `0x100 + alert` (RFC 9001, 4.8).
    fn explain_alert(&self, code: TransportErrorCode, by: Side, reason: &ConnectionError) -> SessionError {
        let alert = u64::from(code).checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok());
        let gateway = self.gateway.clone();
        match (alert.and_then(|alert| certs::explain_alert(alert, by)), by) {
            (Some(words), Side::Gateway) => SessionError::Refused { gateway, reason: words.to_owned() },
            (Some(words), Side::Session) => SessionError::Foreign { gateway, reason: words.to_owned() },
            (None, _) => self.foreign(reason.to_string()),
        }
    }
}

/// Opens the control stream, says hello, and reads the answer.
async fn say_hello(link: &Link) -> Result<(Welcome, SendStream, RecvStream), ControlError> {
    let broken = |error: ConnectionError| ControlError::Io(error.into());
    let (mut send, mut recv) = link.connection.open_bi().await.map_err(broken)?;
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

/// Reads the control stream while the link lives; its end, or nonsense on it, ends the link.
async fn hold_control(connection: quinn::Connection, send: SendStream, mut recv: RecvStream) {
    let _kept_open = send;
    loop {
        match read_message::<ToSession>(&mut recv).await {
            Ok(ToSession::Draining { reason }) => {
                tracing::info!(reason, "the gateway drains: the link ends when it does");
            }
            Ok(
                ToSession::Welcome(_)
                | ToSession::Pong { .. }
                | ToSession::RulesApplied { .. }
                | ToSession::Mirror(_)
                | ToSession::Unknown,
            ) => {}
            Err(error) => {
                connection.close(CloseCode::Protocol.wire(), error.to_string().as_bytes());
                return;
            }
        }
    }
}
