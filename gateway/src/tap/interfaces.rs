//! [`Interfaces`]: on which interfaces of the namespace the target receives, and when that changes.
//!
//! Of devices that are stacked (VLAN, bridge, bond, macvlan) a frame is seen on each, and the target has it from one: the one with an
//! address that is not a port of another. So those are looked at, and loopback. Before: the kernel; after: [`super::filter`].

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::{AsFd, BorrowedFd},
};

use nix::sys::socket::SockProtocol;

use super::netlink::{Netlink, attributes, field};

const GET_LINK: u16 = 18;
const GET_ADDRESS: u16 = 22;
/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV6_IFADDR` of linux/rtnetlink.h.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;
/// Length of `ifinfomsg`, and of `ifaddrmsg`.
const LINK_BYTES: usize = 16;
const ADDRESS_BYTES: usize = 8;
const NAME: u16 = 3;
const MASTER: u16 = 10;
const LINK_INFO: u16 = 18;
const INFO_PORT_KIND: u16 = 4;
const LOOPBACK: u32 = 0x8;
/// Interfaces that a filter names at most; of more, those with the highest numbers are left out.
pub(super) const MAX_INTERFACES: usize = 1_024;

/// The namespace's interfaces.
#[derive(Debug)]
pub(super) struct Interfaces {
    netlink: Netlink,
    chosen: BTreeMap<u32, String>,
}

impl Interfaces {
    /// Those that are there.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn open() -> io::Result<Self> {
        let mut interfaces =
            Self { netlink: Netlink::open(SockProtocol::NetlinkRoute, GROUPS)?, chosen: BTreeMap::new() };
        interfaces.look()?;
        Ok(interfaces)
    }

    /// Looks again if the kernel said that something changed; whether the choice is another now.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn refresh(&mut self) -> io::Result<bool> {
        if !self.netlink.heard() {
            return Ok(false);
        }
        let before = std::mem::take(&mut self.chosen);
        self.look()?;
        Ok(self.chosen != before)
    }

    /// Their indexes, sorted.
    pub(super) fn indexes(&self) -> Vec<u32> {
        self.chosen.keys().copied().collect()
    }

    /// Their names.
    pub(super) fn names(&self) -> Vec<String> {
        self.chosen.values().cloned().collect()
    }

    fn look(&mut self) -> io::Result<()> {
        let mut with_address = BTreeSet::new();
        self.netlink.dump(GET_ADDRESS, &[0; ADDRESS_BYTES], |body| {
            with_address.extend(field(body, 4).map(u32::from_ne_bytes));
        })?;
        let mut chosen = BTreeMap::new();
        self.netlink.dump(GET_LINK, &[0; LINK_BYTES], |body| {
            if let Some(link) = Link::parse(body).filter(|link| link.is_wanted(&with_address)) {
                chosen.insert(link.index, link.name);
            }
        })?;
        while chosen.len() > MAX_INTERFACES {
            chosen.pop_last();
        }
        self.chosen = chosen;
        Ok(())
    }
}

impl AsFd for Interfaces {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.netlink.as_fd()
    }
}

struct Link {
    index: u32,
    name: String,
    loopback: bool,
    /// What it is a port of; of a VRF device it is one, too, but keeps its frames.
    port_of_another: bool,
}

impl Link {
    fn parse(body: &[u8]) -> Option<Self> {
        let index = u32::from_ne_bytes(field(body, 4)?);
        let flags = u32::from_ne_bytes(field(body, 8)?);
        let (mut name, mut has_master, mut port_kind) = (String::new(), false, None);
        for (kind, value) in attributes(body.get(LINK_BYTES..)?) {
            match kind {
                NAME => name = text(value),
                MASTER => has_master = true,
                LINK_INFO => {
                    port_kind = attributes(value).find(|(kind, _)| *kind == INFO_PORT_KIND).map(|(_, kind)| text(kind));
                }
                _ => {}
            }
        }
        let port_of_another = has_master && port_kind.as_deref() != Some("vrf");
        Some(Self { index, name, loopback: flags & LOOPBACK != 0, port_of_another })
    }

    fn is_wanted(&self, with_address: &BTreeSet<u32>) -> bool {
        self.loopback || (with_address.contains(&self.index) && !self.port_of_another)
    }
}

fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}
