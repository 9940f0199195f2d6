//! A mirrored flow on the link: one unidirectional stream from the gateway for each TCP connection or UDP flow, with a header and
//! then frames. What is missing is said where it is missing.
//!
//! A stream's first byte, [`MIRRORED`], tells it from a datagram that was too large for the path ([`crate::datagram`]). A UDP flow has
//! a stream too: its datagrams keep their bounds as frames, and are lost only where a frame says so.
//! The same frames come from the tap, each behind its flow's number, and are handed on as they are.
//! Before: `gateway::tap`, `gateway::mirror`; after: `tunnel::mirror`.

use std::net::SocketAddr;

pub use crate::wire::Malformed;
use crate::{
    rules::{LossReason, RuleProtocol},
    wire::{Reader, put_socket_addr},
};

/// The first byte of a mirrored flow's stream.
pub const MIRRORED: u8 = 0x20;

/// The longest name of a replica, bytes: two DNS names and what joins them.
pub const MAX_REPLICA_BYTES: usize = 512;

/// Payload bytes in a frame at most: above the largest segment and datagram that IP carries.
pub const MAX_FRAME_BYTES: usize = 1 << 17;

/// What a stream begins with, behind [`MIRRORED`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorHeader {
    /// The number of the rule, in the session's own set.
    pub rule: u32,
    /// TCP or UDP.
    pub protocol: RuleProtocol,
    /// Seen from its first byte; otherwise it was open before.
    pub from_start: bool,
    /// Who talks to the target.
    pub client: SocketAddr,
    /// The target's own address and port.
    pub server: SocketAddr,
    /// When it was first seen, microseconds since 1970-01-01 UTC.
    pub seen_unix_micros: u64,
    /// The replica's name, at most [`MAX_REPLICA_BYTES`].
    pub replica: String,
}

const FLAG_UDP: u8 = 1;
const FLAG_FROM_START: u8 = 2;
const FLAG_V6: u8 = 4;

impl MirrorHeader {
    /// [`MIRRORED`] and the length of the rest, which tell how much to read.
    pub const PREFIX_BYTES: usize = 3;
    /// The longest rest: number, flags, two addresses, time, name.
    pub const MAX_REST_BYTES: usize = 4 + 1 + 18 + 18 + 8 + MAX_REPLICA_BYTES;

    /// Appends the encoding to `out`. A name that is too long is cut.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(MIRRORED);
        let len_at = out.len();
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&self.rule.to_be_bytes());
        // Both families of one flow are the same; a client mapped into IPv6 would make them differ.
        let is_v6 = self.client.is_ipv6() || self.server.is_ipv6();
        out.push(
            if self.protocol == RuleProtocol::Udp { FLAG_UDP } else { 0 }
                | if self.from_start { FLAG_FROM_START } else { 0 }
                | if is_v6 { FLAG_V6 } else { 0 },
        );
        for address in [self.client, self.server] {
            put_socket_addr(out, if is_v6 { in_v6(address) } else { address });
        }
        out.extend_from_slice(&self.seen_unix_micros.to_be_bytes());
        let cut = self.replica.floor_char_boundary(MAX_REPLICA_BYTES);
        out.extend_from_slice(&self.replica.as_bytes()[..cut]);
        let len = u16::try_from(out.len() - len_at - 2).expect("the parts are bounded, far below 64 KiB");
        out[len_at..len_at + 2].copy_from_slice(&len.to_be_bytes());
    }

    /// How many bytes follow the prefix.
    ///
    /// # Errors
    /// [`Malformed::UnknownKind`] if the stream is none of ours, [`Malformed::TooLong`] above [`Self::MAX_REST_BYTES`].
    pub fn rest_len(prefix: [u8; Self::PREFIX_BYTES]) -> Result<usize, Malformed> {
        if prefix[0] != MIRRORED {
            return Err(Malformed::UnknownKind(prefix[0]));
        }
        let len = usize::from(u16::from_be_bytes([prefix[1], prefix[2]]));
        if len > Self::MAX_REST_BYTES { Err(Malformed::TooLong(len)) } else { Ok(len) }
    }

    /// Decodes what follows the prefix.
    ///
    /// # Errors
    /// [`Malformed`] when it is too short, or the replica's name is no text.
    pub fn decode_rest(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(bytes);
        let rule = reader.u32()?;
        let flags = reader.u8()?;
        let is_v6 = flags & FLAG_V6 != 0;
        let (client, server) = (reader.socket_addr(is_v6)?, reader.socket_addr(is_v6)?);
        Ok(Self {
            rule,
            protocol: if flags & FLAG_UDP != 0 { RuleProtocol::Udp } else { RuleProtocol::Tcp },
            from_start: flags & FLAG_FROM_START != 0,
            client,
            server,
            seen_unix_micros: u64::from_be_bytes(reader.take()?),
            replica: std::str::from_utf8(reader.0).map_err(|_| Malformed::NotText)?.to_owned(),
        })
    }
}

