//! [`RouteFault`]: why a route that a gateway announces may not be followed. Pure. Before and after: `plan`.

use std::net::IpAddr;

use link::prefix::Prefix;
use thiserror::Error;

/// The shortest IPv4 prefix that is followed: a /8, the whole of 10.0.0.0/8. Two /1 are as good as a default route.
const MIN_V4_BITS: u8 = 8;

/// The shortest IPv6 prefix that is followed: a /7, all unique local addresses.
const MIN_V6_BITS: u8 = 7;

/// What a route would take over. Completes "the route X, which ...".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RouteFault {
    /// 0.0.0.0/0 or ::/0.
    #[error("would send all traffic of this machine into the tunnel")]
    Default,
    /// Shorter than any private range.
    #[error("is wider than any private range and would take a large part of the internet into the tunnel")]
    TooWide,
    /// 127.0.0.0/8 or ::1.
    #[error("covers loopback addresses, which belong to this machine")]
    Loopback,
    /// 169.254.0.0/16 or fe80::/10.
    #[error("covers link-local addresses, which belong to the networks that this machine is attached to")]
    LinkLocal,
    /// 224.0.0.0/4, ff00::/8 or the broadcast address.
    #[error("covers multicast or broadcast addresses, which no tunnel carries")]
    Multicast,
    /// 0.0.0.0/8, :: or IPv4 addresses in IPv6 clothes.
    #[error("covers addresses that no packet may be sent to")]
    Unusable,
    /// The link would run through itself.
    #[error(
        "covers the gateway itself, and this machine cannot mark the link's packets to keep them out of the tunnel"
    )]
    Gateway,
}

/// The ranges that are never followed, in the order in which they are looked for.
const FORBIDDEN: &[(&str, RouteFault)] = &[
    ("127.0.0.0/8", RouteFault::Loopback),
    ("::1/128", RouteFault::Loopback),
    ("169.254.0.0/16", RouteFault::LinkLocal),
    ("fe80::/10", RouteFault::LinkLocal),
    ("224.0.0.0/4", RouteFault::Multicast),
    ("255.255.255.255/32", RouteFault::Multicast),
    ("ff00::/8", RouteFault::Multicast),
    ("0.0.0.0/8", RouteFault::Unusable),
    ("::/128", RouteFault::Unusable),
    ("::ffff:0:0/96", RouteFault::Unusable),
];

/// Says whether a route may be followed to a gateway at `gateway` by a link that is `marked`.
pub(super) fn check_route(route: Prefix, gateway: IpAddr, marked: bool) -> Result<(), RouteFault> {
    if route.bits() == 0 {
        return Err(RouteFault::Default);
    }
    let forbidden = FORBIDDEN.iter().find(|(text, _)| text.parse::<Prefix>().is_ok_and(|range| range.overlaps(&route)));
    let min_bits = if route.address().is_ipv4() { MIN_V4_BITS } else { MIN_V6_BITS };
    match forbidden {
        _ if route.bits() < min_bits => Err(RouteFault::TooWide),
        Some((_, fault)) => Err(*fault),
        None if !marked && route.contains(gateway) => Err(RouteFault::Gateway),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_found_and_no_usual_route_has_one() {
        let gateway = "10.1.2.3".parse().unwrap();
        let check = |text: &str, marked| check_route(text.parse().unwrap(), gateway, marked);
        for (route, fault) in [
            ("0.0.0.0/0", RouteFault::Default),
            ("::/0", RouteFault::Default),
            ("0.0.0.0/1", RouteFault::TooWide),
            ("128.0.0.0/1", RouteFault::TooWide),
            ("2000::/3", RouteFault::TooWide),
            ("127.0.0.1/32", RouteFault::Loopback),
            ("127.0.0.0/8", RouteFault::Loopback),
            ("::1/128", RouteFault::Loopback),
            ("169.254.169.254/32", RouteFault::LinkLocal),
            ("169.0.0.0/8", RouteFault::LinkLocal),
            ("fe80::/64", RouteFault::LinkLocal),
            ("239.1.0.0/16", RouteFault::Multicast),
            ("ff02::1/128", RouteFault::Multicast),
            ("255.255.255.255/32", RouteFault::Multicast),
            ("0.0.0.0/8", RouteFault::Unusable),
            ("::ffff:10.0.0.0/104", RouteFault::Unusable),
        ] {
            assert_eq!(check(route, true), Err(fault), "{route}");
        }
        for route in ["10.0.0.0/8", "10.96.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fd00::/8", "2001:db8::/32"] {
            assert_eq!(check(route, true), Ok(()), "{route}");
        }
        assert_eq!(check("10.1.0.0/16", true), Ok(()));
        assert_eq!(check("10.1.0.0/16", false), Err(RouteFault::Gateway));
    }
}
