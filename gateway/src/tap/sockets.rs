//! [`Sockets`]: what the kernel knows of the target's sockets (`sock_diag`), which needs no privilege. Asked after the ring lost frames,
//! since sequence numbers count a loss modulo 4 GiB only, and after the rules changed. Before: [`super::settling`]; after: the kernel.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use link::rules::RuleProtocol;
use netstack::reassembly::Received;
use nix::{errno::Errno, sys::socket::SockProtocol};

use super::{
    netlink::{Netlink, attributes, field},
    protocol::ListeningPort,
};

/// `SOCK_DIAG_BY_FAMILY` of linux/sock_diag.h.
const BY_FAMILY: u16 = 20;
/// Length of `inet_diag_req_v2`, and of `inet_diag_msg`.
const REQUEST_BYTES: usize = 56;
const ANSWER_BYTES: usize = 72;
/// `INET_DIAG_INFO`, and its bit in a request.
const INFO: u16 = 2;
const WITH_INFO: u8 = 1 << (INFO - 1);
/// `SKNLGRP_INET_TCP_DESTROY` and `SKNLGRP_INET6_TCP_DESTROY` of linux/sock_diag.h, as a set.
const DESTROYED: u32 = 1 << 0 | 1 << 2;
/// Some thousand endings.
const HEARD_BYTES: usize = 4 << 20;
/// `tcpi_bytes_received` in `tcp_info`; since Linux 4.1.
const BYTES_RECEIVED_AT: usize = 128;
/// IPv4 and IPv6.
pub(super) const FAMILIES: [u8; 2] = [libc::AF_INET as u8, libc::AF_INET6 as u8];
const EVERY_STATE: u32 = u32::MAX;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// States of net/tcp_states.h.
mod state {
    pub(super) const SYN_RECEIVED: u8 = 3;
    pub(super) const TIME_WAIT: u8 = 6;
    pub(super) const CLOSED: u8 = 7;
    pub(super) const CLOSE_WAIT: u8 = 8;
    pub(super) const LAST_ACK: u8 = 9;
    pub(super) const LISTENING: u8 = 10;
    pub(super) const CLOSING: u8 = 11;
    pub(super) const SYN_RECEIVED_NEW: u8 = 12;
}

/// Sockets that have a client, and may have received something of it.
const CONNECTED: u32 = !(1 << state::LISTENING | 1 << state::TIME_WAIT | 1 << state::CLOSED);

/// Client and server.
pub(super) type Connection = (SocketAddr, SocketAddr);

/// What is known of a connection at the target.
#[derive(Debug, Clone, Copy)]
pub(super) enum Known {
    /// There is a socket.
    Socket(Received),
    /// There is none.
    NoSocket,
    /// The kernel does not say.
    Nothing,
}

/// A way to ask.
#[derive(Debug)]
pub(super) struct Sockets(Netlink);

impl Sockets {
    /// # Errors
    /// The kernel's, where it has no `sock_diag`.
    pub(super) fn open() -> io::Result<Self> {
        Netlink::open(SockProtocol::NetlinkSockDiag, 0).map(Self)
    }

    /// What the target received on a connection. A link-local client is looked for on each of `interfaces`.
    pub(super) fn received(&mut self, client: SocketAddr, server: SocketAddr, interfaces: &[u32]) -> Known {
        let link_local = matches!(client.ip(), IpAddr::V6(v6) if v6.is_unicast_link_local());
        let interfaces = if link_local { interfaces } else { &[0] };
        let mut known = Known::NoSocket;
        for &interface in interfaces {
            known = self.received_at(client, server, interface);
            if !matches!(known, Known::NoSocket) {
                break;
            }
        }
        known
    }

    fn received_at(&mut self, client: SocketAddr, server: SocketAddr, interface: u32) -> Known {
        let mut known = Known::NoSocket;
        let request = connection_request(client, server, interface);
        let asked = self.0.one(BY_FAMILY, &request, |body| known = connection_answer(body));
        match asked {
            Ok(()) => known,
            Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => Known::NoSocket,
            Err(_) => Known::Nothing,
        }
    }