fn in_v6(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        SocketAddr::V6(_) => address,
    }
}

/// What a frame is; its payload follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// The next bytes of a TCP connection.
    Bytes {
        /// The first of them was the first of a segment: where senders begin their messages.
        starts_segment: bool,
        /// The segment had PSH set: where senders end their messages.
        pushed: bool,
    },
    /// One UDP datagram.
    Datagram,
    /// Something is missing here; the payload is a [`Gap`].
    Gap,
    /// The client sent FIN; nothing follows.
    Finished,
    /// The client reset the connection; nothing follows.
    Reset,
    /// Nothing more is known: the flow was idle, or the tap forgot it. Nothing follows.
    Gone,
}

const BYTES: u8 = 0;
const DATAGRAM: u8 = 1;
const GAP: u8 = 2;
const FINISHED: u8 = 3;
const RESET: u8 = 4;
const GONE: u8 = 5;
const STARTS_SEGMENT: u8 = 0x10;
const PUSHED: u8 = 0x20;

/// The four bytes before a frame's payload: kind, and length as 24 bits, big-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameHeader {
    /// What the frame is.
    pub kind: FrameKind,
    /// Payload bytes, at most [`MAX_FRAME_BYTES`].
    pub len: usize,
}

impl FrameHeader {
    /// How long the encoding is.
    pub const BYTES: usize = 4;

    /// The encoding. `len` above [`MAX_FRAME_BYTES`] is a mistake of the caller's.
    pub fn encode(self) -> [u8; Self::BYTES] {
        debug_assert!(self.len <= MAX_FRAME_BYTES, "a frame of {} bytes", self.len);
        let kind = match self.kind {
            FrameKind::Bytes { starts_segment, pushed } => {
                BYTES | if starts_segment { STARTS_SEGMENT } else { 0 } | if pushed { PUSHED } else { 0 }
            }
            FrameKind::Datagram => DATAGRAM,
            FrameKind::Gap => GAP,
            FrameKind::Finished => FINISHED,
            FrameKind::Reset => RESET,
            FrameKind::Gone => GONE,
        };
        let len = u32::try_from(self.len).unwrap_or(u32::MAX).to_be_bytes();
        [kind, len[1], len[2], len[3]]
    }

    /// Decodes four bytes.
    ///
    /// # Errors
    /// [`Malformed`] for an unknown kind, or a length that no frame of that kind has.
    pub fn decode(bytes: [u8; Self::BYTES]) -> Result<Self, Malformed> {
        let [kind, a, b, c] = bytes;
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        let kind = match kind {
            kind if kind & !(STARTS_SEGMENT | PUSHED) == BYTES => {
                FrameKind::Bytes { starts_segment: kind & STARTS_SEGMENT != 0, pushed: kind & PUSHED != 0 }
            }
            DATAGRAM => FrameKind::Datagram,
            GAP => FrameKind::Gap,
            FINISHED => FrameKind::Finished,
            RESET => FrameKind::Reset,
            GONE => FrameKind::Gone,
            other => return Err(Malformed::UnknownKind(other)),
        };
        let most = match kind {
            FrameKind::Bytes { .. } | FrameKind::Datagram => MAX_FRAME_BYTES,
            FrameKind::Gap => Gap::BYTES,
            FrameKind::Finished | FrameKind::Reset | FrameKind::Gone => 0,
        };
        if len > most { Err(Malformed::TooLong(len)) } else { Ok(Self { kind, len }) }
    }
}

