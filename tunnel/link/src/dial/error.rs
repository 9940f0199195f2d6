//! [`DialError`]: why there is no link, and which of two failures tells more. Before: [`super::Dialer`]; after: `tunnel::gateway_link`,
//! which words it for a person.

use std::{io, net::SocketAddr};

use quinn::ConnectionError;
use thiserror::Error;

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
    /// It takes a connection and closes it.
    #[error(
        "{gateway} takes connections and closes them without an answer: it starts or ends just now, or is no adit gateway"
    )]
    HungUp {
        /// Who was dialed.
        gateway: SocketAddr,
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

/// Of two failures the one that tells more about what is wrong.
pub(super) fn plainer(on_udp: DialError, on_tcp: DialError) -> DialError {
    match (on_udp, on_tcp) {
        (handshake @ DialError::Handshake { .. }, _) | (_, handshake @ DialError::Handshake { .. }) => handshake,
        (foreign @ DialError::NotAGateway { .. }, _) | (_, foreign @ DialError::NotAGateway { .. }) => foreign,
        (refused @ DialError::Refused { .. }, DialError::HungUp { .. }) => refused,
        (DialError::NoAnswer { gateway, .. }, DialError::NoAnswer { .. }) => {
            DialError::NoAnswer { gateway, tried: "udp or tcp" }
        }
        (_, on_tcp) => on_tcp,
    }
}
