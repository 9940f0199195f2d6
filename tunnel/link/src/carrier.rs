//! How QUIC packets cross the network. Each carrier is an [`quinn::AsyncUdpSocket`], so QUIC above it is the same.
//!
//! - [`udp`]: datagrams, with consecutive GSO batches joined. Tolerates loss, survives a change of address.
//! - [`tcp`]: length-framed packets on one TCP connection, for networks without UDP, and the fastest on a LAN.
//!
//! Before: quinn's drivers; after: the kernel. The race between the two is in [`crate::dial`].

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    str::FromStr,
    sync::Arc,
    task::{Context, Poll},
};

use quinn::{AsyncUdpSocket, UdpPoller};
use serde::{Deserialize, Serialize};

pub mod tcp;
pub mod udp;

/// Which carrier a link runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Carrier {
    /// QUIC over UDP.
    Udp,
    /// QUIC packets, length-framed, over one TCP connection.
    Tcp,
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        })
    }
}

/// Which carriers may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CarrierChoice {
    /// Both at once; `udp` where it works, for it tolerates loss and a change of address.
    #[default]
    Auto,
    /// `udp` alone.
    Udp,
    /// `tcp` alone.
    Tcp,
}

impl FromStr for CarrierChoice {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "udp" => Ok(Self::Udp),
            "tcp" => Ok(Self::Tcp),
            _ => Err("a carrier is auto, udp or tcp"),
        }
    }
}

type Writable = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

/// Waits for a carrier that refused a packet; costs nothing while none is refused.
struct Poller<S> {
    socket: Arc<S>,
    waiting: Option<Writable>,
}

/// What a [`Poller`] needs of its carrier.
trait Blocking: AsyncUdpSocket {
    /// Whether the last packet was refused and nothing was sent since.
    fn is_blocked(&self) -> bool;
    /// Resolves when a packet would be taken again.
    fn writable(self: Arc<Self>) -> Writable;
}

impl<S: Blocking> Poller<S> {
    fn boxed(socket: Arc<S>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Self { socket, waiting: None })
    }
}

impl<S: Blocking> UdpPoller for Poller<S> {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.waiting.is_none() && !this.socket.is_blocked() {
            return Poll::Ready(Ok(()));
        }
        let waiting = this.waiting.get_or_insert_with(|| Arc::clone(&this.socket).writable());
        let outcome = waiting.as_mut().poll(cx);
        if outcome.is_ready() {
            this.waiting = None;
        }
        outcome
    }
}

impl<S> fmt::Debug for Poller<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").finish_non_exhaustive()
    }
}