/// How much is missing, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub reason: LossReason,
    /// Payload bytes.
    pub bytes: u64,
    /// UDP datagrams, 0 for TCP.
    pub datagrams: u64,
}

impl Gap {
    /// How long the encoding is.
    pub const BYTES: usize = 17;

    /// The payload of a [`FrameKind::Gap`].
    pub fn encode(self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[0] = self.reason as u8;
        out[1..9].copy_from_slice(&self.bytes.to_be_bytes());
        out[9..].copy_from_slice(&self.datagrams.to_be_bytes());
        out
    }

    /// Decodes a payload.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] when it is too short.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(bytes);
        let reason = reader.u8()?.into();
        Ok(Self { reason, bytes: u64::from_be_bytes(reader.take()?), datagrams: u64::from_be_bytes(reader.take()?) })
    }

    /// The whole frame.
    pub fn frame(self) -> [u8; FrameHeader::BYTES + Self::BYTES] {
        let mut out = [0; FrameHeader::BYTES + Self::BYTES];
        out[..FrameHeader::BYTES].copy_from_slice(&FrameHeader { kind: FrameKind::Gap, len: Self::BYTES }.encode());
        out[FrameHeader::BYTES..].copy_from_slice(&self.encode());
        out
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_header_survives_the_wire(
            ips in prop_oneof![any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
                               any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b)))],
            ports: (u16, u16), rule: u32, udp: bool, from_start: bool, seen_unix_micros: u64, replica in "[a-z0-9.-]{0,512}",
        ) {
            let header = MirrorHeader {
                rule,
                protocol: if udp { RuleProtocol::Udp } else { RuleProtocol::Tcp },
                from_start,
                client: SocketAddr::new(ips.0, ports.0),
                server: SocketAddr::new(ips.1, ports.1),
                seen_unix_micros,
                replica,
            };
            let mut bytes = Vec::new();
            header.encode(&mut bytes);
            let (prefix, rest) = bytes.split_first_chunk().unwrap();
            prop_assert_eq!(MirrorHeader::rest_len(*prefix), Ok(rest.len()));
            prop_assert_eq!(MirrorHeader::decode_rest(rest), Ok(header));
        }

        #[test]
        fn any_bytes_decode_without_a_panic(bytes: Vec<u8>, four: [u8; 4]) {
            let _ = MirrorHeader::decode_rest(&bytes);
            let _ = Gap::decode(&bytes);
            if let Ok(header) = FrameHeader::decode(four) {
                prop_assert!(header.len <= MAX_FRAME_BYTES);
                prop_assert_eq!(header.encode(), four);
            }
        }

        #[test]
        fn a_gap_survives_the_wire(bytes: u64, datagrams: u64, reason in 0u8..7) {
            let gap = Gap { reason: reason.into(), bytes, datagrams };
            prop_assert_eq!(Gap::decode(&gap.encode()), Ok(gap));
        }
    }

    #[test]
    fn a_name_that_is_too_long_is_cut_at_a_character() {
        let address = "[::1]:1".parse().unwrap();
        let replica = "é".repeat(MAX_REPLICA_BYTES);
        let mut bytes = Vec::new();
        let (protocol, seen_unix_micros) = (RuleProtocol::Tcp, 0);
        MirrorHeader {
            rule: 0,
            protocol,
            from_start: true,
            client: address,
            server: address,
            seen_unix_micros,
            replica,
        }
        .encode(&mut bytes);
        let (prefix, rest) = bytes.split_first_chunk().unwrap();
        assert_eq!(MirrorHeader::rest_len(*prefix), Ok(rest.len()));
        assert_eq!(MirrorHeader::decode_rest(rest).unwrap().replica.len(), MAX_REPLICA_BYTES);
    }
}
