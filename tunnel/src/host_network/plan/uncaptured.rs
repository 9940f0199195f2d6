//! Which nameservers of the machine can be captured, and why the others cannot. Before: `resolv_conf`; after: [`super::Plan`], and the
//! status, which warns.

use std::{fmt, net::IpAddr};

use thiserror::Error;

use super::PlanInput;
use crate::host_network::resolv_conf::Nameserver;

/// A nameserver that cannot be captured: programs that ask it get no names of the cluster from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uncaptured {
    /// Its address, `None` when the machine has no nameserver at all.
    pub nameserver: Option<IpAddr>,
    /// Why.
    pub reason: UncapturedReason,
}

/// Why a nameserver cannot be captured. Its text says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UncapturedReason {
    /// A resolver on this machine: its address is looked up before any rule.
    #[error(
        "it is a resolver on this machine, which no routing rule can reach: put the nameserver that it asks into /etc/resolv.conf"
    )]
    Loopback,
    /// An address that is valid on one link only.
    #[error(
        "its address is link-local, which no routing rule can carry elsewhere: name the nameserver by another of its addresses"
    )]
    LinkLocal,
    /// The resolver file names none.
    #[error("/etc/resolv.conf names no nameserver: add a line such as 'nameserver 192.0.2.1'")]
    NoNameserver,
    /// Forwarded queries could not be told from captured ones.
    #[error("sockets cannot be marked, so that forwarded queries would be captured again: give adit CAP_NET_ADMIN")]
    Unmarked,
}

impl fmt::Display for Uncaptured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.nameserver {
            Some(nameserver) => write!(f, "nameserver {nameserver}: {}", self.reason),
            None => fmt::Display::fmt(&self.reason, f),
        }
    }
}

/// Those that can be captured, and those that cannot.
pub(super) fn sort_nameservers(input: &PlanInput<'_>) -> (Vec<IpAddr>, Vec<Uncaptured>) {
    let reason = |server: &Nameserver| {
        if server.is_loopback() {
            Some(UncapturedReason::Loopback)
        } else if server.is_link_local() {
            Some(UncapturedReason::LinkLocal)
        } else {
            (!input.marked).then_some(UncapturedReason::Unmarked)
        }
    };
    let mut captured = Vec::new();
    let mut uncaptured = Vec::new();
    for server in &input.host.resolv_conf.nameservers {
        match reason(server) {
            None => captured.push(server.address),
            Some(reason) => uncaptured.push(Uncaptured { nameserver: Some(server.address), reason }),
        }
    }
    if captured.is_empty() && uncaptured.is_empty() {
        uncaptured.push(Uncaptured { nameserver: None, reason: UncapturedReason::NoNameserver });
    }
    (captured, uncaptured)
}
