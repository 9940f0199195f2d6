//! [`Rule`]: the policy rules of a plan. Before: [`super::Plan`]; after: `netlink`.
//!
//! They match `fwmark 0/BIT`, "the bit is not set", and not `not fwmark M`: the kernel applies `not` to the rule as a whole, so with any
//! other selector beside it, it matches nearly everything.

use std::{fmt, net::IpAddr};

use link::prefix::Prefix;

use crate::{dns::Transport, host_network::numbers::Numbers};

/// A policy rule of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Smaller is asked first.
    pub priority: u32,
    /// The rule applies where this bit of the mark is not set.
    pub unmarked: u32,
    /// The family of a rule for all destinations, else the nameserver and how it is asked.
    pub selector: Selector,
    /// The table to look in.
    pub table: u32,
}

/// What a rule applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selector {
    /// All IPv4 packets.
    AllV4,
    /// All IPv6 packets.
    AllV6,
    /// DNS queries to a nameserver, port 53.
    Dns(IpAddr, Transport),
}

impl Selector {
    pub(in crate::host_network) const fn is_v6(self) -> bool {
        matches!(self, Self::AllV6 | Self::Dns(IpAddr::V6(_), _))
    }
}

impl fmt::Display for Rule {
    /// As `ip rule` would take it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { priority, unmarked, selector, table } = self;
        let version = if selector.is_v6() { "-6 " } else { "" };
        write!(f, "ip {version}rule add priority {priority} fwmark 0/{unmarked:#x}")?;
        if let Selector::Dns(nameserver, transport) = selector {
            write!(f, " to {nameserver} ipproto {transport} dport 53")?;
        }
        write!(f, " lookup {table}")
    }
}

/// The cluster's rules first: by the time that names resolve to its addresses, these are reached.
pub(super) fn make_rules(numbers: Numbers, routes: &[Prefix], nameservers: &[IpAddr]) -> Vec<Rule> {
    let unmarked = numbers.mark_bit();
    let families = [(Selector::AllV4, true), (Selector::AllV6, false)];
    let of_cluster = families.into_iter().filter(|(_, v4)| routes.iter().any(|route| route.address().is_ipv4() == *v4));
    let (priority, table) = (numbers.cluster_priority(), numbers.cluster_table());
    let of_cluster = of_cluster.map(|(selector, _)| Rule { priority, unmarked, selector, table });
    let (priority, table) = (numbers.dns_priority(), numbers.dns_table());
    let of_dns = nameservers.iter().flat_map(|nameserver| {
        [Transport::Udp, Transport::Tcp].map(|transport| {
            let selector = Selector::Dns(*nameserver, transport);
            Rule { priority, unmarked, selector, table }
        })
    });
    of_cluster.chain(of_dns).collect()
}
