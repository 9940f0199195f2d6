//! [`Plan`]: what is to be changed on the machine, decided from what the gateway announces and what the machine is like.
//!
//! Pure. Owns the refusals: a gateway's routes are its word, and some may never be followed. Before: `observe`; after: `joined`.
//!
//! 1. Each route is checked ([`RouteFault`]).
//! 2. What is never captured becomes holes in the routes: the gateway's endpoint, the addresses that the gateway excepts, the default
//!    gateways, and the nameservers, of which only port 53 is captured, by rules.
//! 3. The routes go into a table of the session's own, behind a rule that lets marked packets pass.
//! 4. The nameservers that can be captured go into a second table, behind a rule for each of them and each transport.
//!
//! The rules match `fwmark 0/BIT`, "the bit is not set", and not `not fwmark M`: the kernel applies `not` to the rule as a whole, so with
//! any other selector beside it, it matches nearly everything.

use std::{fmt, net::IpAddr};

use link::{control::Welcome, prefix::Prefix};
use thiserror::Error;

use super::{
    holes::without,
    numbers::Numbers,
    observe::HostView,
    resolv_conf::Nameserver,
    route_fault::{RouteFault, check_route},
};
use crate::dns::{Names, NamesError, NamesOptions, Transport};

/// The most routes, after holes are cut: 4096, which netlink sets in under a second. A cluster announces two to ten.
const MAX_ROUTES: usize = 4096;

/// What a plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct PlanInput<'a> {
    /// What the gateway announces.
    pub welcome: &'a Welcome,
    /// The gateway's address, as the link reaches it.
    pub gateway: IpAddr,
    /// What the machine is like.
    pub host: &'a HostView,
    /// The session's numbers.
    pub numbers: Numbers,
    /// Whether the link's sockets and those of forwarded DNS queries carry [`Numbers::mark`].
    pub marked: bool,
    /// The namespace of names without a dot.
    pub default_namespace: Option<&'a str>,
}

/// What is to be changed, and what to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The numbers that all rules and routes are made of.
    pub numbers: Numbers,
    /// Addresses of the TUN device: one of each family that has something to carry. A machine without IPv6 stays without.
    pub addresses: Vec<Prefix>,
    /// Routes to the TUN device in the cluster's table.
    pub routes: Vec<Prefix>,
    /// Nameservers whose port 53 is captured: routes to the TUN device in the DNS table.
    pub nameservers: Vec<IpAddr>,
    /// Rules, in the order in which they are added.
    pub rules: Vec<Rule>,
    /// By what the resolver decides.
    pub names: NamesOptions,
    /// Nameservers of the machine that cannot be captured.
    pub uncaptured: Vec<Uncaptured>,
    /// Stubs on this machine try its search domains on `<service>.<namespace>` first (`ndots`), so that the ordinary nameserver sees such
    /// names, and a wildcard there would answer them: then the first of these domains.
    pub search_first: Option<String>,
    /// The cluster's prefixes that take addresses of networks to which this machine is attached.
    pub overlaps: Vec<Overlap>,
}

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
    pub(super) const fn is_v6(self) -> bool {
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

/// A route of the cluster that takes addresses of a network to which the machine is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap {
    /// The cluster's.
    pub route: Prefix,
    /// The machine's.
    pub host: Prefix,
}

/// The gateway announces what cannot be followed. Nothing has been changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// A route that may not be taken over.
    #[error("the gateway announces the route {route}, which {fault}: narrow `routes` in its configuration")]
    Route {
        /// The announced prefix.
        route: Prefix,
        /// What it would capture.
        fault: RouteFault,
    },
    /// More than 4096 routes are left once the exceptions are cut out.
    #[error(
        "the gateway announces so many routes and exceptions that {0} routes result: at most {MAX_ROUTES} can be set"
    )]
    TooManyRoutes(usize),
    /// A domain or namespace that is none.
    #[error(transparent)]
    Names(#[from] NamesError),
    /// Each of our own addresses is in use here.
    #[error(
        "all addresses that the tunnel's device could have are in use on this machine or in the cluster, such as {0}"
    )]
    NoAddress(IpAddr),
}

