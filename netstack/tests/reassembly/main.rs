//! What a tap sees of clients, and what comes out of it: the bytes that the target read, or a gap of the right size.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic; clippy allows it in `#[test]` functions only")]

mod endings;
mod gaps;
mod handshake;
mod limits;
mod linux;
mod overlaps;
mod settlement;
mod streams;
mod tap;
