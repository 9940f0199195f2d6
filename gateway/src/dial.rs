//! Opening a TCP connection to the cluster: to an address, or to a name's addresses by happy eyeballs (RFC 8305).
//!
//! Before: [`crate::outbound`] (addresses) and [`crate::dns`] (the nameserver may be given by name); after: the kernel.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpSocket, TcpStream},
    time::sleep,
};

/// How long an address may keep silent before the next is tried beside it: RFC 8305's recommendation.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Connects to one address, with Nagle off: the session's side has decided what belongs together.
///
/// # Errors
/// The kernel's; [`crate::errno::dial_outcome`] says what it means.
pub(crate) async fn dial(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_nodelay(true)?;
    socket.connect(to).await
}

/// Connects to whichever of a name's addresses answers first; each next one is tried when the one before has failed or kept
/// silent for [`ATTEMPT_DELAY`].
///
/// # Errors
/// The last address's, or `NotFound` without addresses.
pub(crate) async fn dial_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut next = interleaved(addresses).into_iter();
    let mut attempts = tokio::task::JoinSet::new();
    let mut last_error = io::Error::from(io::ErrorKind::NotFound);
    loop {
        match next.next() {
            Some(address) => drop(attempts.spawn(dial(address))),
            None if attempts.is_empty() => return Err(last_error),
            None => {}
        }
        let patience =
            async { if next.len() == 0 { std::future::pending().await } else { sleep(ATTEMPT_DELAY).await } };
        tokio::select! {
            Some(Ok(attempt)) = attempts.join_next() => match attempt {
                Ok(stream) => return Ok(stream),
                Err(error) => last_error = error,
            },
            () = patience => {}
        }
    }
}

/// The families in turn, the first address's first, each in its own order.
fn interleaved(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (mut leading, mut other): (Vec<_>, Vec<_>) =
        addresses.iter().copied().partition(|address| address.is_ipv4() == first_is_v4);
    leading.reverse();
    other.reverse();
    let mut order = Vec::with_capacity(addresses.len());
    while order.len() < addresses.len() {
        order.extend(leading.pop());
        order.extend(other.pop());
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn families_take_turns() {
        let list: Vec<SocketAddr> = ["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1"].into_iter().map(address).collect();
        let order = interleaved(&list);
        assert_eq!(order, [list[0], list[3], list[1], list[2]]);
        assert_eq!(interleaved(&[]), []);
    }

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
