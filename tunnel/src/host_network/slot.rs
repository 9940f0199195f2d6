//! [`Slot`]: one of the sets of [`Numbers`], held by a live session; and the removal of what dead ones left.
//!
//! 1. A set is claimed by binding an abstract Unix socket of its name. Such names belong to the network namespace, exactly as rules do,
//!    and a name is free again the moment its process is dead, whatever killed it.
//! 2. Rules in the range of a set that could be claimed are left over, if no route is left in their table: routes go with their device.
//!    They have done nothing since, since a lookup in an empty table goes on to the next rule; here they are removed.
//! 3. Rules of sets that are held, or whose table has routes, are another session's, and are left alone.
//!
//! Before: the session's start; after: `plan`.

use std::os::{
    linux::net::SocketAddrExt,
    unix::net::{SocketAddr, UnixDatagram},
};

use netlink_packet_route::{
    route::RouteProtocol,
    rule::{RuleAttribute, RuleMessage},
};
use rustc_hash::FxHashSet;
use tracing::info;

use super::{
    error::HostError,
    netlink::Network,
    numbers::{Numbers, PROTOCOL},
    observe::table,
};

/// The numbers of this session, for as long as this lives.
#[derive(Debug)]
pub struct Slot {
    numbers: Numbers,
    /// Only its name matters.
    _claim: UnixDatagram,
}

impl Slot {
    /// Removes left-over rules of dead sessions and claims the first free set of numbers.
    ///
    /// # Errors
    /// [`HostError::TooManySessions`] when all are taken, [`HostError::NotPermitted`] when left-over rules cannot be removed.
    pub async fn claim(network: &Network) -> Result<Self, HostError> {
        let rules = network.rules().await?;
        let routes = network.routes().await?;
        let in_use: FxHashSet<u32> = routes.iter().map(table).collect();
        let mut first = None;
        for numbers in Numbers::all() {
            let tables = [numbers.cluster_table(), numbers.dns_table()];
            let Some(claim) = bind(numbers) else { continue };
            if tables.iter().any(|table| in_use.contains(table)) {
                continue;
            }
            for rule in rules.iter().filter(|rule| belongs_to(rule, numbers)) {
                match network.remove_rule(rule.clone()).await {
                    Ok(()) => info!(session = numbers.session(), "removed a routing rule that a dead session left"),
                    Err(error) if is_gone(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            first.get_or_insert(Self { numbers, _claim: claim });
        }
        first.ok_or(HostError::TooManySessions)
    }

    /// The numbers.
    pub const fn numbers(&self) -> Numbers {
        self.numbers
    }
}

/// What is to be removed is not there: somebody was faster, or the kernel itself.
pub(super) fn is_gone(error: &HostError) -> bool {
    match error {
        HostError::DeviceGone { .. } => true,
        HostError::Refused { source, .. } => {
            matches!(source.raw_os_error(), Some(libc::ENOENT | libc::ESRCH | libc::EADDRNOTAVAIL))
        }
        HostError::NotPermitted { .. }
        | HostError::NoTunDevice(_)
        | HostError::Unsupported { .. }
        | HostError::Netlink(_)
        | HostError::TooManySessions => false,
    }
}

/// Holds the name of a set; `None` when somebody has it.
fn bind(numbers: Numbers) -> Option<UnixDatagram> {
    let name = SocketAddr::from_abstract_name(format!("adit/session/{}", numbers.session())).ok()?;
    UnixDatagram::bind_addr(&name).ok()
}

/// Ours by protocol number and priority, both.
fn belongs_to(rule: &RuleMessage, numbers: Numbers) -> bool {
    let ours = |attribute: &RuleAttribute| *attribute == RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL));
    let priority = rule
        .attributes
        .iter()
        .find_map(|attribute| if let RuleAttribute::Priority(priority) = attribute { Some(*priority) } else { None });
    rule.attributes.iter().any(ours) && priority.and_then(Numbers::of_priority) == Some(numbers)
}
