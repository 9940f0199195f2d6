//! Reading from a byte slice that a peer filled: every read is bounded and none panics.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// Why bytes from the peer are not what the protocol says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Malformed {
    /// More bytes are needed than there are.
    #[error("ends too early")]
    Truncated,
    /// A tag that this version does not know.
    #[error("unknown kind {0}")]
    UnknownKind(u8),
    /// A length above what there can be.
    #[error("a length of {0} is over the limit")]
    TooLong(usize),
    /// A name that is not UTF-8.
    #[error("a name is no text")]
    NotText,
}

/// Takes bytes from the front of a slice.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.take::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.take()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    pub(crate) fn ip(&mut self, v6: bool) -> Result<IpAddr, Malformed> {
        Ok(if v6 { Ipv6Addr::from(self.take::<16>()?).into() } else { Ipv4Addr::from(self.take::<4>()?).into() })
    }

    pub(crate) fn socket_addr(&mut self, v6: bool) -> Result<SocketAddr, Malformed> {
        let ip = self.ip(v6)?;
        Ok(SocketAddr::new(ip, self.u16()?))
    }
}

pub(crate) fn put_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(v4) => out.extend_from_slice(&v4.octets()),
        IpAddr::V6(v6) => out.extend_from_slice(&v6.octets()),
    }
}

pub(crate) fn put_socket_addr(out: &mut Vec<u8>, addr: SocketAddr) {
    put_ip(out, addr.ip());
    out.extend_from_slice(&addr.port().to_be_bytes());
}
