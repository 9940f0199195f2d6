//! Echoes: a program's ping becomes a real one at the gateway, and its answer, or that there is none, comes back.

use std::{net::IpAddr, rc::Rc};

use link::datagram::Datagram;
use netstack::{
    drop_reason::DropReason,
    icmp::{Echo, Quote, Unreachable, write_echo_reply, write_unreachable},
};
use rustc_hash::FxHashMap;

use super::{Outbound, encoded};

/// Programs that ping at once. When full all are forgotten: each gets a new number with its next ping, and at most one answer is lost.
const MAX_PINGERS: usize = 1_024;

/// Who pings whom: host, cluster and the identifier that tells programs apart.
type Pinger = (IpAddr, IpAddr, u16);

/// The numbers of pinging programs on the link.
#[derive(Default)]
pub(super) struct Echoes {
    next: u32,
    numbers: FxHashMap<Pinger, u32>,
    pingers: FxHashMap<u32, Pinger>,
}

impl Echoes {
    fn number(&mut self, pinger: Pinger) -> u32 {
        if let Some(&number) = self.numbers.get(&pinger) {
            return number;
        }
        if self.numbers.len() >= MAX_PINGERS {
            self.numbers.clear();
            self.pingers.clear();
        }
        self.next = self.next.wrapping_add(1);
        self.numbers.insert(pinger, self.next);
        self.pingers.insert(self.next, pinger);
        self.next
    }
}

impl Outbound {
    /// An echo request from the device.
    pub(super) fn echo(self: &Rc<Self>, echo: &Echo<'_>) -> Result<(), DropReason> {
        let id = self.echoes.borrow_mut().number((echo.host, echo.cluster, echo.ident));
        let out = Datagram::EchoOut { id, seq: echo.sequence, to: echo.cluster, payload: echo.payload };
        self.status.flows.echoes.increment();
        self.to_link(encoded(&out, echo.payload.len()));
        Ok(())
    }

    pub(super) fn echo_arrived(&self, id: u32, sequence: u16, ttl: u8, payload: &[u8]) {
        if let Some(&(host, cluster, ident)) = self.echoes.borrow().pingers.get(&id) {
            let echo = Echo { host, cluster, ident, sequence, payload };
            self.write_with(|scratch| write_echo_reply(scratch, &echo, ttl));
        }
    }

    pub(super) fn echo_unreachable(&self, id: u32, sequence: u16, why: Unreachable) {
        if let Some(&(host, cluster, ident)) = self.echoes.borrow().pingers.get(&id) {
            self.write_with(|scratch| write_unreachable(scratch, why, &Quote::echo(host, cluster, ident, sequence)));
        }
    }
}
