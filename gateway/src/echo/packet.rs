//! ICMP echo messages of both families (RFC 792, RFC 4443). Pure.

/// Bytes before an echo's payload: type, code, checksum, identifier, sequence number.
pub(super) const HEADER_BYTES: usize = 8;

const V4_REQUEST: u8 = 8;
const V4_REPLY: u8 = 0;
const V6_REQUEST: u8 = 128;
const V6_REPLY: u8 = 129;

/// Which of the two protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// An echo message's parts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EchoMessage<'a> {
    pub(super) ident: u16,
    pub(super) seq: u16,
    pub(super) payload: &'a [u8],
}

impl Family {
    /// An echo request, with its checksum where the kernel does not add it: for IPv6 it always does.
    pub(super) fn request(self, ident: u16, seq: u16, payload: &[u8]) -> Vec<u8> {
        let kind = match self {
            Self::V4 => V4_REQUEST,
            Self::V6 => V6_REQUEST,
        };
        let mut message = Vec::with_capacity(HEADER_BYTES + payload.len());
        message.extend([kind, 0, 0, 0]);
        message.extend(ident.to_be_bytes());
        message.extend(seq.to_be_bytes());
        message.extend(payload);
        if self == Self::V4 {
            let sum = checksum(&message).to_be_bytes();
            message[2..4].copy_from_slice(&sum);
        }
        message
    }

    /// The reply in these bytes, if they are one.
    pub(super) fn reply(self, message: &[u8]) -> Option<EchoMessage<'_>> {
        parse(message, if self == Self::V4 { V4_REPLY } else { V6_REPLY })
    }

    /// The request in these bytes, if they are one: an ICMP error quotes it.
    pub(super) fn quoted_request(self, message: &[u8]) -> Option<EchoMessage<'_>> {
        parse(message, if self == Self::V4 { V4_REQUEST } else { V6_REQUEST })
    }
}

fn parse(message: &[u8], kind: u8) -> Option<EchoMessage<'_>> {
    let (header, payload) = message.split_first_chunk::<HEADER_BYTES>()?;
    let [first, code, _, _, ident_high, ident_low, seq_high, seq_low] = *header;
    let is_right = first == kind && code == 0;
    is_right.then(|| EchoMessage {
        ident: u16::from_be_bytes([ident_high, ident_low]),
        seq: u16::from_be_bytes([seq_high, seq_low]),
        payload,
    })
}

/// What follows the IPv4 header that a raw socket leaves in front.
pub(super) fn behind_ipv4_header(packet: &[u8]) -> Option<&[u8]> {
    let header_len = usize::from(packet.first()? & 0x0f) * 4;
    packet.get(header_len.max(20)..)
}

/// The internet checksum (RFC 1071).
fn checksum(message: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from);
    // 64 KiB of words sum to less than 2^32.
    let sum: u32 = message.chunks(2).map(word).sum();
    let folded = (sum >> 16) + (sum & 0xffff);
    !u16::try_from((folded >> 16) + (folded & 0xffff)).expect("a sum folded twice has 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_sums_to_nothing_and_is_read_back_from_an_error() {
        for payload in [&b""[..], b"odd", &[0xff; 65_507]] {
            let request = Family::V4.request(0x1234, 7, payload);
            assert_eq!(checksum(&request), 0);
            let quoted = Family::V4.quoted_request(&request).unwrap();
            assert_eq!(quoted, EchoMessage { ident: 0x1234, seq: 7, payload });
            assert!(Family::V4.reply(&request).is_none());
        }
    }

    #[test]
    fn the_families_do_not_take_each_others_replies() {
        let mut reply = Family::V6.request(1, 2, b"x");
        reply[0] = V6_REPLY;
        assert!(Family::V6.reply(&reply).is_some() && Family::V4.reply(&reply).is_none());
        assert!(Family::V6.reply(&reply[..7]).is_none());
    }

    #[test]
    fn the_ipv4_header_is_skipped_with_its_options() {
        let mut packet = vec![0x46; 24];
        packet.extend(b"icmp");
        assert_eq!(behind_ipv4_header(&packet), Some(&b"icmp"[..]));
        assert_eq!(behind_ipv4_header(&[0x4f; 20]), None);
        assert_eq!(behind_ipv4_header(&[]), None);
    }
}
