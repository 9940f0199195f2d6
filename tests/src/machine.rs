//! Moves the test process into namespaces of its own before it has a second thread, so that plain `cargo test` works,
//! as root and as an ordinary user, and nothing that a test does reaches the machine or outlives the process.
//!
//! Next in the flow: [`crate::lab`].

use std::sync::OnceLock;

use cli::demo::entry::{self, EntryError};

static ENTERED: OnceLock<Result<(), EntryError>> = OnceLock::new();

/// Set for a program of ours that a test or a benchmark starts: it stays in the namespaces that it was started in.
pub const STAY: &str = "ADIT_TESTS_STAY";

#[ctor::ctor(unsafe)]
fn enter() {
    let stays = std::env::var_os(STAY).is_some();
    let _ = ENTERED.set(if stays { Ok(()) } else { entry::enter() });
}

/// Panics with the remedy when this machine does not let the process make namespaces.
pub fn require_namespaces() {
    if let Err(error) = ENTERED.get().expect("the constructor ran before main") {
        panic!("{error}");
    }
}
