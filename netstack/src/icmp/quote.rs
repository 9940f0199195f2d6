//! [`Quote`]: the packet that an ICMP error is about: the packet itself, or its headers made again when it is long gone.
//! Used by [`super::write_unreachable`].

use std::net::IpAddr;

use super::{HEADER_BYTES, V4_ECHO_REQUEST, V6_ECHO_REQUEST};
use crate::{
    flow::FlowKey,
    packet::{IpHeader, IpProtocol, Packet},
    segment::{self, Fields, MAX_HEADERS_BYTES},
};

/// What an ICMP error quotes. The kernel finds the socket by it: addresses and ports, and TCP's sequence number.
#[derive(Debug, Clone, Copy)]
pub struct Quote<'a> {
    source: Source<'a>,
    host: IpAddr,
    cluster: IpAddr,
}

#[derive(Debug, Clone, Copy)]
enum Source<'a> {
    Packet(&'a [u8]),
    Headers { bytes: [u8; MAX_HEADERS_BYTES], len: usize },
}

impl<'a> Quote<'a> {
    /// The packet itself.
    pub const fn packet(packet: &Packet<'a>) -> Self {
        Self { source: Source::Packet(packet.bytes()), host: packet.source(), cluster: packet.destination() }
    }

    /// The beginning of the SYN that opened a flow.
    pub fn syn(key: &FlowKey, sequence: u32) -> Self {
        let mut bytes = [0; MAX_HEADERS_BYTES];
        let fields = Fields { flags: segment::SYN, sequence, acknowledged: 0, window: 0 };
        let ip = segment::write(&mut bytes, key.host.0, key.cluster.0, fields);
        Self::made(key.host.0.ip(), key.cluster.0.ip(), bytes, ip)
    }

    /// The headers of a datagram of a UDP flow.
    pub fn datagram(key: &FlowKey) -> Self {
        let mut udp = [0; crate::udp::HEADER_BYTES];
        put_ports(&mut udp, key);
        udp[5] = 8;
        Self::headers(key.host.0.ip(), key.cluster.0.ip(), IpProtocol::Udp, &udp)
    }

    /// The headers of an echo request.
    pub fn echo(host: IpAddr, cluster: IpAddr, ident: u16, sequence: u16) -> Self {
        let (protocol, kind) = match host {
            IpAddr::V4(_) => (IpProtocol::Icmpv4, V4_ECHO_REQUEST),
            IpAddr::V6(_) => (IpProtocol::Icmpv6, V6_ECHO_REQUEST),
        };
        let mut icmp = [0; HEADER_BYTES];
        icmp[0] = kind;
        icmp[4..6].copy_from_slice(&ident.to_be_bytes());
        icmp[6..8].copy_from_slice(&sequence.to_be_bytes());
        Self::headers(host, cluster, protocol, &icmp)
    }

    fn headers(host: IpAddr, cluster: IpAddr, protocol: IpProtocol, transport: &[u8]) -> Self {
        let transport_len = u16::try_from(transport.len()).expect("a header is short");
        let mut bytes = [0; MAX_HEADERS_BYTES];
        let ip = IpHeader::new(host, cluster, protocol, transport_len);
        if let Some(ip) = ip {
            ip.write(&mut bytes);
            bytes[ip.len()..ip.total_len()].copy_from_slice(transport);
        }
        Self::made(host, cluster, bytes, ip)
    }

    /// Two families in one flow cannot be: then nothing is quoted, and nothing will be found by it.
    fn made(host: IpAddr, cluster: IpAddr, bytes: [u8; MAX_HEADERS_BYTES], ip: Option<IpHeader>) -> Self {
        let len = ip.map_or(0, |ip| ip.total_len());
        Self { source: Source::Headers { bytes, len }, host, cluster }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match &self.source {
            Source::Packet(bytes) => bytes,
            Source::Headers { bytes, len } => &bytes[..*len],
        }
    }

    /// Where the packet came from, and where it went.
    pub(super) const fn addresses(&self) -> (IpAddr, IpAddr) {
        (self.host, self.cluster)
    }
}

fn put_ports(transport: &mut [u8], key: &FlowKey) {
    transport[..2].copy_from_slice(&key.host.0.port().to_be_bytes());
    transport[2..4].copy_from_slice(&key.cluster.0.port().to_be_bytes());
}
