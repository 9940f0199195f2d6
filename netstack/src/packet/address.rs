//! Which addresses make no sense in a packet from the TUN device. Used by [`super::Packet::parse`] only.
//!
//! What a cluster may use is wide: 240.0.0.0/4 and 169.254.0.0/16 do occur as pod and node-local addresses, so they pass; the
//! gateway's routes decide about them.

use std::net::IpAddr;

use crate::drop_reason::DropReason;

pub(super) fn check(source: IpAddr, destination: IpAddr) -> Result<(), DropReason> {
    // The destination first: multicast is what a kernel sends by itself (with an unspecified source, too), and is no cause for alarm.
    if destination.is_multicast() {
        return Err(DropReason::Multicast);
    }
    if is_broadcast(destination) {
        return Err(DropReason::Broadcast);
    }
    if is_link_local(destination) {
        return Err(DropReason::LinkLocal);
    }
    if is_martian(destination) {
        return Err(DropReason::MartianDestination);
    }
    if source.is_multicast() || is_broadcast(source) || is_martian(source) {
        return Err(DropReason::MartianSource);
    }
    if source == destination { Err(DropReason::Land) } else { Ok(()) }
}

fn is_broadcast(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.is_broadcast())
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// "This network" (RFC 1122 3.2.1.3), loopback, and IPv4 inside IPv6, which belongs into an API and never onto a wire.
fn is_martian(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_loopback() || v6.to_ipv4_mapped().is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_checked(source: &str, destination: &str, expected: Result<(), DropReason>) {
        assert_eq!(check(source.parse().unwrap(), destination.parse().unwrap()), expected);
    }

    #[test]
    fn addresses_that_make_no_sense_are_named() {
        assert_checked("10.0.0.1", "10.96.0.1", Ok(()));
        assert_checked("10.0.0.1", "240.1.2.3", Ok(()));
        assert_checked("10.0.0.1", "169.254.20.10", Ok(()));
        assert_checked("fd00::1", "fd01::1", Ok(()));
        assert_checked("0.0.0.0", "224.0.0.251", Err(DropReason::Multicast));
        assert_checked("::", "ff02::2", Err(DropReason::Multicast));
        assert_checked("10.0.0.1", "255.255.255.255", Err(DropReason::Broadcast));
        assert_checked("fe80::1", "fe80::2", Err(DropReason::LinkLocal));
        assert_checked("10.0.0.1", "127.0.0.1", Err(DropReason::MartianDestination));
        assert_checked("10.0.0.1", "0.1.2.3", Err(DropReason::MartianDestination));
        assert_checked("fd00::1", "::1", Err(DropReason::MartianDestination));
        assert_checked("fd00::1", "::", Err(DropReason::MartianDestination));
        assert_checked("fd00::1", "::ffff:10.0.0.1", Err(DropReason::MartianDestination));
        assert_checked("0.0.0.0", "10.96.0.1", Err(DropReason::MartianSource));
        assert_checked("127.0.0.1", "10.96.0.1", Err(DropReason::MartianSource));
        assert_checked("224.0.0.1", "10.96.0.1", Err(DropReason::MartianSource));
        assert_checked("255.255.255.255", "10.96.0.1", Err(DropReason::MartianSource));
        assert_checked("ff02::1", "fd00::1", Err(DropReason::MartianSource));
        assert_checked("10.96.0.1", "10.96.0.1", Err(DropReason::Land));
        assert_checked("fd00::1", "fd00::1", Err(DropReason::Land));
    }
}
