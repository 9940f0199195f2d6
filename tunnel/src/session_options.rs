//! What a session is started with, what it tells while it starts, and why it can fail: the seam between the `adit` command and
//! [`crate::session`]. It owns no behaviour beyond parsing and wording. Before: `cli::commands::connect`; after: `session`.

use std::{fmt, io, path::PathBuf, str::FromStr, time::Duration};

pub use link::carrier::CarrierChoice;
use link::{prefix::Prefix, version::Incompatible};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    device::DeviceError,
    host_network::{HostError, PlanError, remedy},
};

/// Everything that a session needs to know before it starts.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Where the gateway listens.
    pub gateway: GatewayAddress,
    /// The identity's file: certificate, key and the authority's certificate.
    pub identity: PathBuf,
    /// How QUIC packets may cross the network.
    pub carrier: CarrierChoice,
    /// The namespace in which a name without dots is looked up first.
    pub namespace: String,
    /// The session's own directory, made and locked before the session starts.
    pub state_dir: PathBuf,
}

/// `HOST:PORT`, where the host is a name, an IPv4 address or an IPv6 address in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayAddress {
    /// A name or an address, without brackets.
    pub host: String,
    /// The UDP and TCP port.
    pub port: u16,
}

/// A text is no gateway address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("'{0}' is no gateway address: write HOST:PORT, such as gateway.example.com:7844 or [fd00::1]:7844")]
pub struct NotAGateway(String);

impl FromStr for GatewayAddress {
    type Err = NotAGateway;

    fn from_str(text: &str) -> Result<Self, NotAGateway> {
        let parse = || {
            let (host, port) = text.rsplit_once(':')?;
            let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let host = match bracketed {
                Some(v6) => v6.parse::<std::net::Ipv6Addr>().ok()?.to_string(),
                None if host.is_empty() || host.contains([':', '/', '@', ' ']) => return None,
                None => host.to_owned(),
            };
            let port = port.parse().ok().filter(|port| *port != 0)?;
            Some(Self { host, port })
        };
        parse().ok_or_else(|| NotAGateway(text.to_owned()))
    }
}

impl fmt::Display for GatewayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What a starting session has done so far, in this order. Each is told once, except [`Progress::Connecting`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Progress {
    /// The identity is loaded and the gateway is being dialed.
    Connecting,
    /// The gateway accepted the identity.
    Connected {
        /// `udp` or `tcp`.
        carrier: String,
        /// The round trip as first measured.
        rtt: Duration,
        /// The identity's name, as the gateway read it.
        identity: String,
    },
    /// The TUN device, its addresses and routes are in place.
    Routed {
        /// The device's name.
        device: String,
        /// The cluster's prefixes.
        routes: Vec<Prefix>,
    },
    /// Cluster names resolve.
    Named {
        /// The cluster's domain.
        domain: String,
    },
    /// Traffic flows: the status is complete, and the session only ends when told to.
    Flowing,
}

/// Why a session could not start or could not go on.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The identity's file is missing, unreadable, too open, not PEM, expired or torn; the text says which, and what to do.
    #[error(transparent)]
    Identity(#[from] certs::IdentityError),
    /// The identity makes no TLS configuration.
    #[error("the identity cannot be used")]
    Tls(#[from] certs::TlsError),
    /// No carrier got through.
    #[error("the gateway {gateway} cannot be reached: {reason}")]
    Unreachable {
        /// As the user wrote it.
        gateway: GatewayAddress,
        /// What each carrier met.
        reason: String,
    },
    /// Something answers there, but it is no gateway, or not the one that issued the identity.
    #[error("{gateway} does not answer like the gateway of this identity: {reason}")]
    Foreign {
        /// As the user wrote it.
        gateway: GatewayAddress,
        /// What it did instead.
        reason: String,
    },
    /// The versions are a major apart.
    #[error(transparent)]
    Incompatible(#[from] Incompatible),
    /// The gateway says that the versions are a major apart.
    #[error("{gateway}: {reason}")]
    Version {
        /// As the user wrote it.
        gateway: GatewayAddress,
        /// The gateway's words, which name the side to upgrade.
        reason: String,
    },
    /// The gateway knows the identity's authority and still says no.
    #[error("the gateway {gateway} refused this identity: {reason}")]
    Refused {
        /// As the user wrote it.
        gateway: GatewayAddress,
        /// The gateway's words.
        reason: String,
    },
    /// The gateway, or the identity, has all the sessions it may have.
    #[error("the gateway {gateway} takes no more sessions: {reason}")]
    Busy {
        /// As the user wrote it.
        gateway: GatewayAddress,
        /// The gateway's words, which name the limit.
        reason: String,
    },
    /// The gateway announces what no session may take over; the text names it.
    #[error(transparent)]
    Announced(#[from] PlanError),
    /// The process may not make devices and routes.
    #[error("this process may not {action}")]
    Privilege {
        /// What it tried, such as `make a TUN device`.
        action: &'static str,
    },
    /// The kernel has no TUN driver, or the container no device file.
    #[error("/dev/net/tun is missing")]
    NoTunDevice,
    /// The kernel refused a change to the machine's network; the text names it.
    #[error(transparent)]
    Network(#[from] HostError),
    /// The machine's network could not be set up.
    #[error("cannot {action}")]
    Host {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl From<DeviceError> for SessionError {
    fn from(error: DeviceError) -> Self {
        match error {
            DeviceError::Missing => Self::NoTunDevice,
            DeviceError::Forbidden => Self::Privilege { action: "make a TUN device" },
            DeviceError::Failed { action, source } => Self::Host { action, source },
        }
    }
}

impl SessionError {
    /// What the user can do about it.
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { gateway, .. } => {
                format!(
                    "check that adit-gateway runs and that UDP or TCP port {} is open to this machine",
                    gateway.port
                )
            }
            Self::Foreign { .. } => "check --gateway, or use the identity that this gateway issued".to_owned(),
            Self::Refused { .. } => {
                "ask who runs the gateway for a new identity (adit-gateway identity issue)".to_owned()
            }
            Self::Busy { .. } => {
                "end a session that nobody needs (adit quit), or ask who runs the gateway to raise that limit"
                    .to_owned()
            }
            Self::Privilege { .. } => "run it as root (sudo adit connect ...), or with CAP_NET_ADMIN".to_owned(),
            Self::NoTunDevice => "modprobe tun; in a container, start it with --device /dev/net/tun".to_owned(),
            Self::Identity(_) | Self::Tls(_) | Self::Announced(_) | Self::Incompatible(_) | Self::Version { .. } => {
                return None;
            }
            Self::Network(error) => return error.remedy(),
            Self::Host { source, .. } => return remedy::of_errno(source).map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_address_survives_its_text() {
        for text in ["gateway.example.com:7844", "192.0.2.1:1", "[fd00::1]:65535"] {
            assert_eq!(text.parse::<GatewayAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_wrong_gateway_address_is_named() {
        for text in
            ["", "host", "host:", ":7844", "host:0", "host:65536", "fd00::1:7844", "[fd00::1]", "https://host:443"]
        {
            let error = text.parse::<GatewayAddress>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("'{text}' is no gateway address")), "{error}");
        }
    }
}
