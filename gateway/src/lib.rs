//! The cluster's half of adit: takes sessions, dials services for them, forwards their DNS queries, datagrams and echoes, and keeps
//! each within its limits. Everything a session sends is untrusted.
//!
//! ```text
//! run ─ server ─ session ─┬─ control                              the greeting, draining
//!                         ├─ mirror ── tap                    copies of what targets receive
//!                         ├─ streams ─┬─ outbound ─ dial ─ splice  TCP
//!                         │           └─ dns                      queries
//!                         └─ datagrams ─┬─ udp
//!                                       └─ echo
//! ```
//! - [`config`]: `gateway.toml`. [`cluster`]: providers, of which `linux` is one.
//! - [`policy`]: who may reach and mirror what; `permit`: asked before anything is dialed; `reload`: the policy changes.
//! - `audit`: what happened, for those who have to know. `reach`: which addresses may be reached at all; `limits`: slots and rates;
//!   `descriptors`: sockets of all sessions; `errno`: what the kernel's errors mean.
//! - `metrics`, `observe`: what is counted, and the HTTP endpoints that show it.
//! - [`tap`]: the process in a target's network that copies what arrives there.
//! - [`run`](mod@run): the process around a gateway.
//!
//! It knows the link ([`link`]) and the identities ([`certs`]), and nothing of the session's half.

mod audit;
pub mod cluster;
pub mod config;
mod connected_udp;
mod control;
mod datagrams;
mod descriptors;
mod dial;
mod dns;
mod echo;
mod errno;
mod limits;
mod metrics;
mod mirror;
mod observe;
mod outbound;
mod permit;
pub mod policy;
mod reach;
mod reload;
pub mod run;
mod scratch;
mod server;
mod session;
mod streams;
pub mod tap;
mod udp;

pub use audit::AuditError;
pub use dns::ResolveError;
pub use mirror::{RunningTap, StartTap, TapProgram};
pub use observe::ObserveError;
pub use reload::Reloader;
pub use server::{Gateway, Shutdown, StartError};
