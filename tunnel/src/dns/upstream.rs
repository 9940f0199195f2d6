//! The two that a resolver asks, as traits: the cluster's nameserver through the link, and the one that a program meant.
//!
//! Before: `lookup` and `Resolver::answer`; after: `ordinary`, and the session's link.

use std::{fmt, future::Future, net::SocketAddr};

use thiserror::Error;

/// How a query came, and so how it is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One datagram.
    Udp,
    /// A message on a TCP connection, without its length.
    Tcp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        })
    }
}

/// Where a query was going when it was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Arrived {
    /// The nameserver that the program sent it to.
    pub nameserver: SocketAddr,
    /// How.
    pub transport: Transport,
}

/// A query got no answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// The link to the gateway is down.
    #[error("the link to the gateway is down")]
    LinkDown,
    /// The socket or stream broke, or the nameserver's machine refused.
    #[error("the nameserver cannot be asked")]
    Io(#[from] std::io::Error),
    /// What came is no answer to the query.
    #[error("the nameserver's answer cannot be read")]
    Malformed,
}

/// The cluster's nameserver.
pub trait ClusterUpstream: Send + Sync + 'static {
    /// Whether the link is up. While it is not, names of the cluster fail at once instead of waiting.
    fn is_up(&self) -> bool;

    /// Sends one raw DNS message and returns the raw answer. Ends by itself when the link breaks; the resolver bounds the time.
    fn ask(&self, query: Vec<u8>) -> impl Future<Output = Result<Vec<u8>, AskError>> + Send;
}

/// The nameservers that programs meant.
pub trait OrdinaryUpstream: Send + Sync + 'static {
    /// Sends one raw DNS message where and how it was going and returns the raw answer to it; the resolver bounds the time.
    ///
    /// The identifier is the asker's: an implementation that sends over a network replaces it, checks it, and puts it back.
    fn ask(&self, query: Vec<u8>, arrived: Arrived) -> impl Future<Output = Result<Vec<u8>, AskError>> + Send;
}
