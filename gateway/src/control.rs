//! The control stream: the greeting, and what is said while a session lives.
//!
//! Before: [`crate::session`]; after, for rules: [`crate::mirror`]. The session's side: `tunnel::control`'s half of the link.

use std::time::Duration;

use certs::IdentityName;
use link::{
    control::{ControlError, ToGateway, ToSession, Welcome, read_message, write_message},
    error_code::CloseCode,
    header::StreamHeader,
    printable::printable,
    rules::RuleSet,
    version::{Incompatible, VERSION, Version, negotiate},
};
use quinn::{Connection, RecvStream, SendStream};
use thiserror::Error;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    mirror::{self, Lines},
    policy::Refused,
    streams::read_header,
};

/// The greeting must be over by then; it takes one round trip.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

/// What the holder of a revoked identity is told.
pub(crate) const REVOKED: &str = "the identity was revoked: ask for a new one";

/// Of a session's own version, for the log.
const PROGRAM_CHARS: usize = 64;

/// The control stream of a session that said hello.
pub(crate) struct Control {
    send: SendStream,
    recv: RecvStream,
}

/// A peer gets no session. The text goes to the peer as the close's reason.
#[derive(Debug, Error)]
pub(crate) enum Refusal {
    /// It closed first: the other carrier won its race.
    #[error("the peer left")]
    Left,
    /// The gateway has all the sessions it may have.
    #[error("it has all the sessions that it may have (limits.sessions)")]
    Busy,
    /// Its identity has all the sessions it may have.
    #[error("{name} has {most} sessions already, as many as one identity may have (limits.sessions_per_identity)")]
    IdentityBusy {
        /// The identity.
        name: IdentityName,
        /// The limit.
        most: usize,
    },
    /// Its certificate is no identity of ours.
    #[error("the certificate is no identity of this gateway: ask for one")]
    Forbidden,
    /// The configuration has nothing for this identity.
    #[error("{1}")]
    Policy(IdentityName, Refused),
    /// Its certificate ended.
    #[error("the identity has expired: ask for a new one")]
    Expired,
    /// Its certificate was revoked.
    #[error("{REVOKED}")]
    Revoked,
    /// A major version apart.
    #[error(transparent)]
    Version(#[from] Incompatible),
    /// It does not speak as agreed.
    #[error("{0}")]
    Protocol(&'static str),
}

impl Refusal {
    /// The code that says it on the wire.
    pub(crate) const fn code(&self) -> CloseCode {
        match self {
            Self::Left => CloseCode::Done,
            Self::Busy | Self::IdentityBusy { .. } => CloseCode::Busy,
            Self::Forbidden | Self::Policy(..) | Self::Revoked => CloseCode::Forbidden,
            Self::Expired => CloseCode::Expired,
            Self::Version(_) => CloseCode::Version,
            Self::Protocol(_) => CloseCode::Protocol,
        }
    }
}

/// Waits for the hello and answers it; `welcome` makes the answer, for those who get one.
///
/// # Errors
/// [`Refusal`] for a peer that leaves, is late, says something else, or speaks another major version, and what `welcome` has against it.
pub(crate) async fn greet(
    connection: &Connection,
    welcome: impl FnOnce() -> Result<Welcome, Refusal>,
) -> Result<Control, Refusal> {
    timeout(GREETING_TIMEOUT, exchange(connection, welcome))
        .await
        .unwrap_or(Err(Refusal::Protocol("no hello came in time: the first stream is the control stream")))
}

async fn exchange(
    connection: &Connection,
    welcome: impl FnOnce() -> Result<Welcome, Refusal>,
) -> Result<Control, Refusal> {
    let (mut send, mut recv) = connection.accept_bi().await.map_err(|_| Refusal::Left)?;
    if !matches!(read_header(&mut recv).await, Ok(StreamHeader::Control)) {
        return Err(left_or(connection, "the first stream is not the control stream"));
    }
    let version = match read_message(&mut recv).await {
        Ok(ToGateway::Hello { version, program }) => {
            tracing::debug!(%version, program = printable(&program, PROGRAM_CHARS), "hello");
            version
        }
        Ok(ToGateway::Ping { .. } | ToGateway::Rules(_) | ToGateway::Unknown) => {
            return Err(Refusal::Protocol("the first message is not a hello"));
        }
        Err(_) => return Err(left_or(connection, "the first message is not a hello")),
    };
    let _: Version = negotiate(version, VERSION)?;
    let written = write_message(&mut send, &ToSession::Welcome(welcome()?)).await;
    written.map_err(|_| left_or(connection, "the control stream does not take the welcome"))?;
    Ok(Control { send, recv })
}

/// A stream that broke because its connection is gone is nobody's mistake.
fn left_or(connection: &Connection, problem: &'static str) -> Refusal {
    if connection.close_reason().is_some() { Refusal::Left } else { Refusal::Protocol(problem) }
}

/// How a session ends: the code and the reason of its close.
type Ending = (CloseCode, &'static str);

const LEFT: Ending = (CloseCode::Done, "the control stream ended");

/// Answers what the session says, and tells it once when the gateway drains, and what becomes of its rules. How the session ends: it
/// finished the stream or is gone ([`CloseCode::Done`]), or it broke the protocol.
pub(crate) async fn serve(control: Control, mut mirror: Lines, draining: CancellationToken) -> Ending {
    let Control { mut send, mut recv } = control;
    let mut is_told = false;
    loop {
        // Reading is not safe to cancel, so the same read goes on while other things are said.
        let message = async {
            let message = read_message(&mut recv).await;
            answer_to(message, &mirror.sets).await
        };
        tokio::pin!(message);
        let answer = loop {
            let said = tokio::select! {
                answer = &mut message => break answer,
                () = draining.cancelled(), if !is_told => {
                    is_told = true;
                    ToSession::Draining { reason: "the gateway was told to end".to_owned() }
                }
                Some(said) = mirror.says.recv() => said,
            };
            // A session that does not read what it is told stops being read itself.
            if write_message(&mut send, &said).await.is_err() {
                return LEFT;
            }
        };
        match answer {
            Ok(Some(answer)) if write_message(&mut send, &answer).await.is_err() => return LEFT,
            Ok(_) => {}
            Err(ending) => return ending,
        }
    }
}

/// What is answered at once, if anything. Rules are handed on, and answered when they are in force: while too many wait, nothing
/// more is read.
async fn answer_to(
    message: Result<ToGateway, ControlError>,
    sets: &mpsc::Sender<RuleSet>,
) -> Result<Option<ToSession>, Ending> {
    match message {
        Ok(ToGateway::Ping { token }) => Ok(Some(ToSession::Pong { token })),
        Ok(ToGateway::Rules(set)) => match mirror::broken(&set) {
            Some(problem) => Err((CloseCode::Protocol, problem)),
            None => {
                // Nobody takes them once the session is over.
                let _ = sets.send(set).await;
                Ok(None)
            }
        },
        Ok(ToGateway::Unknown) => Ok(None),
        Ok(ToGateway::Hello { .. }) => Err((CloseCode::Protocol, "a second hello")),
        Err(ControlError::Io(_)) => Err(LEFT),
        Err(ControlError::TooLarge(_) | ControlError::Malformed(_)) => {
            Err((CloseCode::Protocol, "a control message cannot be read"))
        }
    }
}
