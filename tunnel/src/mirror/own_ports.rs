//! Which ports of this machine are sockets of this very process: what is mirrored must not come back into the session.
//!
//! The kernel lists sockets with their inode in `/proc/self/net`, and a process's own descriptors name the inodes of its sockets.
//! Used by [`super::commands`].

use std::{collections::BTreeSet, fs, io, net::SocketAddr};

use link::rules::RuleProtocol;

/// Whether a socket of this process listens at this address's port, or is bound to it.
pub(super) fn is_own(listener: SocketAddr, protocol: RuleProtocol) -> bool {
    // A table that cannot be read leaves the question open; then the session is as careful as any other program.
    own_ports(protocol).is_ok_and(|ports| ports.contains(&listener.port()))
}

fn own_ports(protocol: RuleProtocol) -> io::Result<BTreeSet<u16>> {
    let inodes = own_inodes()?;
    let tables = match protocol {
        RuleProtocol::Tcp => ["/proc/self/net/tcp", "/proc/self/net/tcp6"],
        RuleProtocol::Udp => ["/proc/self/net/udp", "/proc/self/net/udp6"],
    };
    let mut ports = BTreeSet::new();
    for table in tables {
        // Without IPv6 in the kernel its table is not there.
        let text = fs::read_to_string(table).unwrap_or_default();
        ports.extend(text.lines().skip(1).filter_map(|line| port_of(line, protocol, &inodes)));
    }
    Ok(ports)
}

fn own_inodes() -> io::Result<BTreeSet<u64>> {
    let mut inodes = BTreeSet::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        // A descriptor may be closed meanwhile.
        let Ok(target) = entry.and_then(|entry| fs::read_link(entry.path())) else { continue };
        let target = target.to_string_lossy();
        let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        inodes.extend(inode.and_then(|inode| inode.parse::<u64>().ok()));
    }
    Ok(inodes)
}

/// The local port of a line of a table, if it is one of these sockets and waits for anybody: `sl local remote state ... inode`.
fn port_of(line: &str, protocol: RuleProtocol, inodes: &BTreeSet<u64>) -> Option<u16> {
    const LISTEN: &str = "0A";
    let fields: Vec<_> = line.split_ascii_whitespace().collect();
    let waits = protocol == RuleProtocol::Udp || *fields.get(3)? == LISTEN;
    let inode = fields.get(9)?.parse().ok()?;
    let (_, port) = fields.get(1)?.rsplit_once(':')?;
    (waits && inodes.contains(&inode)).then(|| u16::from_str_radix(port, 16).ok())?
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn a_port_of_this_process_is_known_and_a_free_one_is_not() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("[::1]:0").unwrap();
        assert!(is_own(tcp.local_addr().unwrap(), RuleProtocol::Tcp));
        assert!(is_own(udp.local_addr().unwrap(), RuleProtocol::Udp));
        let gone = tcp.local_addr().unwrap();
        drop(tcp);
        assert!(!is_own(gone, RuleProtocol::Tcp));
    }
}
