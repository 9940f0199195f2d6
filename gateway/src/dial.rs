//! Opening a TCP connection to the cluster: to an address, or to a name's addresses by happy eyeballs.
//!
//! Before: [`crate::outbound`] (addresses) and [`crate::dns`] (the nameserver may be given by name); after: the kernel. The race: [`link::race`].

use std::{io, net::SocketAddr};

use link::race::race;
use tokio::net::{TcpSocket, TcpStream};

/// Connects to one address, with Nagle off: the session's side has decided what belongs together.
///
/// # Errors
/// The kernel's; [`crate::errno::dial_outcome`] says what it means.
pub(crate) async fn dial(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_nodelay(true)?;
    socket.connect(to).await
}

/// Connects to whichever of a name's addresses answers first.
///
/// # Errors
/// That of the first address, or `NotFound` without addresses.
pub(crate) async fn dial_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    race(addresses, dial).await.map_err(|error| error.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_family_that_is_refused_gives_way_to_the_one_that_answers() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let closed = SocketAddr::new("::1".parse().unwrap(), open.port());
        let stream = dial_any(&[closed, open]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open);
        assert!(stream.nodelay().unwrap());
    }

    #[tokio::test]
    async fn no_addresses_and_only_closed_ones_are_errors() {
        assert_eq!(dial_any(&[]).await.unwrap_err().kind(), io::ErrorKind::NotFound);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(dial_any(&[closed, closed]).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