    /// Begins to read what the target received on every connection over a family: with [`Sockets::more`], and nothing else meanwhile.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn begin(&mut self, family: u8) -> io::Result<()> {
        self.0.begin(BY_FAMILY, &request([family, TCP, WITH_INFO, 0], CONNECTED))
    }

    /// Adds some connections to `ports`, by client and server; whether they were the family's last.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn more(&mut self, ports: &BTreeSet<u16>, all: &mut HashMap<Connection, Known>) -> io::Result<bool> {
        self.0.go_on(|body| {
            let (Some(server), Some(client)) = (address(body, 4, 8), address(body, 6, 24)) else { return };
            if ports.contains(&server.port()) {
                all.insert((client, server), connection_answer(body));
            }
        })
    }

    /// The ports among `wanted` on which a socket waits: a listener, or a UDP socket that is bound.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn listening(&mut self, wanted: &[ListeningPort]) -> io::Result<BTreeSet<ListeningPort>> {
        let mut found = BTreeSet::new();
        for (protocol, number, states) in
            [(RuleProtocol::Tcp, TCP, 1 << state::LISTENING), (RuleProtocol::Udp, UDP, EVERY_STATE)]
        {
            if !wanted.iter().any(|port| port.protocol == protocol) {
                continue;
            }
            for family in FAMILIES {
                let request = request([family, number, 0, 0], states);
                self.0.dump(BY_FAMILY, &request, |body| {
                    let port = field(body, 4).map(|port| ListeningPort { port: u16::from_be_bytes(port), protocol });
                    found.extend(port.filter(|port| wanted.contains(port)));
                })?;
            }
        }
        Ok(found)
    }
}

/// Hears of sockets that end, which costs each of them a little.
#[derive(Debug)]
pub(super) struct Endings(Netlink);

impl Endings {
    /// # Errors
    /// The kernel's, where it does not tell.
    pub(super) fn open() -> io::Result<Self> {
        let netlink = Netlink::open(SockProtocol::NetlinkSockDiag, DESTROYED)?;
        netlink.make_room(HEARD_BYTES);
        Ok(Self(netlink))
    }

    /// Connections that ended since the last call, and what each had received, the FIN included.
    pub(super) fn hear(&mut self, mut each: impl FnMut(Connection, u64)) {
        self.0.hear(|body| {
            let (Some(server), Some(client)) = (address(body, 4, 8), address(body, 6, 24)) else { return };
            if let Some(bytes) = bytes_received(body) {
                each((client, server), bytes);
            }
        });
    }
}

fn request(head: [u8; 4], states: u32) -> [u8; REQUEST_BYTES] {
    let mut request = [0; REQUEST_BYTES];
    request[..4].copy_from_slice(&head);
    request[4..8].copy_from_slice(&states.to_ne_bytes());
    request
}

fn connection_request(client: SocketAddr, server: SocketAddr, interface: u32) -> [u8; REQUEST_BYTES] {
    let family = FAMILIES[usize::from(client.is_ipv6())];
    let mut request = request([family, TCP, WITH_INFO, 0], EVERY_STATE);
    // The socket's own end first: two ports, two addresses of 16 bytes, the interface, and no cookie.
    request[8..10].copy_from_slice(&server.port().to_be_bytes());
    request[10..12].copy_from_slice(&client.port().to_be_bytes());
    for (at, address) in [(12, server), (28, client)] {
        match address.ip() {
            IpAddr::V4(v4) => request[at..at + 4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => request[at..at + 16].copy_from_slice(&v6.octets()),
        }
    }
    request[44..48].copy_from_slice(&interface.to_ne_bytes());
    request[48..].fill(0xff);
    request
}

fn connection_answer(body: &[u8]) -> Known {
    let Some(&state) = body.get(1) else { return Known::Nothing };
    match state {
        // Where no connection is found the kernel finds its listener.
        state::LISTENING | state::CLOSED | state::TIME_WAIT => return Known::NoSocket,
        state::SYN_RECEIVED | state::SYN_RECEIVED_NEW => return Known::Socket(Received { bytes: 0, ended: false }),
        _ => {}
    }
    let ended = matches!(state, state::CLOSE_WAIT | state::LAST_ACK | state::CLOSING);
    bytes_received(body).map_or(Known::Nothing, |bytes| Known::Socket(Received { bytes, ended }))
}

fn bytes_received(body: &[u8]) -> Option<u64> {
    let (_, info) = attributes(body.get(ANSWER_BYTES..)?).find(|(kind, _)| *kind == INFO)?;
    field(info, BYTES_RECEIVED_AT).map(u64::from_ne_bytes)
}

/// An address of an answer. A socket of IPv6 may have a connection of IPv4.
fn address(body: &[u8], port_at: usize, ip_at: usize) -> Option<SocketAddr> {
    let octets: [u8; 16] = field(body, ip_at)?;
    let ip = match *body.first()? {
        family if family == FAMILIES[0] => IpAddr::from(*octets.first_chunk::<4>()?),
        _ => Ipv6Addr::from(octets).to_canonical(),
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(field(body, port_at)?)))
}
