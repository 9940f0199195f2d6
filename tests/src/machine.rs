//! Moves the test process into namespaces of its own before it has a second thread, so that plain `cargo test` works,
//! as root and as an ordinary user, and nothing that a test does reaches the machine or outlives the process.
//!
//! Next in the flow: [`crate::lab`].

use std::sync::OnceLock;

use cli::demo::entry::{self, EntryError};

static ENTERED: OnceLock<Result<(), EntryError>> = OnceLock::new();

#[ctor::ctor(unsafe)]
fn enter() {
    let _ = ENTERED.set(entry::enter());
}

/// Panics with the remedy when this machine does not let the process make namespaces.
pub fn require_namespaces() {
    if let Err(error) = ENTERED.get().expect("the constructor ran before main") {
        panic!("{error}");
    }
}
