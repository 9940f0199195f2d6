//! [`ReachPattern`]: addresses of the cluster that an identity may reach, and [`Destination`]: what a session wants to reach. Pure.
//!
//! ```text
//! *                        everything that the routes cover
//! 10.96.0.0/16             every port of a prefix, TCP and UDP, and ping
//! 10.96.0.20:443           one port of one address, TCP and UDP
//! 10.96.0.0/16:8000-8999/tcp
//! [fd00::/64]:80/udp       an IPv6 prefix or address with a port stands in brackets
//! 10.96.0.0/16/icmp        ping only
//! ```
//! Before: [`crate::config`]; after: [`super::Permissions`].

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use link::prefix::Prefix;
use thiserror::Error;

use super::ports::Ports;

/// What may be reached by: the last part of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP connections.
    Tcp,
    /// UDP datagrams.
    Udp,
    /// Echoes: ICMP and ICMPv6 have nothing else here.
    Icmp,
}

/// Something in the cluster that a session wants to reach, in the form in which it is dialed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// A TCP connection.
    Tcp(SocketAddr),
    /// UDP datagrams.
    Udp(SocketAddr),
    /// An echo.
    Echo(IpAddr),
}

/// Addresses, ports and protocols that may be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachPattern {
    /// `None`: every address.
    prefix: Option<Prefix>,
    ports: Option<Ports>,
    protocol: Option<Protocol>,
}

/// A text is no such pattern.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotAReach {
    /// What stands before the port is nothing known.
    #[error(
        "'{0}' is no address that can be reached: write it like 10.96.0.0/16, 10.96.0.20:443 or [fd00::/64]:80/tcp"
    )]
    Address(String),
    /// It says two things at once.
    #[error("{0} has bits beyond its length: write {1}, or the one address without a length")]
    HostBits(String, Prefix),
    /// IPv6 whose port cannot be told from the address.
    #[error("'{0}' can be read in two ways: put an IPv6 prefix before a port in brackets, like [fd00::/64]:80")]
    Brackets(String),
    /// No port, or a range the wrong way round.
    #[error("'{0}' is no port: write it like 443 or 8000-8999")]
    Ports(String),
    /// Not a protocol.
    #[error("there is no protocol '{0}' here: use tcp, udp or icmp")]
    Protocol(String),
    /// ICMP has no ports.
    #[error("icmp has no ports: write '/icmp' without one")]
    IcmpPort,
}

impl Destination {
    /// The address without its port.
    pub(crate) const fn ip(&self) -> IpAddr {
        match self {
            Self::Tcp(to) | Self::Udp(to) => to.ip(),
            Self::Echo(to) => *to,
        }
    }

    /// The same at another address.
    pub(crate) const fn at(&self, ip: IpAddr) -> Self {
        match self {
            Self::Tcp(to) => Self::Tcp(SocketAddr::new(ip, to.port())),
            Self::Udp(to) => Self::Udp(SocketAddr::new(ip, to.port())),
            Self::Echo(_) => Self::Echo(ip),
        }
    }

    const fn protocol(&self) -> Protocol {
        match self {
            Self::Tcp(_) => Protocol::Tcp,
            Self::Udp(_) => Protocol::Udp,
            Self::Echo(_) => Protocol::Icmp,
        }
    }

    const fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(to) | Self::Udp(to) => Some(to.port()),
            Self::Echo(_) => None,
        }
    }

    /// The pattern that opens this and nothing else.
    pub fn pattern(&self) -> ReachPattern {
        let ip = self.ip();
        let prefix = Prefix::new(ip, whole_len(ip));
        let ports = self.port().and_then(|port| Ports::parse(&port.to_string()));
        ReachPattern { prefix, ports, protocol: Some(self.protocol()) }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(to) => write!(f, "tcp {to}"),
            Self::Udp(to) => write!(f, "udp {to}"),
            Self::Echo(to) => write!(f, "icmp {to}"),
        }
    }
}

impl ReachPattern {
    /// Everything that the routes cover.
    pub const EVERYTHING: Self = Self { prefix: None, ports: None, protocol: None };

