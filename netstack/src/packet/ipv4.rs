//! The IPv4 header (RFC 791), options included, and its builder. Used by [`super::Packet::parse`] and the builders of packets.

use std::net::{IpAddr, Ipv4Addr};

use smoltcp::wire::checksum;

use super::{FragmentInfo, IpProtocol, Packet, word};
use crate::drop_reason::DropReason;

/// Without options.
pub(crate) const HEADER_BYTES: usize = 20;

const MORE_FRAGMENTS: u16 = 0x2000;
const DONT_FRAGMENT: u16 = 0x4000;
const OFFSET_MASK: u16 = 0x1fff;

pub(super) fn parse(bytes: &[u8], unsaid_len: Option<usize>) -> Result<Packet<'_>, DropReason> {
    if bytes.len() < HEADER_BYTES {
        return Err(DropReason::Truncated);
    }
    let header_len = usize::from(bytes[0] & 0x0f) * 4;
    let total_len = match usize::from(word(bytes, 2)) {
        0 => unsaid_len.filter(|&len| len > usize::from(u16::MAX)).unwrap_or(0),
        len => len,
    };
    if header_len < HEADER_BYTES || total_len < header_len {
        return Err(DropReason::IpHeader);
    }
    let bytes = bytes.get(..total_len).ok_or(DropReason::Truncated)?;
    let protocol = IpProtocol::parse(bytes[9], false)?;
    Ok(Packet {
        bytes,
        payload_at: header_len,
        protocol,
        source: address(bytes, 12),
        destination: address(bytes, 16),
        hop_limit: bytes[8],
        fragment: fragment(bytes, header_len),
    })
}

fn address(bytes: &[u8], at: usize) -> IpAddr {
    Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]).into()
}

fn fragment(bytes: &[u8], header_len: usize) -> Option<FragmentInfo> {
    let flags = word(bytes, 6);
    let (more, offset) = (flags & MORE_FRAGMENTS != 0, (flags & OFFSET_MASK) * 8);
    (more || offset > 0).then(|| FragmentInfo {
        id: u32::from(word(bytes, 4)),
        offset,
        more,
        header_at: header_len,
        announced_at: 0,
    })
}

/// Makes the header of a fragment that of a whole packet, but for [`set_total_len`].
pub(crate) fn clear_fragment(header: &mut [u8]) {
    header[6..8].fill(0);
}

/// Makes the header of `bytes`, a whole packet, right for its length.
pub(crate) fn set_total_len(bytes: &mut [u8]) {
    let total_len = u16::try_from(bytes.len()).expect("checked when it was reassembled");
    bytes[2..4].copy_from_slice(&total_len.to_be_bytes());
    let header_len = usize::from(bytes[0] & 0x0f) * 4;
    write_checksum(&mut bytes[..header_len]);
}

/// A header without options; `total_len` counts it.
pub(crate) fn write(
    out: &mut [u8],
    (source, destination): (Ipv4Addr, Ipv4Addr),
    protocol: u8,
    hop_limit: u8,
    total_len: u16,
) {
    out[0] = 0x45;
    out[1] = 0;
    out[2..4].copy_from_slice(&total_len.to_be_bytes());
    out[4..6].fill(0);
    out[6..8].copy_from_slice(&DONT_FRAGMENT.to_be_bytes());
    out[8] = hop_limit;
    out[9] = protocol;
    out[12..16].copy_from_slice(&source.octets());
    out[16..20].copy_from_slice(&destination.octets());
    write_checksum(&mut out[..HEADER_BYTES]);
}

fn write_checksum(header: &mut [u8]) {
    header[10..12].fill(0);
    let sum = !checksum::data(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}
