//! What travels without a stream of its own: UDP payloads, echoes, and what became of them.
//!
//! One message fills one QUIC datagram; one that is larger than the path carries goes alone on a unidirectional stream, opened by
//! the sender and finished behind it, so it needs no length. Loss and reordering are what UDP already has.
//! Before: `tunnel::outbound::{udp, icmp}`; after: `gateway::{udp, icmp}`; and back.

use std::net::{IpAddr, SocketAddr};

pub use crate::wire::Malformed;
use crate::wire::{Reader, put_ip, put_socket_addr};

/// Largest encoded message: the largest UDP payload over IPv6 with jumbo-free lengths, plus our own header.
pub const MAX_BYTES: usize = 65_535 + 32;

/// A message without a stream. `flow` is the session's number for a UDP flow (host address, cluster address), unique while the link lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datagram<'a> {
    /// Session to gateway: send a payload. Every message names the address, so none depends on an earlier one.
    UdpOut {
        /// The session's number for the flow.
        flow: u32,
        /// The cluster address.
        to: SocketAddr,
        /// The UDP payload, 0 to 65,527 bytes.
        payload: &'a [u8],
    },
    /// Gateway to session: the flow's peer sent a payload.
    UdpIn {
        /// The session's number for the flow.
        flow: u32,
        /// The UDP payload, 0 to 65,527 bytes.
        payload: &'a [u8],
    },
    /// Gateway to session: the flow's peer cannot be reached.
    UdpUnreachable {
        /// The session's number for the flow.
        flow: u32,
        /// Why.
        why: Unreachable,
    },
    /// Session to gateway: send an ICMP echo request.
    EchoOut {
        /// The session's number for the pinging program and its target.
        id: u32,
        /// The echo's sequence number.
        seq: u16,
        /// The cluster address.
        to: IpAddr,
        /// What follows the echo header.
        payload: &'a [u8],
    },
    /// Gateway to session: the real answer came.
    EchoIn {
        /// As in the request.
        id: u32,
        /// As in the request.
        seq: u16,
        /// What was left of the answer's time to live, in hops, for the host's own answer.
        ttl: u8,
        /// What follows the echo header.
        payload: &'a [u8],
    },
    /// Gateway to session: no answer can come.
    EchoUnreachable {
        /// As in the request.
        id: u32,
        /// As in the request.
        seq: u16,
        /// Why.
        why: Unreachable,
    },
}

/// Why a datagram or an echo cannot arrive; becomes an ICMP unreachable on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Unreachable {
    /// Nothing listens on the port.
    Port = 0,
    /// The host does not answer.
    Host = 1,
    /// The gateway has no route.
    Network = 2,
    /// The gateway's rules forbid it.
    Prohibited = 3,
}

impl TryFrom<u8> for Unreachable {
    type Error = Malformed;

    fn try_from(byte: u8) -> Result<Self, Malformed> {
        [Self::Port, Self::Host, Self::Network, Self::Prohibited]
            .get(usize::from(byte))
            .copied()
            .ok_or(Malformed::UnknownKind(byte))
    }
}

const UDP_OUT_V4: u8 = 0;
const UDP_OUT_V6: u8 = 1;
const UDP_IN: u8 = 2;
const UDP_UNREACHABLE: u8 = 3;
const ECHO_OUT_V4: u8 = 4;
const ECHO_OUT_V6: u8 = 5;
const ECHO_IN: u8 = 6;
const ECHO_UNREACHABLE: u8 = 7;

impl<'a> Datagram<'a> {
    /// Appends the encoding to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::UdpOut { flow, to, payload } => {
                out.push(if to.is_ipv4() { UDP_OUT_V4 } else { UDP_OUT_V6 });
                out.extend_from_slice(&flow.to_be_bytes());
                put_socket_addr(out, to);
                out.extend_from_slice(payload);
            }
            Self::UdpIn { flow, payload } => {
                out.push(UDP_IN);
                out.extend_from_slice(&flow.to_be_bytes());
                out.extend_from_slice(payload);
            }
            Self::UdpUnreachable { flow, why } => {
                out.push(UDP_UNREACHABLE);
                out.extend_from_slice(&flow.to_be_bytes());
                out.push(why as u8);
            }
            Self::EchoOut { id, seq, to, payload } => {
                out.push(if to.is_ipv4() { ECHO_OUT_V4 } else { ECHO_OUT_V6 });
                put_echo(out, id, seq);
                put_ip(out, to);
                out.extend_from_slice(payload);
            }
            Self::EchoIn { id, seq, ttl, payload } => {
                out.push(ECHO_IN);
                put_echo(out, id, seq);
                out.push(ttl);
                out.extend_from_slice(payload);
            }
            Self::EchoUnreachable { id, seq, why } => {
                out.push(ECHO_UNREACHABLE);
                put_echo(out, id, seq);
                out.push(why as u8);
            }
        }
    }

    /// Decodes one whole message.
    ///
    /// # Errors
    /// [`Malformed`] when `bytes` is too short or a kind in it unknown.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(bytes);
        match reader.u8()? {
            kind @ (UDP_OUT_V4 | UDP_OUT_V6) => {
                let flow = reader.u32()?;
                let to = reader.socket_addr(kind == UDP_OUT_V6)?;
                Ok(Self::UdpOut { flow, to, payload: reader.0 })
            }
            UDP_IN => Ok(Self::UdpIn { flow: reader.u32()?, payload: reader.0 }),
            UDP_UNREACHABLE => Ok(Self::UdpUnreachable { flow: reader.u32()?, why: reader.u8()?.try_into()? }),
            kind @ (ECHO_OUT_V4 | ECHO_OUT_V6) => {
                let (id, seq) = (reader.u32()?, reader.u16()?);
                let to = reader.ip(kind == ECHO_OUT_V6)?;
                Ok(Self::EchoOut { id, seq, to, payload: reader.0 })
            }
            ECHO_IN => {
                let (id, seq) = (reader.u32()?, reader.u16()?);
                let ttl = reader.u8()?;
                Ok(Self::EchoIn { id, seq, ttl, payload: reader.0 })
            }
            ECHO_UNREACHABLE => {
                Ok(Self::EchoUnreachable { id: reader.u32()?, seq: reader.u16()?, why: reader.u8()?.try_into()? })
            }
            other => Err(Malformed::UnknownKind(other)),
        }
    }
}

fn put_echo(out: &mut Vec<u8>, id: u32, seq: u16) {
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&seq.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_datagram_survives_the_wire(flow: u32, seq: u16, ttl: u8, ip: IpAddr, port: u16, payload: Vec<u8>, why in 0u8..4) {
            let payload = payload.as_slice();
            let why = Unreachable::try_from(why).unwrap();
            for datagram in [
                Datagram::UdpOut { flow, to: SocketAddr::new(ip, port), payload },
                Datagram::UdpIn { flow, payload },
                Datagram::UdpUnreachable { flow, why },
                Datagram::EchoOut { id: flow, seq, to: ip, payload },
                Datagram::EchoIn { id: flow, seq, ttl, payload },
                Datagram::EchoUnreachable { id: flow, seq, why },
            ] {
                let mut bytes = Vec::new();
                datagram.encode(&mut bytes);
                prop_assert_eq!(Datagram::decode(&bytes), Ok(datagram));
            }
        }

        #[test]
        fn any_bytes_decode_without_a_panic(bytes: Vec<u8>) {
            let _ = Datagram::decode(&bytes);
        }
    }
}
