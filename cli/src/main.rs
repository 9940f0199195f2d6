//! Runs adit.
fn main() {}
