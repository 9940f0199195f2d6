//! How commands talk to a running session: one Unix socket in the session's state directory, JSON lines both ways.
//!
//! A request, from `cli::ipc`:
//! 1. [`state_dir`] finds and guards the directory; the session holds its lock for as long as it lives.
//! 2. [`message`] is what crosses the socket: one [`message::Request`] a connection, one or more [`message::Reply`]s; of the mirror
//!    [`mirror_message`].
//! 3. [`server`] accepts, checks who asks, and answers from
//! 4. [`status`], which the session's data plane fills; of the mirror [`mirror_status`].

pub mod counters;
pub mod message;
pub mod mirror_message;
pub mod mirror_status;
pub mod server;
pub mod state_dir;
pub mod status;
