//! The developer's half of adit.
//!
//! - [`session_options`]: what a session is started with, what it tells, why it fails.
//! - [`session`]: composes everything.
//! - [`control`]: the socket through which commands talk to a running session.
//! - [`dns`]: the split resolver.

pub mod control;
pub mod dns;
pub mod session;
pub mod session_options;
