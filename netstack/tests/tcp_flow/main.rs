//! One TCP flow against a client socket, under a virtual clock, over a link that may be bad.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic; clippy allows it in `#[test]` functions only")]

mod endings;
mod guards;
mod handshake;
mod hostile;
mod lossy;
mod pair;
mod transfer;
mod windows;
