//! What a session changes on the machine: addresses of the TUN device, routes in tables of its own, and rules that look there.
//!
//! Owns all changes outside the process, and their undoing. Does not own the device (`device` opens it) nor what comes out of it
//! (`outbound`). Needs CAP_NET_ADMIN in the network namespace that it runs in, and nothing else of the machine.
//!
//! 1. [`Network::open`] and [`Slot::claim`]: left-over rules of dead sessions go, and the session gets its numbers; the link's sockets
//!    are marked with [`Numbers::mark`] (`slot`, `numbers`).
//! 2. [`HostView::read`]: nameservers, routers, networks and addresses of the machine (`observe`, `resolv_conf`).
//! 3. [`Plan::new`]: pure; refuses what a gateway may not have (`plan`, `route_fault`, `holes`).
//! 4. [`Joined::apply`] and [`Joined::restore`] (`joined`, `netlink`).
//!
//! No file is written. What outlives a SIGKILL are rules that point at empty tables, and they change nothing.

mod error;
mod holes;
mod joined;
mod netlink;
mod numbers;
mod observe;
mod plan;
pub(crate) mod remedy;
mod resolv_conf;
mod route_fault;
mod slot;

pub use self::{
    error::HostError,
    joined::Joined,
    netlink::Network,
    numbers::{MAX_SESSIONS, Numbers},
    observe::{HostView, RESOLV_CONF},
    plan::{Overlap, Plan, PlanError, PlanInput, Rule, Selector, Uncaptured, UncapturedReason},
    resolv_conf::{Nameserver, ResolvConf},
    route_fault::RouteFault,
    slot::Slot,
};
