//! A connection to a listener, and its hard end. Used by [`super`].

use std::{io, net::SocketAddr, time::Duration};

use socket2::SockRef;
use tokio::{net::TcpStream, time::timeout};

use super::Presence;

/// A listener on this machine answers at once, unless its backlog is full.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// With a linger of zero a socket's close is an RST.
pub(super) fn reset(socket: &TcpStream) {
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

pub(super) async fn connect(listener: SocketAddr) -> Result<TcpStream, Presence> {
    let socket = match timeout(DIAL_TIMEOUT, TcpStream::connect(listener)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(Presence::Refused),
        Ok(Err(error)) => {
            tracing::debug!(%listener, %error, "a listener cannot be reached");
            return Err(Presence::Unreachable);
        }
        Err(_) => return Err(Presence::Unreachable),
    };
    // Where nobody listens, a socket that happens to have the listener's port connects to itself.
    if socket.local_addr().is_ok_and(|local| local == listener) {
        reset(&socket);
        return Err(Presence::Refused);
    }
    // What arrives is passed on as it arrived.
    let _ = socket.set_nodelay(true);
    Ok(socket)
}
