//! Numbers of the DNS wire format and a bounded reader over a message. Pure. Used by `query`, `reply` and `encode`.

use thiserror::Error;

/// Identifier, flags and four counts.
pub(super) const HEADER_BYTES: usize = 12;
/// The largest DNS message (a TCP frame's length is 16 bits).
pub(super) const MAX_MESSAGE_BYTES: usize = 65_535;
/// The largest content of a UDP datagram over IPv4.
pub(super) const MAX_UDP_BYTES: usize = 65_507;
/// What a UDP answer may have without EDNS (RFC 1035, 4.2.1).
pub(super) const PLAIN_UDP_BYTES: u16 = 512;
/// What we say that we can take: the DNS flag day's value, which fits every path without fragments.
pub(super) const OUR_UDP_BYTES: u16 = 1232;

/// Flag bits, in the second 16 bits of the header.
pub(super) mod flag {
    pub(in super::super) const RESPONSE: u16 = 1 << 15;
    pub(in super::super) const AUTHORITATIVE: u16 = 1 << 10;
    pub(in super::super) const TRUNCATED: u16 = 1 << 9;
    pub(in super::super) const RECURSION_DESIRED: u16 = 1 << 8;
    pub(in super::super) const RECURSION_AVAILABLE: u16 = 1 << 7;
    pub(in super::super) const AUTHENTIC_DATA: u16 = 1 << 5;
    pub(in super::super) const CHECKING_DISABLED: u16 = 1 << 4;
    pub(in super::super) const CODE: u16 = 0xf;
    /// In the OPT record's flags: the asker wants DNSSEC records.
    pub(in super::super) const DNSSEC_OK: u16 = 1 << 15;
}

/// Response codes.
pub(super) mod code {
    pub(in super::super) const NO_ERROR: u16 = 0;
    pub(in super::super) const FORMAT_ERROR: u16 = 1;
    pub(in super::super) const SERVER_FAILURE: u16 = 2;
    pub(in super::super) const NO_SUCH_NAME: u16 = 3;
    pub(in super::super) const NOT_IMPLEMENTED: u16 = 4;
    pub(in super::super) const REFUSED: u16 = 5;
    /// An EDNS version above ours; its upper bits go into the OPT record (RFC 6891, 9).
    pub(in super::super) const BAD_VERSION: u16 = 16;
}

/// Record types that are treated apart. All others pass as they are.
pub(super) mod kind {
    pub(in super::super) const A: u16 = 1;
    pub(in super::super) const CNAME: u16 = 5;
    pub(in super::super) const SOA: u16 = 6;
    pub(in super::super) const AAAA: u16 = 28;
    pub(in super::super) const OPT: u16 = 41;
    pub(in super::super) const IXFR: u16 = 251;
    pub(in super::super) const AXFR: u16 = 252;
}

/// The class of the internet.
pub(super) const CLASS_IN: u16 = 1;

/// The bytes are no DNS message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a malformed DNS message")]
pub(super) struct Malformed;

/// Reads a message from front to back and never past its end.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn at(message: &'a [u8], at: usize) -> Self {
        Self { message, at }
    }

    pub(super) const fn message(&self) -> &'a [u8] {
        self.message
    }

    pub(super) const fn position(&self) -> usize {
        self.at
    }

    pub(super) const fn is_at_end(&self) -> bool {
        self.at >= self.message.len()
    }

    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let bytes = self.message.get(self.at..).and_then(|rest| rest.get(..len)).ok_or(Malformed)?;
        self.at += len;
        Ok(bytes)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.bytes(1)?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        let bytes = self.bytes(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from(self.u16()?) << 16 | u32::from(self.u16()?))
    }
}
