//! The first bytes of a bidirectional stream, and the gateway's answer to a dial.
//!
//! A TCP stream: header, then the gateway writes one [`DialOutcome`] byte; on [`DialOutcome::Connected`] both directions
//! carry payload until FIN or RESET_STREAM, otherwise the gateway finishes its side. A DNS stream: header, the query as a raw
//! DNS message and FIN; the answer comes back as a raw DNS message and FIN. Before: `tunnel::outbound`; after: `gateway::session`.

use std::net::SocketAddr;

pub use crate::wire::Malformed;
use crate::wire::{Reader, put_socket_addr};

/// What a stream carries. Encoded as a kind byte and an address where there is one: at most [`StreamHeader::MAX_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamHeader {
    /// The control stream: length-framed [`crate::control`] messages. The first stream of a link, opened once.
    Control,
    /// One TCP flow to this cluster address.
    Tcp(SocketAddr),
    /// One DNS query for the cluster's nameserver.
    Dns,
}

const CONTROL: u8 = 0;
const TCP_V4: u8 = 1;
const TCP_V6: u8 = 2;
const DNS: u8 = 3;

impl StreamHeader {
    /// Kind byte, 16 bytes of address, 2 of port.
    pub const MAX_BYTES: usize = 19;

    /// Appends the encoding to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Control => out.push(CONTROL),
            Self::Dns => out.push(DNS),
            Self::Tcp(addr) => {
                out.push(if addr.is_ipv4() { TCP_V4 } else { TCP_V6 });
                put_socket_addr(out, *addr);
            }
        }
    }

    /// How many bytes follow the kind byte.
    ///
    /// # Errors
    /// [`Malformed::UnknownKind`] for a kind that this version does not know.
    pub const fn rest_len(kind: u8) -> Result<usize, Malformed> {
        match kind {
            CONTROL | DNS => Ok(0),
            TCP_V4 => Ok(6),
            TCP_V6 => Ok(18),
            other => Err(Malformed::UnknownKind(other)),
        }
    }

    /// Decodes a whole header; bytes behind it are ignored.
    ///
    /// # Errors
    /// [`Malformed`] when `bytes` is too short or its kind unknown.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(bytes);
        match reader.u8()? {
            CONTROL => Ok(Self::Control),
            DNS => Ok(Self::Dns),
            kind @ (TCP_V4 | TCP_V6) => Ok(Self::Tcp(reader.socket_addr(kind == TCP_V6)?)),
            other => Err(Malformed::UnknownKind(other)),
        }
    }
}

/// How the gateway's dial ended: one byte, before any payload. The session turns it into what the application's `connect()` sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DialOutcome {
    /// Connected: SYN-ACK.
    Connected = 0,
    /// The service refused: RST, `ECONNREFUSED`.
    Refused = 1,
    /// No answer in the gateway's time: silence, `ETIMEDOUT` in the application's own time.
    TimedOut = 2,
    /// The host does not answer or says so: ICMP host unreachable, `EHOSTUNREACH`.
    HostUnreachable = 3,
    /// The gateway has no route: ICMP network unreachable, `ENETUNREACH`.
    NetworkUnreachable = 4,
    /// The gateway's rules forbid it: ICMP administratively prohibited, `EHOSTUNREACH`.
    Prohibited = 5,
    /// The session is at its limit of flows or dials: silence, so the application's kernel tries again.
    Busy = 6,
}

impl TryFrom<u8> for DialOutcome {
    type Error = Malformed;

    fn try_from(byte: u8) -> Result<Self, Malformed> {
        [
            Self::Connected,
            Self::Refused,
            Self::TimedOut,
            Self::HostUnreachable,
            Self::NetworkUnreachable,
            Self::Prohibited,
            Self::Busy,
        ]
        .get(usize::from(byte))
        .copied()
        .ok_or(Malformed::UnknownKind(byte))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_header_survives_the_wire(ip: std::net::IpAddr, port: u16) {
            for header in [StreamHeader::Control, StreamHeader::Dns, StreamHeader::Tcp(SocketAddr::new(ip, port))] {
                let mut bytes = Vec::new();
                header.encode(&mut bytes);
                prop_assert!(bytes.len() <= StreamHeader::MAX_BYTES);
                prop_assert_eq!(StreamHeader::rest_len(bytes[0]), Ok(bytes.len() - 1));
                prop_assert_eq!(StreamHeader::decode(&bytes), Ok(header));
                if bytes.len() > 1 {
                    prop_assert_eq!(StreamHeader::decode(&bytes[..bytes.len() - 1]), Err(Malformed::Truncated));
                }
            }
        }

        #[test]
        fn any_bytes_decode_without_a_panic(bytes: Vec<u8>) {
            let _ = StreamHeader::decode(&bytes);
        }
    }

    #[test]
    fn every_outcome_survives_the_wire() {
        for byte in 0..=6 {
            assert_eq!(DialOutcome::try_from(byte).map(|outcome| outcome as u8), Ok(byte));
        }
        assert_eq!(DialOutcome::try_from(7), Err(Malformed::UnknownKind(7)));
    }
}
