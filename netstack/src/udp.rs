//! UDP: [`Datagram`], a checked view of what an application sent, and [`write`], what the cluster sent to it.
//!
//! Before: [`crate::packet`]; after: [`crate::flow_table`] and `tunnel::outbound::udp`, and back.

use std::net::SocketAddr;

use crate::{
    drop_reason::DropReason,
    flow::{ClusterAddr, FlowKey, HostAddr, Protocol},
    packet::{IpHeader, IpProtocol, Packet, word},
    virtio,
};

/// Length of the header.
pub(crate) const HEADER_BYTES: usize = 8;

/// Where the checksum is in the header.
const CHECKSUM_OFFSET: u16 = 6;

/// Length of [`Headers`] over IPv6, the longest.
const MAX_HEADERS_BYTES: usize = virtio::HEADER_BYTES + 40 + HEADER_BYTES;

/// One UDP datagram from an application.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    packet: Packet<'a>,
    key: FlowKey,
    payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Checks the UDP header of `packet`, which must be no fragment.
    ///
    /// # Errors
    /// The reason to drop it.
    pub fn parse(packet: Packet<'a>) -> Result<Self, DropReason> {
        let udp = packet.payload();
        if udp.len() < HEADER_BYTES {
            return Err(DropReason::Truncated);
        }
        let (source_port, destination_port) = (word(udp, 0), word(udp, 2));
        if source_port == 0 || destination_port == 0 {
            return Err(DropReason::PortZero);
        }
        let len = usize::from(word(udp, 4));
        let payload = udp.get(HEADER_BYTES..len).ok_or(DropReason::UdpLength)?;
        let key = FlowKey {
            host: HostAddr(SocketAddr::new(packet.source(), source_port)),
            cluster: ClusterAddr(SocketAddr::new(packet.destination(), destination_port)),
            protocol: Protocol::Udp,
        };
        Ok(Self { packet, key, payload })
    }

    /// The flow that it belongs to.
    pub const fn key(&self) -> FlowKey {
        self.key
    }

    /// Its payload, at most 65,507 bytes over IPv4 and 65,527 over IPv6.
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The IP packet around it, for an ICMP error to quote.
    pub const fn packet(&self) -> Packet<'a> {
        self.packet
    }
}

/// The headers in front of a payload, virtio header included: write both with one `writev(2)`, and no byte of payload is copied.
#[derive(Debug, Clone, Copy)]
pub struct Headers {
    bytes: [u8; MAX_HEADERS_BYTES],
    len: usize,
}

impl Headers {
    /// The headers of `payload_len` bytes from the cluster to an application. `None` when they do not fit one packet, or the two
    /// addresses are not of one family.
    pub fn new(from: ClusterAddr, to: HostAddr, payload_len: usize) -> Option<Self> {
        let udp_len = u16::try_from(HEADER_BYTES + payload_len).ok()?;
        let ip = IpHeader::new(from.0.ip(), to.0.ip(), IpProtocol::Udp, udp_len)?;
        let mut bytes = [0; MAX_HEADERS_BYTES];
        let (virtio, rest) = bytes.split_at_mut(virtio::HEADER_BYTES);
        virtio.copy_from_slice(&virtio::unfinished(ip.len(), CHECKSUM_OFFSET));
        ip.write(rest);
        let udp = &mut rest[ip.len()..][..HEADER_BYTES];
        udp[..2].copy_from_slice(&from.0.port().to_be_bytes());
        udp[2..4].copy_from_slice(&to.0.port().to_be_bytes());
        udp[4..6].copy_from_slice(&udp_len.to_be_bytes());
        udp[6..].copy_from_slice(&ip.pseudo_sum().to_be_bytes());
        Some(Self { bytes, len: virtio::HEADER_BYTES + ip.len() + HEADER_BYTES })
    }

    /// The headers.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Lays a whole packet, virtio header included, into `scratch` ([`virtio::SCRATCH_BYTES`]); returns its length. `None` as with
/// [`Headers::new`], or when `scratch` is too short.
pub fn write(scratch: &mut [u8], from: ClusterAddr, to: HostAddr, payload: &[u8]) -> Option<usize> {
    let headers = Headers::new(from, to, payload.len())?;
    let len = headers.len + payload.len();
    let packet = scratch.get_mut(..len)?;
    packet[..headers.len].copy_from_slice(headers.as_bytes());
    packet[headers.len..].copy_from_slice(payload);
    Some(len)
}
