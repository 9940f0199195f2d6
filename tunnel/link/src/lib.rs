//! What the session and the gateway agree on, and nothing that only one of them knows.
//!
//! - [`version`]: who may talk to whom, and which side to upgrade.
//! - [`control`]: the messages of the one control stream, length-framed JSON.
//! - [`header`]: the first bytes of every other stream, and the dial's outcome.
//! - [`datagram`]: UDP payloads and echoes, in QUIC datagrams or, when too large, alone on a unidirectional stream.
//! - [`rules`]: what is to be mirrored, and what is said about it; [`mirrored`]: the streams of what is.
//! - [`prefix`]: ranges of addresses.
//! - [`mod@printable`]: the other side's words, made safe to show.
//! - [`error_code`]: the QUIC application codes of closes, resets and stops.
//! - [`carrier`]: how QUIC packets cross the network (`udp`, `tcp`).
//! - [`dial`], [`listen`]: how a link starts, on the session's and the gateway's side.
//! - [`mod@race`]: whichever of a name's addresses answers first.
//! - [`transport`]: windows, congestion control, and the send window that is set at run time.
//! - [`splice`]: bytes between a stream and a socket, both ways, with half-close and reset kept.
//!
//! The session opens bidirectional streams, the gateway accepts them; each begins with a [`header::StreamHeader`]. A unidirectional stream
//! begins with [`mirrored::MIRRORED`], or is one [`datagram`].

mod bounded;
pub mod carrier;
pub mod control;
pub mod datagram;
pub mod dial;
pub mod error_code;
pub mod header;
pub mod listen;
pub mod mirrored;
pub mod prefix;
pub mod printable;
pub mod race;
pub mod rules;
pub mod splice;
#[cfg(test)]
mod testing;
pub mod transport;
mod unprobed;
pub mod version;
mod wire;
