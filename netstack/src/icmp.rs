//! ICMP of both families: [`Echo`], a request of an application, its real answer ([`write_echo_reply`]), and the errors that an
//! application's `connect()` or `recv()` reports ([`write_unreachable`]).
//!
//! Before: [`crate::packet`]; after: `tunnel::outbound::icmp`, and back. Checksums are real: the device leaves only TCP's and UDP's to
//! the kernel.

mod quote;

use std::net::IpAddr;

use smoltcp::wire::checksum;

pub use self::quote::Quote;
use crate::{
    drop_reason::DropReason,
    packet::{IpHeader, IpProtocol, Packet, word},
    virtio,
};

/// Type, code, checksum and the four bytes whose meaning depends on them.
const HEADER_BYTES: usize = 8;

const V4_ECHO_REPLY: u8 = 0;
const V4_UNREACHABLE: u8 = 3;
const V4_ECHO_REQUEST: u8 = 8;
const V6_UNREACHABLE: u8 = 1;
const V6_ECHO_REQUEST: u8 = 128;
const V6_ECHO_REPLY: u8 = 129;

/// The most that an error may be long: RFC 1812 4.3.2.3.
const V4_ERROR_BYTES: usize = 576;
/// And over IPv6: RFC 4443 2.4 (c).
const V6_ERROR_BYTES: usize = 1280;

/// One echo request.
#[derive(Debug, Clone, Copy)]
pub struct Echo<'a> {
    /// Who asks.
    pub host: IpAddr,
    /// Who is asked.
    pub cluster: IpAddr,
    /// Tells apart who asks on one host.
    pub ident: u16,
    /// Counts the requests.
    pub sequence: u16,
    /// Comes back unchanged.
    pub payload: &'a [u8],
}

impl<'a> Echo<'a> {
    /// Reads the echo request in `packet`, which must be no fragment.
    ///
    /// # Errors
    /// The reason to drop it, [`DropReason::IcmpKind`] for every other kind of message.
    pub fn parse(packet: &Packet<'a>) -> Result<Self, DropReason> {
        let icmp = packet.payload();
        if icmp.len() < HEADER_BYTES {
            return Err(DropReason::Truncated);
        }
        let request = if packet.protocol() == IpProtocol::Icmpv6 { V6_ECHO_REQUEST } else { V4_ECHO_REQUEST };
        if icmp[0] != request || icmp[1] != 0 {
            return Err(DropReason::IcmpKind);
        }
        Ok(Self {
            host: packet.source(),
            cluster: packet.destination(),
            ident: word(icmp, 4),
            sequence: word(icmp, 6),
            payload: &icmp[HEADER_BYTES..],
        })
    }
}

/// Why something cannot arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unreachable {
    /// Nothing listens on the port: `ECONNREFUSED`.
    Port,
    /// The host does not answer: `EHOSTUNREACH`.
    Host,
    /// No route: `ENETUNREACH`.
    Network,
    /// Forbidden: `EHOSTUNREACH` over IPv4, `EACCES` over IPv6.
    Prohibited,
}

impl Unreachable {
    /// RFC 792 and RFC 1812 5.2.7.1
    const fn v4_code(self) -> u8 {
        match self {
            Self::Network => 0,
            Self::Host => 1,
            Self::Port => 3,
            Self::Prohibited => 13,
        }
    }

    /// RFC 4443 3.1
    const fn v6_code(self) -> u8 {
        match self {
            Self::Network => 0,
            Self::Prohibited => 1,
            Self::Host => 3,
            Self::Port => 4,
        }
    }
}

/// Lays the answer to `echo` into `scratch` ([`virtio::SCRATCH_BYTES`]), virtio header included; returns its length. `hop_limit` is what
/// was left of the real answer's. `None` when `scratch` is too short.
pub fn write_echo_reply(scratch: &mut [u8], echo: &Echo<'_>, hop_limit: u8) -> Option<usize> {
    let kind = if echo.host.is_ipv6() { V6_ECHO_REPLY } else { V4_ECHO_REPLY };
    let mut rest = [0; 4];
    rest[..2].copy_from_slice(&echo.ident.to_be_bytes());
    rest[2..].copy_from_slice(&echo.sequence.to_be_bytes());
    write(scratch, (echo.cluster, echo.host), hop_limit, (kind, 0, rest), echo.payload)
}

/// Lays an error about the packet in `quote`, sent to where it came from, into `scratch`, virtio header included; returns its length.
/// It claims to come from the packet's destination. `None` when `scratch` is too short.
pub fn write_unreachable(scratch: &mut [u8], why: Unreachable, quote: &Quote<'_>) -> Option<usize> {
    let (host, cluster) = quote.addresses();
    let (kind, code, error_bytes, ip_bytes) = if host.is_ipv6() {
        (V6_UNREACHABLE, why.v6_code(), V6_ERROR_BYTES, 40)
    } else {
        (V4_UNREACHABLE, why.v4_code(), V4_ERROR_BYTES, 20)
    };
    let quoted = quote.as_bytes();
    let quoted = &quoted[..quoted.len().min(error_bytes - ip_bytes - HEADER_BYTES)];
    write(scratch, (cluster, host), 64, (kind, code, [0; 4]), quoted)
}

fn write(
    scratch: &mut [u8],
    (from, to): (IpAddr, IpAddr),
    hop_limit: u8,
    (kind, code, rest): (u8, u8, [u8; 4]),
    payload: &[u8],
) -> Option<usize> {
    let protocol = if from.is_ipv6() { IpProtocol::Icmpv6 } else { IpProtocol::Icmpv4 };
    let icmp_len = HEADER_BYTES + payload.len();
    let ip = IpHeader::new(from, to, protocol, u16::try_from(icmp_len).ok()?)?.with_hop_limit(hop_limit);
    let len = virtio::HEADER_BYTES + ip.total_len();
    let (virtio, packet) = scratch.get_mut(..len)?.split_at_mut(virtio::HEADER_BYTES);
    virtio.copy_from_slice(&virtio::FINISHED);
    ip.write(packet);
    let icmp = &mut packet[ip.len()..];
    icmp[..4].copy_from_slice(&[kind, code, 0, 0]);
    icmp[4..HEADER_BYTES].copy_from_slice(&rest);
    icmp[HEADER_BYTES..].copy_from_slice(payload);
    let pseudo_sum = if from.is_ipv6() { ip.pseudo_sum() } else { 0 };
    let sum = !checksum::combine(&[pseudo_sum, checksum::data(icmp)]);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    Some(len)
}

#[cfg(test)]
mod tests;
