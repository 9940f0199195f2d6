//! [`Record`]: one thing that a tap says, about a flow or about itself, and how the tap writes it.
//!
//! Before: [`crate::tap`]; after: [`super::decoder`].

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use link::{
    mirrored::{FrameHeader, MAX_FRAME_BYTES},
    rules::RuleProtocol,
};

use super::FromTap;

/// A record's flow, kind and length.
pub const HEADER_BYTES: usize = 8 + FrameHeader::BYTES;
/// A kind that no frame of a mirrored flow has: the flow begins.
pub(super) const OPENED: u8 = 0x40;
/// A kind that no frame has: a [`FromTap`] in JSON.
pub(super) const SAID: u8 = 0x41;
/// A message of the tap about itself: twice the statistics of all ports; longer ones are nonsense.
pub(super) const MAX_SAID_BYTES: usize = 512 << 10;
const _: () = assert!(MAX_SAID_BYTES < 1 << 24 && MAX_FRAME_BYTES < 1 << 24, "a length has 24 bits");

/// A flow, as one tap numbers them. Of TCP and UDP together no two that live have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowNumber(pub(super) u64);

/// Numbers of UDP flows begin here, those of TCP connections at 1.
const FIRST_UDP: u64 = 1 << 33;

impl FlowNumber {
    /// The tap itself.
    pub(super) const TAP: Self = Self(0);

    /// Of a TCP connection, by its number in the reassembly.
    pub const fn tcp(number: u32) -> Self {
        Self(number as u64 + 1)
    }

    /// Of the UDP flow that was the `count`th.
    pub const fn udp(count: u64) -> Self {
        Self(FIRST_UDP + count)
    }

    /// The number, for a log.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

/// One thing that a tap says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// About itself.
    Said(FromTap),
    /// About a flow.
    Flow(FlowNumber, FromFlow),
}

/// What happened in a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromFlow {
    /// It begins; always the first.
    Opened(Opened),
    /// A frame to hand on: `header`, encoded, and its payload, together in `bytes`.
    Frame {
        /// What `bytes` begin with.
        header: FrameHeader,
        /// The whole frame.
        bytes: Bytes,
    },
}

/// What is known of a flow when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// TCP or UDP.
    pub protocol: RuleProtocol,
    /// Seen from its first byte; otherwise it was open before. Of UDP always so.
    pub from_start: bool,
    /// Who talks to the target.
    pub client: SocketAddr,
    /// The target's own address and port.
    pub server: SocketAddr,
    /// From 0 to 999,999, for [`link::rules::Sample::takes`].
    pub sample_number: u32,
    /// When it was first seen, microseconds since 1970-01-01 UTC.
    pub seen_unix_micros: u64,
}

impl Opened {
    pub(super) const BYTES: usize = 1 + 18 + 18 + 4 + 8;
    const FLAG_UDP: u8 = 1;
    const FLAG_FROM_START: u8 = 2;
    const FLAG_V4: u8 = 4;

    /// The whole record.
    pub fn record(&self, flow: FlowNumber) -> [u8; HEADER_BYTES + Self::BYTES] {
        let mut out = [0; HEADER_BYTES + Self::BYTES];
        out[..HEADER_BYTES].copy_from_slice(&header_bytes(flow, OPENED, Self::BYTES));
        let rest = &mut out[HEADER_BYTES..];
        rest[0] = if self.protocol == RuleProtocol::Udp { Self::FLAG_UDP } else { 0 }
            | if self.from_start { Self::FLAG_FROM_START } else { 0 }
            | if self.client.is_ipv4() { Self::FLAG_V4 } else { 0 };
        for (at, address) in [(1, self.client), (19, self.server)] {
            let ip = match address.ip() {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            rest[at..at + 16].copy_from_slice(&ip.octets());
            rest[at + 16..at + 18].copy_from_slice(&address.port().to_be_bytes());
        }
        rest[37..41].copy_from_slice(&self.sample_number.to_be_bytes());
        rest[41..].copy_from_slice(&self.seen_unix_micros.to_be_bytes());
        out
    }

    /// `None` if no tap says this.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let v4 = bytes[0] & Self::FLAG_V4 != 0;
        let address = |at: usize| {
            let octets: [u8; 16] = bytes[at..at + 16].try_into().expect("sixteen bytes");
            let ip = Ipv6Addr::from(octets);
            let ip = if v4 { IpAddr::V4(ip.to_ipv4_mapped()?) } else { IpAddr::V6(ip) };
            Some(SocketAddr::new(ip, u16::from_be_bytes([bytes[at + 16], bytes[at + 17]])))
        };
        let sample_number = u32::from_be_bytes(bytes[37..41].try_into().expect("four bytes"));
        (sample_number < 1_000_000).then_some(())?;
        Some(Self {
            protocol: if bytes[0] & Self::FLAG_UDP != 0 { RuleProtocol::Udp } else { RuleProtocol::Tcp },
            from_start: bytes[0] & Self::FLAG_FROM_START != 0,
            client: address(1)?,
            server: address(19)?,
            sample_number,
            seen_unix_micros: u64::from_be_bytes(bytes[41..].try_into().expect("eight bytes")),
        })
    }
}

/// What stands before the payload of a flow's frame.
pub fn record_header(flow: FlowNumber, header: FrameHeader) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    out[..8].copy_from_slice(&flow.0.to_be_bytes());
    out[8..].copy_from_slice(&header.encode());
    out
}

impl FromTap {
    /// The whole record.
    pub fn record(&self) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES];
        serde_json::to_writer(&mut out, self).expect("a message of numbers and texts is JSON");
        let len = out.len() - HEADER_BYTES;
        out[..HEADER_BYTES].copy_from_slice(&header_bytes(FlowNumber::TAP, SAID, len));
        out
    }
}

/// A record's first bytes.
pub(super) fn header_bytes(flow: FlowNumber, kind: u8, len: usize) -> [u8; HEADER_BYTES] {
    let [_, a, b, c] = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    let mut out = [0; HEADER_BYTES];
    out[..8].copy_from_slice(&flow.0.to_be_bytes());
    out[8..].copy_from_slice(&[kind, a, b, c]);
    out
}
