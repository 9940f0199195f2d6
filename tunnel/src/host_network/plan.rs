//! [`Plan`]: what is to be changed on the machine, decided from what the gateway announces and what the machine is like.
//!
//! Pure. Owns the refusals: a gateway's routes are its word, and some may never be followed. Before: `observe`; after: `joined`.
//!
//! 1. Each route is checked ([`RouteFault`]).
//! 2. What is never captured becomes holes in the routes: the gateway's endpoint, the addresses that the gateway excepts, the default
//!    gateways, and the nameservers, of which only port 53 is captured, by rules.
//! 3. The routes go into a table of the session's own, behind a rule that lets marked packets pass.
//! 4. The nameservers that can be captured go into a second table, behind a rule for each of them and each transport.

mod rule;
mod uncaptured;

use std::net::IpAddr;

use link::{control::Welcome, prefix::Prefix};
use thiserror::Error;

use self::{rule::make_rules, uncaptured::sort_nameservers};
pub use self::{
    rule::{Rule, Selector},
    uncaptured::{Uncaptured, UncapturedReason},
};
use super::{
    holes::without,
    numbers::Numbers,
    observe::HostView,
    route_fault::{RouteFault, check_route},
};
use crate::dns::{Names, NamesError, NamesOptions};

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
