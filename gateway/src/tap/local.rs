//! [`Local`]: whether a packet is for the namespace itself. One that it only forwards, as a router does, is for somebody else, whose traffic
//! the rule does not name. [`Address`]: where that is known from. Before: [`super::interfaces`]; after: [`super::flows`].
//!
//! What a route of the kind `local` or a transparent proxy takes for the namespace, without an address of its own for it, is not copied.

use std::{collections::HashSet, net::IpAddr};

use super::netlink::{attributes, field};

/// `IFA_ADDRESS`, `IFA_LOCAL` and `IFA_BROADCAST` of linux/if_addr.h.
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const BROADCAST: u16 = 4;

/// The namespace's own addresses.
#[derive(Debug, Default)]
pub(super) struct Local {
    addresses: HashSet<IpAddr>,
    /// The last that was one of them: frames come in runs.
    last: Option<IpAddr>,
}

impl Local {
    /// These are the addresses from here on.
    pub(super) fn replace(&mut self, addresses: &HashSet<IpAddr>) {
        addresses.clone_into(&mut self.addresses);
        self.last = None;
    }

    /// Whether a packet to this address is for the namespace. Of groups it is not known who is in them.
    pub(super) fn has(&mut self, ip: IpAddr) -> bool {
        if self.last == Some(ip) {
            return true;
        }
        let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
        let has = self.addresses.contains(&ip) || ip.is_loopback() || ip.is_multicast() || is_broadcast;
        if has {
            self.last = Some(ip);
        }
        has
    }
}

/// One address of an interface, as the kernel tells it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) interface: u32,
    /// The address, and the one for everybody on its network.
    pub(super) ips: Vec<IpAddr>,
}

impl Address {
    /// Length of `ifaddrmsg`.
    pub(super) const HEAD_BYTES: usize = 8;

    /// `None` if it is none.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let interface = u32::from_ne_bytes(field(body, 4)?);
        let (mut address, mut local, mut broadcast) = (None, None, None);
        for (kind, value) in attributes(body.get(Self::HEAD_BYTES..)?) {
            match kind {
                ADDRESS => address = ip(value),
                LOCAL => local = ip(value),
                BROADCAST => broadcast = ip(value),
                _ => {}
            }
        }
        // Of two ends that face each other the first is the peer's.
        let own = local.or(address);
        Some(Self { interface, ips: own.into_iter().chain(broadcast).collect() })
    }
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_a_peer_is_the_own_one() {
        let mut body = vec![2, 32, 0, 0, 7, 0, 0, 0];
        for (kind, value) in [(ADDRESS, [10, 0, 0, 9]), (LOCAL, [10, 0, 0, 1]), (BROADCAST, [10, 0, 0, 255])] {
            body.extend_from_slice(&8_u16.to_ne_bytes());
            body.extend_from_slice(&kind.to_ne_bytes());
            body.extend_from_slice(&value);
        }
        let ips = vec![[10, 0, 0, 1].into(), [10, 0, 0, 255].into()];
        assert_eq!(Address::parse(&body), Some(Address { interface: 7, ips }));
        assert_eq!(Address::parse(&body[..6]), None);
    }

    #[test]
    fn what_is_for_others_is_not_local() {
        let mut local = Local::default();
        let own: IpAddr = "10.0.0.1".parse().unwrap();
        local.replace(&HashSet::from([own, "fd00::1".parse().unwrap()]));
        for (ip, is_local) in [
            ("10.0.0.1", true),
            ("10.0.0.2", false),
            ("127.3.2.1", true),
            ("224.0.0.251", true),
            ("255.255.255.255", true),
            ("fd00::1", true),
            ("fd00::2", false),
        ] {
            assert_eq!(local.has(ip.parse().unwrap()), is_local, "{ip}");
        }
        local.has(own);
        local.replace(&HashSet::new());
        assert!(!local.has(own), "it was taken away");
    }
}
