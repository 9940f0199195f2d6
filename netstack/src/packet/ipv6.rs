//! The IPv6 header and its extension headers (RFC 8200), and its builder. Used by [`super::Packet::parse`] and the builders of packets.
//!
//! Hop-by-hop, destination and routing headers are skipped; what is behind ESP cannot be read, and AH is not walked.

use std::net::{IpAddr, Ipv6Addr};

use super::{FragmentInfo, IpProtocol, Packet, word};
use crate::drop_reason::DropReason;

/// Without extension headers.
pub(crate) const HEADER_BYTES: usize = 40;

/// Length of the fragment header.
pub(crate) const FRAGMENT_HEADER_BYTES: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// Extension headers walked before the packet is dropped. RFC 8200 4.1 has at most five in front of a payload that can be read.
const MAX_EXTENSION_HEADERS: usize = 6;

pub(super) fn parse(bytes: &[u8], unsaid_len: Option<usize>) -> Result<Packet<'_>, DropReason> {
    if bytes.len() < HEADER_BYTES {
        return Err(DropReason::Truncated);
    }
    let len = match HEADER_BYTES + usize::from(word(bytes, 4)) {
        // RFC 2675, and Linux without its option
        HEADER_BYTES => unsaid_len.filter(|&len| len > HEADER_BYTES + usize::from(u16::MAX)).unwrap_or(HEADER_BYTES),
        len => len,
    };
    let bytes = bytes.get(..len).ok_or(DropReason::Truncated)?;
    let chain = walk(bytes)?;
    Ok(Packet {
        bytes,
        payload_at: chain.payload_at,
        protocol: IpProtocol::parse(chain.next, true)?,
        source: address(bytes, 8),
        destination: address(bytes, 24),
        hop_limit: bytes[7],
        fragment: chain.fragment,
    })
}

/// Where the extension headers ended.
struct Chain {
    next: u8,
    payload_at: usize,
    fragment: Option<FragmentInfo>,
}

fn walk(bytes: &[u8]) -> Result<Chain, DropReason> {
    let mut chain = Chain { next: bytes[6], payload_at: HEADER_BYTES, fragment: None };
    let mut announced_at = 6;
    for walked in 0..=MAX_EXTENSION_HEADERS {
        let at = chain.payload_at;
        match chain.next {
            // RFC 8200 4.1: only directly behind the IPv6 header
            HOP_BY_HOP if walked > 0 => return Err(DropReason::ExtensionHeader),
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => chain.payload_at += 8 + 8 * usize::from(byte(bytes, at + 1)?),
            FRAGMENT if chain.fragment.is_some() => return Err(DropReason::ExtensionHeader),
            FRAGMENT => {
                let info = fragment(bytes, at, announced_at)?;
                chain.payload_at += FRAGMENT_HEADER_BYTES;
                // What is behind a later fragment's header is data, whatever it looks like.
                let later = info.offset > 0;
                chain.fragment = (info.offset > 0 || info.more).then_some(info);
                if later {
                    chain.next = bytes[at];
                    return Ok(chain);
                }
            }
            _ => return Ok(chain),
        }
        if chain.payload_at > bytes.len() {
            return Err(DropReason::ExtensionHeader);
        }
        announced_at = at;
        chain.next = bytes[at];
    }
    Err(DropReason::ExtensionHeader)
}

fn fragment(bytes: &[u8], at: usize, announced_at: usize) -> Result<FragmentInfo, DropReason> {
    let header = bytes.get(at..at + FRAGMENT_HEADER_BYTES).ok_or(DropReason::ExtensionHeader)?;
    let flags = word(header, 2);
    Ok(FragmentInfo {
        id: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        offset: flags & 0xfff8,
        more: flags & 1 != 0,
        header_at: at,
        announced_at,
    })
}

fn byte(bytes: &[u8], at: usize) -> Result<u8, DropReason> {
    bytes.get(at).copied().ok_or(DropReason::ExtensionHeader)
}

fn address(bytes: &[u8], at: usize) -> IpAddr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[at..at + 16]);
    Ipv6Addr::from(octets).into()
}

/// Makes the header of `bytes`, a whole packet, right for its length.
pub(crate) fn set_payload_len(bytes: &mut [u8]) {
    let payload_len = u16::try_from(bytes.len() - HEADER_BYTES).expect("checked when it was reassembled");
    bytes[4..6].copy_from_slice(&payload_len.to_be_bytes());
}

/// A header in front of `payload_len` bytes.
pub(crate) fn write(
    out: &mut [u8],
    (source, destination): (Ipv6Addr, Ipv6Addr),
    next: u8,
    hop_limit: u8,
    payload_len: u16,
) {
    out[..4].copy_from_slice(&[0x60, 0, 0, 0]);
    out[4..6].copy_from_slice(&payload_len.to_be_bytes());
    out[6] = next;
    out[7] = hop_limit;
    out[8..24].copy_from_slice(&source.octets());
    out[24..40].copy_from_slice(&destination.octets());
}
