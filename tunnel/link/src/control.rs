//! The messages of the control stream: rare, so they are JSON, and a peer a minor version later may add fields and kinds.
//!
//! Each is a big-endian `u32` length and that many bytes, at most [`MAX_MESSAGE_BYTES`]. The session opens the stream and says
//! [`ToGateway::Hello`]; the gateway answers [`ToSession::Welcome`], or closes the connection with a code and a reason.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{
    prefix::Prefix,
    rules::{MirrorReport, RuleOutcome, RuleSet},
    version::Version,
};

/// A message larger than this is refused unread: 1 MiB, ten times a welcome with 1,000 routes.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// What a session says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ToGateway {
    /// The first message.
    Hello {
        /// The session's protocol version.
        version: Version,
        /// The program's own version, for the gateway's log.
        program: String,
    },
    /// Asks for a [`ToSession::Pong`], to see that the gateway still answers.
    Ping {
        /// Returned as it is.
        token: u64,
    },
    /// What is to be mirrored from here on, whole; answered by [`ToSession::RulesApplied`].
    Rules(RuleSet),
    /// A kind of a later minor version: ignored.
    #[serde(other)]
    Unknown,
}

/// What a gateway says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ToSession {
    /// The answer to a hello: what the session can reach.
    Welcome(Welcome),
    /// The gateway ends soon: open flows go on until it does, new ones belong on a new link.
    Draining {
        /// Why, for a person.
        reason: String,
    },
    /// The answer to a [`ToGateway::Ping`].
    Pong {
        /// As in the ping.
        token: u64,
    },
    /// A set of rules is in force: what is off sends nothing more, what is on is copied.
    RulesApplied {
        /// The set's generation.
        generation: u64,
        /// What became of each of its rules.
        outcomes: Vec<RuleOutcome>,
    },
    /// What is mirrored.
    Mirror(MirrorReport),
    /// A kind of a later minor version: ignored.
    #[serde(other)]
    Unknown,
}

/// What the cluster is, as far as a session needs it. All of it is the gateway's word: the session validates before it acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The gateway's protocol version.
    pub version: Version,
    /// The program's own version, for `adit status`.
    pub program: String,
    /// The session's number at this gateway, for both logs.
    pub session: u64,
    /// The identity that the gateway read from the certificate.
    pub identity: String,
    /// Prefixes to route, as `address/length`, both families.
    pub routes: Vec<Prefix>,
    /// The cluster's domain, such as `cluster.local`, without dots at its ends; empty when the session may not ask for names.
    pub domain: String,
    /// Namespaces for short names: `web.shop` is asked as `web.shop.svc.<domain>` when `shop` is one of them.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// Addresses that must not enter the tunnel although a route covers them, such as the gateway's own.
    #[serde(default)]
    pub never: Vec<SocketAddr>,
}

/// The control stream cannot go on.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The stream ended or broke.
    #[error("the control stream broke")]
    Io(#[from] std::io::Error),
    /// The peer announced more than [`MAX_MESSAGE_BYTES`].
    #[error("a control message of {0} bytes is over the limit of {MAX_MESSAGE_BYTES}")]
    TooLarge(usize),
    /// The bytes are no message.
    #[error("a control message cannot be read")]
    Malformed(#[from] serde_json::Error),
}

/// Writes one message.
///
/// # Errors
/// [`ControlError::Io`] when the stream is gone, [`ControlError::TooLarge`] for a message that no peer would read.
pub async fn write_message<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> Result<(), ControlError> {
    let body = serde_json::to_vec(message)?;
    let len = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_MESSAGE_BYTES);
    let len = len.ok_or(ControlError::TooLarge(body.len()))?;
    stream.write_all(&len.to_be_bytes()).await?;
    stream.write_all(&body).await?;
    stream.flush().await?;
    Ok(())
}

/// Reads one message; not safe to cancel in the middle, so give it a task or a stream of its own.
///
/// # Errors
/// [`ControlError`] as its variants say. Nothing is allocated beyond what has arrived and [`MAX_MESSAGE_BYTES`].
pub async fn read_message<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> Result<T, ControlError> {
    let len = stream.read_u32().await?;
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > MAX_MESSAGE_BYTES {
        return Err(ControlError::TooLarge(len));
    }
    let mut body = Vec::new();
    let read = stream.take(len as u64).read_to_end(&mut body).await?;
    if read < len {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    Ok(serde_json::from_slice(&body)?)
}
