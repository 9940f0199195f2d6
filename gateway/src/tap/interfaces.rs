//! [`Interfaces`]: on which interfaces of the namespace the target receives, which addresses are its own, and when that changes.
//!
//! Of devices that are stacked (VLAN, bridge, bond, macvlan) a frame is seen on each, and the target has it from one: the one with an
//! address that is not a port of another. So those are looked at, and loopback. Before: the kernel; after: [`super::filter`].

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use netstack::moment::Moment;
use nix::sys::socket::SockProtocol;

use super::{
    local::Address,
    netlink::{Netlink, attributes, field},
};

const GET_LINK: u16 = 18;
const GET_ADDRESS: u16 = 22;
/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV6_IFADDR` of linux/rtnetlink.h.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;
/// Length of `ifinfomsg`.
const LINK_BYTES: usize = 16;
/// Looks at once, and how often another may follow them: changes come in bursts, and should not come to a look each when they never end.
const BURST: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);
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
    /// Hears of changes, and has no room for all of them when there are many.
    changes: Netlink,
    answers: Netlink,
    found: Found,
    /// Something changed since the last look.
    is_stale: bool,
    /// Looks that may be at once, and when there was one less of them.
    looks: u32,
    looks_at: Moment,
}

/// What there is.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    chosen: BTreeMap<u32, String>,
    local: HashSet<IpAddr>,
}

impl Interfaces {
    /// Those that are there.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn open() -> io::Result<Self> {
        let changes = Netlink::open(SockProtocol::NetlinkRoute, GROUPS)?;
        let mut answers = Netlink::open(SockProtocol::NetlinkRoute, 0)?;
        let found = look(&mut answers)?;
        Ok(Self { changes, answers, found, is_stale: false, looks: BURST, looks_at: Moment::ORIGIN })
    }

    /// Looks again if the kernel said that something changed; whether anything is other than before. What fails is tried again.
    pub(super) fn refresh(&mut self, now: Moment) -> bool {
        self.is_stale |= self.changes.heard();
        if !self.is_stale || !self.may_look(now) {
            return false;
        }
        match look(&mut self.answers) {
            Ok(found) => {
                self.is_stale = self.answers.heard();
                let changed = found != self.found;
                self.found = found;
                changed
            }
            Err(error) => {
                tracing::debug!(%error, "the kernel does not tell its interfaces at present");
                false
            }
        }
    }

    /// When [`Interfaces::refresh`] has something to do although the kernel says nothing.
    pub(super) fn poll_at(&self) -> Option<Moment> {
        let due = if self.looks > 0 { Moment::ORIGIN } else { self.looks_at + PAUSE };
        self.is_stale.then_some(due)
    }

    fn may_look(&mut self, now: Moment) -> bool {
        let more = now.since(self.looks_at).as_millis() / PAUSE.as_millis();
        if more > 0 {
            self.looks = BURST.min(self.looks.saturating_add(u32::try_from(more).unwrap_or(BURST)));
            self.looks_at = now;
        }
        let may = self.looks > 0;
        self.looks -= u32::from(may);
        may
    }

    /// Their indexes, sorted.
    pub(super) fn indexes(&self) -> Vec<u32> {
        self.found.chosen.keys().copied().collect()
    }

    /// Their names.
    pub(super) fn names(&self) -> Vec<String> {
        self.found.chosen.values().cloned().collect()
    }

    /// The namespace's own addresses, those that reach everybody on a network included.
    pub(super) const fn local(&self) -> &HashSet<IpAddr> {
        &self.found.local
    }
}

fn look(netlink: &mut Netlink) -> io::Result<Found> {
    let (mut with_address, mut local) = (BTreeSet::new(), HashSet::new());
    netlink.dump(GET_ADDRESS, &[0; Address::HEAD_BYTES], |body| {
        if let Some(address) = Address::parse(body) {
            with_address.insert(address.interface);
            local.extend(address.ips);
        }
    })?;
    let mut chosen = BTreeMap::new();
    netlink.dump(GET_LINK, &[0; LINK_BYTES], |body| {
        if let Some(link) = Link::parse(body).filter(|link| link.is_wanted(&with_address)) {
            chosen.insert(link.index, link.name);
        }
    })?;
    while chosen.len() > MAX_INTERFACES {
        chosen.pop_last();
    }
    Ok(Found { chosen, local })
}

impl AsFd for Interfaces {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.changes.as_fd()
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
