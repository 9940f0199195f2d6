//! A connection to a listener, and its hard end. Used by [`super`].

use std::{io, net::SocketAddr, time::Duration};

use socket2::SockRef;
use tokio::{net::TcpStream, time::timeout};

use super::Presence;
use crate::mirror::sockets::ran_out;

/// A listener on this machine answers at once, unless its backlog is full.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// With a linger of zero a socket's close is an RST.
pub(super) fn reset(socket: &TcpStream) {
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Undialed {
    /// The listener was found so.
    Found(Presence),
    /// This process, or the machine, has no descriptor left.
    NoDescriptor,
}

impl From<Presence> for Undialed {
    fn from(presence: Presence) -> Self {
        Self::Found(presence)
    }
}

pub(super) async fn connect(listener: SocketAddr) -> Result<TcpStream, Undialed> {
    let socket = match timeout(DIAL_TIMEOUT, TcpStream::connect(listener)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(Presence::Refused.into()),
        Ok(Err(error)) if ran_out(&error) => return Err(Undialed::NoDescriptor),
        Ok(Err(error)) => {
            tracing::debug!(%listener, %error, "a listener cannot be reached");
            return Err(Presence::Unreachable.into());
        }
        Err(_) => return Err(Presence::Unreachable.into()),
    };
    // Where nobody listens, a socket that happens to have the listener's port connects to itself.
    if socket.local_addr().is_ok_and(|local| local == listener) {
        reset(&socket);
        return Err(Presence::Refused.into());
    }
    // What arrives is passed on as it arrived.
    let _ = socket.set_nodelay(true);
    Ok(socket)
}
