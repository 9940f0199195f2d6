//! The developer's half of adit.
//!
//! - [`session_options`]: what a session is started with, what it tells, why it fails.
//! - [`session`]: composes everything.
//! - [`control`]: the socket through which commands talk to a running session.

pub mod control;
pub mod session;
pub mod session_options;
