//! The PROXY protocol's header, version 2, with which a connection to a listener begins when its rule asks for it: who the real client
//! is and whom it talks to, and the replica's name as a field of type [`REPLICA`]. Used by [`super::copy`].
//!
//! <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>, section 2.2.

use std::net::SocketAddr;

use link::mirrored::MirrorHeader;

/// The field's type: the first of those that are left to applications (PP2_TYPE_MIN_CUSTOM).
pub const REPLICA: u8 = 0xe0;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const PROXIED: u8 = 0x21;
const TCP_V4: u8 = 0x11;
const TCP_V6: u8 = 0x21;

/// The header of a mirrored connection.
pub(super) fn encode(flow: &MirrorHeader) -> Vec<u8> {
    let mut rest = Vec::new();
    let family = match (flow.client, flow.server) {
        (SocketAddr::V4(client), SocketAddr::V4(server)) => {
            rest.extend_from_slice(&client.ip().octets());
            rest.extend_from_slice(&server.ip().octets());
            TCP_V4
        }
        (client, server) => {
            for address in [client, server] {
                let octets = match address {
                    SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped().octets(),
                    SocketAddr::V6(v6) => v6.ip().octets(),
                };
                rest.extend_from_slice(&octets);
            }
            TCP_V6
        }
    };
    rest.extend_from_slice(&flow.client.port().to_be_bytes());
    rest.extend_from_slice(&flow.server.port().to_be_bytes());
    rest.push(REPLICA);
    rest.extend_from_slice(&len(flow.replica.len()));
    rest.extend_from_slice(flow.replica.as_bytes());
    let mut out = SIGNATURE.to_vec();
    out.extend_from_slice(&[PROXIED, family]);
    out.extend_from_slice(&len(rest.len()));
    out.extend_from_slice(&rest);
    out
}

fn len(len: usize) -> [u8; 2] {
    u16::try_from(len).expect("a replica's name is bounded by its own decoding").to_be_bytes()
}

#[cfg(test)]
mod tests {
    use link::rules::RuleProtocol;

    use super::*;

    fn flow(client: &str, server: &str) -> MirrorHeader {
        MirrorHeader {
            rule: 1,
            protocol: RuleProtocol::Tcp,
            from_start: true,
            client: client.parse().unwrap(),
            server: server.parse().unwrap(),
            seen_unix_micros: 0,
            replica: "web-1".to_owned(),
        }
    }

    #[test]
    fn the_header_is_as_its_document_lays_it_out() {
        let header = encode(&flow("10.0.0.1:4660", "10.0.0.2:80"));
        assert_eq!(header[..16], *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x14");
        assert_eq!(header[16..28], [10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0, 80]);
        assert_eq!(header[28..], *b"\xe0\0\x05web-1");
        let header = encode(&flow("[fd00::1]:1", "[fd00::2]:2"));
        assert_eq!((header[13], header.len()), (TCP_V6, 16 + 36 + 8));
    }
}
