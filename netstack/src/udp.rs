//! UDP: [`Datagram`], a checked view of what an application sent, and [`write()`], what the cluster sent to it.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smoltcp::wire::checksum;

    use super::*;

    fn addresses(ipv6: bool) -> (ClusterAddr, HostAddr) {
        let (from, to) = if ipv6 { ("[fd01::1]:53", "[fd00::1]:4000") } else { ("10.96.0.1:53", "10.0.0.1:4000") };
        (ClusterAddr(from.parse().unwrap()), HostAddr(to.parse().unwrap()))
    }

    /// The packet, with its checksum finished as the kernel does, and whether it is then right.
    fn finish(bytes: &mut [u8]) -> (&[u8], bool) {
        let start = usize::from(u16::from_ne_bytes([bytes[6], bytes[7]]));
        let packet = &mut bytes[virtio::HEADER_BYTES..];
        let sum = !checksum::data(&packet[start..]);
        packet[start + 6..start + 8].copy_from_slice(&sum.to_be_bytes());
        let parsed = Packet::parse(packet).unwrap();
        let protocol = smoltcp::wire::IpProtocol::Udp;
        let len = u32::try_from(parsed.payload().len()).unwrap();
        let pseudo = checksum::pseudo_header(&parsed.source().into(), &parsed.destination().into(), protocol, len);
        let right = checksum::combine(&[pseudo, checksum::data(parsed.payload())]) == 0xffff;
        (packet, right)
    }

    proptest! {
        #[test]
        fn a_datagram_is_read_as_it_was_written(ipv6: bool, payload: Vec<u8>) {
            let (from, to) = addresses(ipv6);
            let mut scratch = vec![0xaa; virtio::SCRATCH_BYTES];
            let len = write(&mut scratch, from, to, &payload).unwrap();
            let (packet, right) = finish(&mut scratch[..len]);
            prop_assert!(right);
            let datagram = Datagram::parse(Packet::parse(packet).unwrap()).unwrap();
            prop_assert_eq!(datagram.payload(), payload.as_slice());
            // Seen from the host, who sent is the host.
            prop_assert_eq!(datagram.key(), FlowKey { host: HostAddr(from.0), cluster: ClusterAddr(to.0), protocol: Protocol::Udp });
        }
    }

    #[test]
    fn the_largest_payload_fits_and_one_more_does_not() {
        for (ipv6, largest) in [(false, 65_507), (true, 65_527)] {
            let (from, to) = addresses(ipv6);
            assert!(Headers::new(from, to, largest).is_some());
            assert!(Headers::new(from, to, largest + 1).is_none());
        }
        let mut scratch = vec![0; virtio::SCRATCH_BYTES];
        let (from, to) = addresses(false);
        assert_eq!(write(&mut scratch, from, to, &[1; 65_507]), Some(virtio::HEADER_BYTES + 65_535));
        assert_eq!(write(&mut scratch[..100], from, to, &[1; 65_507]), None);
    }

    #[test]
    fn two_families_make_no_packet() {
        let (from, _) = addresses(false);
        let (_, to) = addresses(true);
        assert!(Headers::new(from, to, 1).is_none());
    }

    #[test]
    fn a_lying_length_or_a_port_of_zero_is_named() {
        let (from, to) = addresses(false);
        let mut scratch = vec![0; 128];
        let len = write(&mut scratch, from, to, b"payload").unwrap();
        let packet = &mut scratch[virtio::HEADER_BYTES..len];
        let reason = |packet: &[u8]| Datagram::parse(Packet::parse(packet).unwrap()).map(|_| ()).unwrap_err();
        let udp = 20;
        for (len, expected) in [(7, DropReason::UdpLength), (16, DropReason::UdpLength)] {
            packet[udp + 5] = len;
            assert_eq!(reason(packet), expected);
        }
        packet[udp + 5] = 15;
        packet[udp..udp + 2].fill(0);
        assert_eq!(reason(packet), DropReason::PortZero);
        packet[2..4].copy_from_slice(&27u16.to_be_bytes());
        assert_eq!(reason(packet), DropReason::Truncated);
    }
}