impl Plan {
    /// Decides.
    ///
    /// # Errors
    /// [`PlanError`] names the prefix, domain or namespace of the gateway that cannot be followed.
    pub fn new(input: &PlanInput<'_>) -> Result<Self, PlanError> {
        let PlanInput { welcome, host, numbers, .. } = *input;
        for route in &welcome.routes {
            let checked = check_route(*route, input.gateway, input.marked);
            checked.map_err(|fault| PlanError::Route { route: *route, fault })?;
        }
        let routes = cut_routes(input)?;
        let (nameservers, uncaptured) = sort_nameservers(input);
        let names = NamesOptions {
            domain: welcome.domain.clone(),
            namespaces: welcome.namespaces.clone(),
            default_namespace: input.default_namespace.map(str::to_owned),
            routes: welcome.routes.clone(),
            search: host.resolv_conf.search.clone(),
        };
        Names::new(&names)?;
        let rules = make_rules(numbers, &routes, &nameservers);
        let addresses = choose_addresses(input, &routes, &nameservers)?;
        let attached = |route: &Prefix| {
            let route = *route;
            host.attached
                .iter()
                .filter(move |host| host.overlaps(&route))
                .map(move |host| Overlap { route, host: *host })
        };
        let overlaps = welcome.routes.iter().flat_map(attached).collect();
        let search_first = host.resolv_conf.search.first().filter(|_| host.resolv_conf.ndots > 1).cloned();
        Ok(Self { numbers, addresses, routes, nameservers, rules, names, uncaptured, search_first, overlaps })
    }
}

/// The announced routes without what is never captured, each once.
fn cut_routes(input: &PlanInput<'_>) -> Result<Vec<Prefix>, PlanError> {
    let host = input.host;
    let never = input.welcome.never.iter().map(|except| except.ip());
    let nameservers = host.resolv_conf.nameservers.iter().map(|server| server.address);
    let mut holes: Vec<IpAddr> = never.chain(nameservers).chain(host.default_gateways.iter().copied()).collect();
    holes.push(input.gateway);
    let mut routes: Vec<Prefix> = Vec::new();
    for route in &input.welcome.routes {
        routes.append(&mut without(*route, &holes));
        if routes.len() > 2 * MAX_ROUTES {
            return Err(PlanError::TooManyRoutes(routes.len()));
        }
    }
    routes.sort_unstable();
    routes.dedup();
    if routes.len() > MAX_ROUTES { Err(PlanError::TooManyRoutes(routes.len())) } else { Ok(routes) }
}

fn sort_nameservers(input: &PlanInput<'_>) -> (Vec<IpAddr>, Vec<Uncaptured>) {
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

/// The cluster's rules first: by the time that names resolve to its addresses, these are reached.
fn make_rules(numbers: Numbers, routes: &[Prefix], nameservers: &[IpAddr]) -> Vec<Rule> {
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

fn choose_addresses(
    input: &PlanInput<'_>,
    routes: &[Prefix],
    nameservers: &[IpAddr],
) -> Result<Vec<Prefix>, PlanError> {
    let host = input.host;
    let taken = |address: IpAddr| {
        host.addresses.contains(&address)
            || host.attached.iter().chain(&input.welcome.routes).any(|prefix| prefix.contains(address))
            || address == input.gateway
    };
    let mut chosen = Vec::new();
    for v4 in [true, false] {
        let carried = routes.iter().map(Prefix::address).chain(nameservers.iter().copied());
        if !carried.into_iter().any(|address| address.is_ipv4() == v4) {
            continue;
        }
        let mut candidates = input.numbers.addresses(v4);
        let address = candidates.find(|candidate| !taken(candidate.address()));
        let first = || input.numbers.addresses(v4).next().map_or(input.gateway, |prefix| prefix.address());
        chosen.push(address.ok_or_else(|| PlanError::NoAddress(first()))?);
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests;
