//! The tap: a process of its own in the target's network namespace, that copies what arrives for chosen ports and says what it could not
//! copy. It changes nothing there.
//!
//! - [`protocol`]: what it and its gateway say to each other.
//!
//! Before it in the flow: the target's packets; after: `gateway::mirror`, which starts it.

pub mod protocol;
