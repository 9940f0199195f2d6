//! [`ConnectedUdp`]: a UDP socket for one peer that also hears ICMP errors. Under [`crate::udp`] and [`crate::dns`].

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsRawFd,
};

use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

/// Asked of the kernel, which may give less (`net.core.rmem_max`): 50 ms of 20,000 small datagrams a second, with its overhead.
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;
/// Errors taken from the queue in one go: more than ever wait, and no endless loop against a peer that makes them.
const ERRORS_AT_ONCE: usize = 64;

/// A socket connected to one address, so that the kernel matches answers and errors to it.
#[derive(Debug)]
pub(crate) struct ConnectedUdp(UdpSocket);

impl ConnectedUdp {
    /// A socket with an ephemeral port of its own.
    ///
    /// # Errors
    /// The kernel's: no route, no descriptor.
    pub(crate) fn connect(to: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        // Without it only "port unreachable" is told of a connected socket.
        let any: SocketAddr = if to.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
            (Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
            (Ipv6Addr::UNSPECIFIED, 0).into()
        };
        // A smaller buffer loses datagrams in a burst, which UDP allows.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
        socket.bind(&any.into())?;
        socket.connect(&to.into())?;
        Ok(Self(UdpSocket::from_std(socket.into())?))
    }

    /// Sends at once or not at all.
    ///
    /// # Errors
    /// `WouldBlock` when the kernel's queue is full. An error that an earlier datagram met is returned by the call that finds it,
    /// and this datagram is sent all the same if it can be.
    pub(crate) fn send(&self, payload: &[u8]) -> io::Result<()> {
        let socket = SockRef::from(&self.0);
        let first = socket.send(payload);
        match first {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Err(pending) => {
                self.clear_errors();
                // The kernel reports a pending error instead of sending, so this datagram has not been tried yet.
                let _ = socket.send(payload);
                Err(pending)
            }
        }
    }

    /// Waits until a datagram or an error may be there. Safe to cancel.
    pub(crate) async fn arrival(&self) -> io::Result<()> {
        self.0.ready(Interest::READABLE | Interest::ERROR).await.map(|_| ())
    }

    /// The next datagram's length, its bytes at the front of `buffer`.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; otherwise what ICMP or the kernel said of a datagram that was sent.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let fd = self.0.as_raw_fd();
        let mut when =
            |ready| self.0.try_io(ready, || recv(fd, buffer, MsgFlags::MSG_DONTWAIT).map_err(io::Error::from));
        let received = match when(Interest::READABLE) {
            // An error alone makes the socket ready, but not readable.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => when(Interest::ERROR),
            received => received,
        };
        if received.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
            self.clear_errors();
        }
        received
    }

    /// Empties the error queue, which would otherwise keep the socket ready.
    fn clear_errors(&self) {
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        for _ in 0..ERRORS_AT_ONCE {
            if recv(self.0.as_raw_fd(), &mut [0], flags).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_port_is_heard_of_and_the_socket_goes_on() {
        let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        drop(server);
        let socket = ConnectedUdp::connect(address).unwrap();
        socket.send(b"one").unwrap();
        socket.arrival().await.unwrap();
        let error = socket.receive(&mut [0; 16]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);

        let server = std::net::UdpSocket::bind(address).unwrap();
        socket.send(b"").unwrap();
        socket.send(b"two").unwrap();
        let mut buffer = [0; 16];
        assert_eq!(server.recv_from(&mut buffer).unwrap().0, 0);
        let (len, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"two");
        server.send_to(b"three", from).unwrap();
        let received = loop {
            socket.arrival().await.unwrap();
            match socket.receive(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => break received.unwrap(),
            }
        };
        assert_eq!(&buffer[..received], b"three");
    }
}