    /// Whether it opens this. A pattern with a port opens no echoes, which have none.
    pub fn opens(&self, to: &Destination) -> bool {
        self.prefix.is_none_or(|prefix| prefix.contains(to.ip()))
            && self.protocol.is_none_or(|protocol| protocol == to.protocol())
            && self.ports.is_none_or(|ports| to.port().is_some_and(|port| ports.contain(port)))
    }

    /// Whether some address of `route` is among those it opens.
    pub fn overlaps(&self, route: &Prefix) -> bool {
        self.prefix.is_none_or(|prefix| prefix.overlaps(route))
    }
}

impl FromStr for ReachPattern {
    type Err = NotAReach;

    fn from_str(text: &str) -> Result<Self, NotAReach> {
        let (place, protocol) = split_protocol(text)?;
        let (address, ports) = split_ports(place)?;
        let ports =
            ports.map(|text| Ports::parse(text).ok_or_else(|| NotAReach::Ports(text.to_owned()))).transpose()?;
        if ports.is_some() && protocol == Some(Protocol::Icmp) {
            return Err(NotAReach::IcmpPort);
        }
        let prefix = if address == "*" { None } else { Some(prefix(address)?) };
        Ok(Self { prefix, ports, protocol })
    }
}

/// Takes the protocol off the end: what follows the last slash and is no length.
fn split_protocol(text: &str) -> Result<(&str, Option<Protocol>), NotAReach> {
    let Some((place, last)) = text.rsplit_once('/') else { return Ok((text, None)) };
    match last {
        "tcp" => Ok((place, Some(Protocol::Tcp))),
        "udp" => Ok((place, Some(Protocol::Udp))),
        "icmp" => Ok((place, Some(Protocol::Icmp))),
        // A length, with or without a port behind it.
        other if other.bytes().next().is_some_and(|byte| byte.is_ascii_digit()) => Ok((text, None)),
        other => Err(NotAReach::Protocol(other.to_owned())),
    }
}

/// Takes the port off the end.
fn split_ports(place: &str) -> Result<(&str, Option<&str>), NotAReach> {
    if let Some(bracketed) = place.strip_prefix('[') {
        let unreadable = || NotAReach::Address(place.to_owned());
        let (address, rest) = bracketed.split_once(']').ok_or_else(unreadable)?;
        return match rest.strip_prefix(':') {
            Some(ports) => Ok((address, Some(ports))),
            None if rest.is_empty() => Ok((address, None)),
            None => Err(unreadable()),
        };
    }
    if place.bytes().filter(|byte| *byte == b':').count() < 2 {
        return Ok(place.split_once(':').map_or((place, None), |(address, ports)| (address, Some(ports))));
    }
    let behind_length = place.split_once('/').is_some_and(|(_, len)| len.contains(':'));
    if behind_length { Err(NotAReach::Brackets(place.to_owned())) } else { Ok((place, None)) }
}

/// A prefix, or an address as the prefix of itself alone. Bits beyond the length are an error here: it would not be clear whether the
/// one address was meant or all of the prefix.
fn prefix(text: &str) -> Result<Prefix, NotAReach> {
    let unreadable = || NotAReach::Address(text.to_owned());
    let Some((address, _)) = text.split_once('/') else {
        let address: IpAddr = text.parse().map_err(|_| unreadable())?;
        return Ok(Prefix::new(address, whole_len(address)).expect("the length is the family's own"));
    };
    let prefix: Prefix = text.parse().map_err(|_| unreadable())?;
    if address.parse() == Ok(prefix.address()) { Ok(prefix) } else { Err(NotAReach::HostBits(text.to_owned(), prefix)) }
}

/// The length of a prefix of one address.
const fn whole_len(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        })
    }
}

impl fmt::Display for ReachPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.prefix.map_or_else(
            || "*".to_owned(),
            |prefix| {
                let is_one = prefix.bits() == whole_len(prefix.address());
                if is_one { prefix.address().to_string() } else { prefix.to_string() }
            },
        );
        match self.ports {
            Some(ports) if address.contains(':') => write!(f, "[{address}]:{ports}")?,
            Some(ports) => write!(f, "{address}:{ports}")?,
            None => f.write_str(&address)?,
        }
        self.protocol.map_or(Ok(()), |protocol| write!(f, "/{protocol}"))
    }
}

#[cfg(test)]
mod tests;
