//! The developer's half of adit.
//!
//! - [`session_options`]: what a session is started with, what it tells, why it fails.
//! - [`session`]: composes everything.
//! - [`mirror`]: what a target receives, to listeners of this machine.
//! - [`outbound`]: packets to flows, flows to the link, and back.
//! - [`gateway_link`]: the link of the moment, made again when it ends.
//! - [`device`]: the TUN device.
//! - [`control`]: the socket through which commands talk to a running session.
//! - [`dns`]: the split resolver.
//! - [`host_network`]: addresses, routes and rules on the machine, and their undoing.

pub mod control;
pub mod device;
pub mod dns;
pub mod gateway_link;
pub mod host_network;
pub mod mirror;
pub mod outbound;
pub mod session;
pub mod session_options;
