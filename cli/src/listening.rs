//! Whether a program of this machine listens on an address: looked up in `/proc/net`, so that the program notices nothing.
//! Before: [`crate::commands`]; after: nothing.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use link::rules::RuleProtocol;

/// `st` of a listening TCP socket, and of an unconnected UDP socket: include/net/tcp_states.h.
const TCP_LISTEN: &str = "0A";
const UDP_OPEN: &str = "07";

/// `None` for an address that is not this machine's, about which nothing can be told without a packet.
pub(crate) fn somebody_listens(address: SocketAddr, protocol: RuleProtocol) -> Option<bool> {
    // Only addresses of this machine can be bound; the socket is closed at once.
    UdpSocket::bind((address.ip(), 0)).ok()?;
    let (tables, state) = match protocol {
        RuleProtocol::Tcp => (["/proc/self/net/tcp", "/proc/self/net/tcp6"], TCP_LISTEN),
        RuleProtocol::Udp => (["/proc/self/net/udp", "/proc/self/net/udp6"], UDP_OPEN),
    };
    let tables = tables.map(|path| fs::read_to_string(path).unwrap_or_default());
    Some(tables.iter().flat_map(|table| sockets(table, state)).any(|socket| takes(socket, address)))
}

/// The addresses of a table's sockets that are in a state.
fn sockets<'a>(table: &'a str, state: &'a str) -> impl Iterator<Item = SocketAddr> + 'a {
    table.lines().skip(1).filter_map(move |line| {
        let mut columns = line.split_whitespace().skip(1);
        let (address, _, found) = (columns.next()?, columns.next()?, columns.next()?);
        if found == state { parse(address) } else { None }
    })
}

/// `0100007F:0BB8`: each 32-bit word of the address as this machine stores it, then the port.
fn parse(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let words = ip.as_bytes().chunks(8).map(|word| u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok());
    let bytes: Vec<u8> = words.collect::<Option<Vec<u32>>>()?.into_iter().flat_map(u32::to_ne_bytes).collect();
    let ip = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// Whether a socket bound so gets what is sent to `address`. A wildcard of IPv6 is taken to be one of IPv4 as well, which it nearly
/// always is.
fn takes(socket: SocketAddr, address: SocketAddr) -> bool {
    let any = socket.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        || socket.ip() == IpAddr::V4(Ipv4Addr::UNSPECIFIED) && address.is_ipv4();
    socket.port() == address.port() && (any || socket.ip().to_canonical() == address.ip().to_canonical())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_is_seen_on_its_own_address_and_on_wildcards() {
        for bound in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(bound) else { continue };
            let port = listener.local_addr().unwrap().port();
            let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
            assert_eq!(somebody_listens(address, RuleProtocol::Tcp), Some(true), "{bound}");
            assert_eq!(somebody_listens(address, RuleProtocol::Udp), Some(false), "{bound}");
            drop(listener);
            assert_eq!(somebody_listens(address, RuleProtocol::Tcp), Some(false), "{bound}");
        }
    }

    #[test]
    fn nothing_is_told_about_another_machine() {
        assert_eq!(somebody_listens("192.0.2.1:80".parse().unwrap(), RuleProtocol::Tcp), None);
    }

    #[test]
    fn a_table_is_read_as_the_kernel_writes_it() {
        let table = "  sl  local_address rem_address   st\n   0: 0100007F:0BB8 00000000:0000 0A 0\n\
                     1: 00000000000000000000000001000000:1F90 0:0 0A\n   2: 0100007F:0BB9 00000000:0000 01 0\n   3: nonsense";
        let found: Vec<SocketAddr> = sockets(table, TCP_LISTEN).collect();
        // What is written is for little-endian machines.
        if cfg!(target_endian = "little") {
            assert_eq!(found, ["127.0.0.1:3000".parse().unwrap(), "[::1]:8080".parse().unwrap()]);
        }
    }
}
