//! [`EchoSocket`]: one socket a family for all sessions' echoes: a ping socket where the kernel grants one, else a raw one.
//!
//! A ping socket needs the process's group in `net.ipv4.ping_group_range` (a new network namespace has none), a raw one `CAP_NET_RAW`.
//! Errors come through the socket's error queue, which quotes the request, in both cases.

#![expect(
    unsafe_code,
    reason = "tokio registers a descriptor that is not its own only on a promise that it stays open"
)]

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd,
};

use link::datagram::Unreachable;
use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{ControlMessageOwned, MsgFlags, RecvMsg, SockaddrStorage, getsockopt, recvmsg, setsockopt, sockopt},
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{Interest, unix::AsyncFd};

use super::packet::{Family, behind_ipv4_header};
use crate::{errno, scratch};

/// Asked of the kernel, which may give less: a burst of replies.
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;
/// Messages handled before other tasks have their turn.
const AT_ONCE: usize = 64;
/// When the kernel does not tell a reply's time to live: the usual first value.
const UNKNOWN_TTL: u8 = 64;

/// An open socket for echoes.
#[derive(Debug)]
pub(super) struct EchoSocket {
    io: AsyncFd<Socket>,
    family: Family,
    is_raw: bool,
    /// Ours on a raw socket; on a ping socket the kernel puts its own.
    ident: u16,
}

/// What came back.
#[derive(Debug)]
pub(super) enum Event<'a> {
    /// A reply to request `seq`.
    Reply { seq: u16, from: IpAddr, ttl: u8, payload: &'a [u8] },
    /// Request `seq`, which went to `to`, cannot be answered.
    Failed { seq: u16, to: IpAddr, why: Unreachable },
}

impl EchoSocket {
    /// A ping socket, else a raw one.
    ///
    /// # Errors
    /// The raw socket's, when neither is allowed.
    pub(super) fn open(family: Family, ident: u16) -> io::Result<Self> {
        let (domain, protocol) = match family {
            Family::V4 => (Domain::IPV4, Protocol::ICMPV4),
            Family::V6 => (Domain::IPV6, Protocol::ICMPV6),
        };
        let open = |kind: Type| Socket::new(domain, kind.nonblocking(), Some(protocol));
        let (socket, is_raw) = match open(Type::DGRAM) {
            Ok(socket) => (socket, false),
            Err(_) => (open(Type::RAW)?, true),
        };
        match family {
            Family::V4 => {
                setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
                setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
            }
            Family::V6 => {
                setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
                setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
            }
        }
        // A smaller buffer loses replies in a burst, which ping allows.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
        // SAFETY: the socket is open, and the `AsyncFd` owns it until both are dropped; a `Socket` never changes its descriptor.
        let io = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE | Interest::ERROR) }?;
        Ok(Self { io, family, is_raw, ident })
    }

    /// What kind it is, for the log.
    pub(super) const fn kind(&self) -> &'static str {
        if self.is_raw { "raw" } else { "ping" }
    }

    /// Sends a request at once or not at all.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn send(&self, seq: u16, to: IpAddr, payload: &[u8]) -> io::Result<()> {
        let message = self.family.request(self.ident, seq, payload);
        let to = SocketAddr::new(to, 0).into();
        let socket = self.io.get_ref();
        // An error that waits from an earlier request is reported instead of sending; asking for it takes it away.
        let _ = getsockopt(socket, sockopt::SocketError);
        socket.send_to(&message, &to).map(|_| ())
    }

    /// Waits until something came back, and hands it over, a bounded number at a time. Safe to cancel.
    pub(super) async fn arrivals(&self, mut handle: impl FnMut(Event<'_>)) -> io::Result<()> {
        let mut ready = self.io.ready(Interest::READABLE | Interest::ERROR).await?;
        for _ in 0..AT_ONCE {
            let has_error = self.take(MsgFlags::MSG_ERRQUEUE, &mut handle)?;
            let has_message = self.take(MsgFlags::empty(), &mut handle)?;
            if !has_error && !has_message {
                ready.clear_ready();
                return Ok(());
            }
        }
        drop(ready);
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Takes one message from the socket or its error queue; whether there was one.
    fn take(&self, queue: MsgFlags, handle: &mut impl FnMut(Event<'_>)) -> io::Result<bool> {
        scratch::with(|scratch| {
            let mut control = cmsg_space!([u8; 128]);
            let mut parts = [IoSliceMut::new(scratch)];
            let flags = queue | MsgFlags::MSG_DONTWAIT;
            let fd = self.io.get_ref().as_raw_fd();
            match recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut control), flags) {
                Ok(message) => {
                    if let Some(event) = self.read(&message, queue == MsgFlags::MSG_ERRQUEUE) {
                        handle(event);
                    }
                    Ok(true)
                }
                Err(Errno::EAGAIN) => Ok(false),
                // Our own mistakes end the loop; what else the kernel says here belongs to a request and is in the error queue.
                Err(error @ (Errno::EBADF | Errno::EFAULT | Errno::EINVAL | Errno::ENOTSOCK)) => Err(error.into()),
                Err(_) => Ok(true),
            }
        })
    }

    fn read<'a>(&self, message: &RecvMsg<'a, 'a, SockaddrStorage>, is_error: bool) -> Option<Event<'a>> {
        let bytes = message.iovs().next()?;
        let peer = ip(message.address.as_ref()?)?;
        let mut ttl = UNKNOWN_TTL;
        let mut failure = None;
        for control in message.cmsgs().ok()? {
            ttl = hop_limit(&control).unwrap_or(ttl);
            failure = extended_error(&control).or(failure);
        }
        if is_error {
            let quoted =
                self.family.quoted_request(bytes).filter(|quoted| !self.is_raw || quoted.ident == self.ident)?;
            return Some(Event::Failed { seq: quoted.seq, to: peer, why: failure? });
        }
        let bytes = if self.is_raw && self.family == Family::V4 { behind_ipv4_header(bytes)? } else { bytes };
        let reply = self.family.reply(bytes).filter(|reply| !self.is_raw || reply.ident == self.ident)?;
        Some(Event::Reply { seq: reply.seq, from: peer, ttl, payload: reply.payload })
    }
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "control messages are many and depend on the platform")]
fn hop_limit(control: &ControlMessageOwned) -> Option<u8> {
    match control {
        ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => u8::try_from(*ttl).ok(),
        _ => None,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "control messages are many and depend on the platform")]
fn extended_error(control: &ControlMessageOwned) -> Option<Unreachable> {
    let error = match control {
        ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => error,
        _ => return None,
    };
    errno::unreachable(&io::Error::from_raw_os_error(i32::try_from(error.ee_errno).ok()?))
}
