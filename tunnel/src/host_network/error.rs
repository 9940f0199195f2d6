//! [`HostError`]: the machine's network could not be read or changed. Before: `netlink`, `slot`; after: the session, which ends.

use std::io;

use link::prefix::Prefix;
use thiserror::Error;

use super::{numbers::MAX_SESSIONS, plan::Rule};

/// The kernel said no. Whatever had been changed by then has been undone.
#[derive(Debug, Error)]
pub enum HostError {
    /// CAP_NET_ADMIN is missing.
    #[error("this process may not {action}: run it as root (sudo), or give it CAP_NET_ADMIN")]
    NotPermitted {
        /// What was tried.
        action: String,
        /// The kernel's word.
        source: io::Error,
    },
    /// The device file is missing, or there is no driver behind it. Offered to whoever opens it.
    #[error("/dev/net/tun cannot be opened: run 'modprobe tun', or start the container with --device /dev/net/tun")]
    NoTunDevice(#[source] io::Error),
    /// The kernel has no policy routing, or not the family.
    #[error(
        "this kernel cannot {action}: it needs Linux 4.17 with policy routing (CONFIG_IP_MULTIPLE_TABLES, CONFIG_IPV6_MULTIPLE_TABLES)"
    )]
    Unsupported {
        /// What was tried.
        action: String,
        /// The kernel's word.
        source: io::Error,
    },
    /// The TUN device is not there any more.
    #[error("the tunnel's device is gone: it could not {action}")]
    DeviceGone {
        /// What was tried.
        action: String,
        /// The kernel's word.
        source: io::Error,
    },
    /// Another refusal.
    #[error("the kernel refused to {action}")]
    Refused {
        /// What was tried.
        action: String,
        /// The kernel's word.
        source: io::Error,
    },
    /// The netlink socket broke.
    #[error("the kernel's netlink socket cannot be used")]
    Netlink(#[source] io::Error),
    /// Eight sessions live in this network namespace.
    #[error("{MAX_SESSIONS} sessions run on this machine already: end one with 'adit quit'")]
    TooManySessions,
}

/// A change or a question, worded for an error.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    AddAddress(Prefix),
    RemoveAddress(Prefix),
    SetUp,
    SetDown,
    PrepareDevice,
    AddRoute(Prefix),
    RemoveRoute(Prefix),
    AddRule(Rule),
    RemoveRule,
    List(&'static str),
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AddAddress(address) => write!(f, "give the tunnel's device the address {address}"),
            Self::RemoveAddress(address) => write!(f, "take the address {address} from the tunnel's device"),
            Self::SetUp => f.write_str("set the tunnel's device up"),
            Self::SetDown => f.write_str("set the tunnel's device down"),
            Self::PrepareDevice => f.write_str("configure the tunnel's device"),
            Self::AddRoute(prefix) => write!(f, "add the route {prefix}"),
            Self::RemoveRoute(prefix) => write!(f, "remove the route {prefix}"),
            Self::AddRule(rule) => write!(f, "add a routing rule ({rule})"),
            Self::RemoveRule => f.write_str("remove a routing rule"),
            Self::List(what) => write!(f, "list the {what}"),
        }
    }
}

impl HostError {
    pub(super) fn of(action: Action, source: io::Error) -> Self {
        let action = action.to_string();
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted { action, source },
            Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT) => Self::Unsupported { action, source },
            Some(libc::ENODEV | libc::ENXIO) => Self::DeviceGone { action, source },
            _ => Self::Refused { action, source },
        }
    }
}
