//! A mirrored UDP flow, in one task: its datagrams go on from a socket of its own, so that a listener sees one port for each client.
//! What the listener answers is thrown away and counted. Before: [`super::arrival`]; after: the listener.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use link::{
    error_code::{FLOW_RESET, STREAM_MALFORMED},
    mirrored::{Gap, MAX_FRAME_BYTES, MirrorHeader},
};
use quinn::RecvStream;
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep_until},
};

use super::{
    Mirror,
    frames::{Frames, Piece},
    live_rule::{LiveRule, Why},
    sockets::{self, Slot},
};
use crate::control::{
    mirror_message::{Listener, PrintedEvent},
    mirror_status::{NoticeKind, Presence},
};

/// A flow without a datagram for this long gives its socket back; its next one has another port.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// Sockets tried until one has not the listener's own port.
const BINDS: usize = 8;

/// Carries a flow until its end.
pub(super) async fn carry(mirror: &Mirror, rule: &Arc<LiveRule>, flow: &MirrorHeader, recv: RecvStream, first: Bytes) {
    let partial = BytesMut::new();
    let mut delivery = Delivery { mirror, rule, flow, socket: None, was_opened: false, is_crowded: false, partial };
    delivery.carry(recv, first).await;
    if delivery.is_crowded && !delivery.was_opened {
        rule.losses(Why::ListenerLag).flows.increment();
    }
}

enum Going {
    On,
    Over,
}

struct Open {
    socket: UdpSocket,
    _slot: Slot,
}

struct Delivery<'a> {
    mirror: &'a Mirror,
    rule: &'a Arc<LiveRule>,
    flow: &'a MirrorHeader,
    socket: Option<Open>,
    /// It had a socket at least once,
    was_opened: bool,
    /// and at least once there was no descriptor for one.
    is_crowded: bool,
    /// A datagram that came in several chunks.
    partial: BytesMut,
}

impl Delivery<'_> {
    async fn carry(&mut self, mut recv: RecvStream, first: Bytes) {
        let off = self.rule.off();
        let mut frames = Frames::default();
        let mut chunk = first;
        loop {
            match self.chunk(&mut frames, chunk).await {
                Ok(Going::On) => {}
                Ok(Going::Over) => return,
                Err(()) => {
                    tracing::debug!("the gateway sent a mirrored UDP flow that cannot be read");
                    let _ = recv.stop(STREAM_MALFORMED);
                    return;
                }
            }
            let idle_at = Instant::now() + IDLE_TIMEOUT;
            chunk = loop {
                tokio::select! {
                    biased;
                    () = off.cancelled() => {
                        let _ = recv.stop(FLOW_RESET);
                        return;
                    }
                    read = recv.read_chunk(usize::MAX, true) => match read {
                        Ok(Some(chunk)) => break chunk.bytes,
                        Ok(None) | Err(_) => return,
                    },
                    () = sleep_until(idle_at), if self.socket.is_some() => self.socket = None,
                    () = discard_answers(self.socket.as_ref(), self.rule), if self.socket.is_some() => {}
                }
            };
        }
    }

    async fn chunk(&mut self, frames: &mut Frames, mut chunk: Bytes) -> Result<Going, ()> {
        loop {
            match frames.next(&mut chunk).map_err(|_| ())? {
                Some(Piece::Datagram { bytes, is_last: true }) if self.partial.is_empty() => self.deliver(&bytes).await,
                Some(Piece::Datagram { bytes, is_last }) => {
                    debug_assert!(self.partial.len() + bytes.len() <= MAX_FRAME_BYTES, "a frame's length is bounded");
                    self.partial.extend_from_slice(&bytes);
                    if is_last {
                        let whole = self.partial.split().freeze();
                        self.deliver(&whole).await;
                    }
                }
                Some(Piece::Gap(gap)) => self.gap(gap),
                Some(Piece::End(_)) => return Ok(Going::Over),
                Some(Piece::Bytes { .. }) => return Err(()),
                None => return Ok(Going::On),
            }
        }
    }

    async fn deliver(&mut self, datagram: &[u8]) {
        let bytes = datagram.len() as u64;
        if self.rule.printers.any() {
            self.rule.printers.tell(self.rule.id, self.flow, PrintedEvent::Datagram { bytes });
        }
        let taken = match self.rule.spec.listener {
            _ if !self.rule.is_on() => Err(Why::SwitchedOff),
            Listener::Print => Ok(()),
            Listener::At(listener) => self.send(listener, datagram).await.map_err(|error| self.failed(&error)),
        };
        match taken {
            Ok(()) => {
                self.rule.counts.bytes.add(bytes);
                self.rule.counts.datagrams.increment();
            }
            Err(why) => {
                self.rule.losses(why).bytes.add(bytes);
                self.rule.losses(why).datagrams.increment();
            }
        }
    }

    fn failed(&mut self, error: &io::Error) -> Why {
        if sockets::ran_out(error) {
            if !std::mem::replace(&mut self.is_crowded, true) {
                self.rule.notice(NoticeKind::Descriptors);
            }
            return Why::ListenerLag;
        }
        // A datagram that is too large for the way says nothing about the listener.
        if error.raw_os_error() != Some(libc::EMSGSIZE) {
            let refused = error.kind() == io::ErrorKind::ConnectionRefused;
            self.rule.found_listener(if refused { Presence::Refused } else { Presence::Unreachable });
        }
        Why::NotDelivered
    }

    async fn send(&mut self, listener: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let open = match self.socket.take() {
            Some(open) => open,
            None => {
                let slot = self.mirror.sockets.claim().ok_or_else(|| io::Error::from_raw_os_error(libc::EMFILE))?;
                Open { socket: open(listener).await?, _slot: slot }
            }
        };
        self.was_opened = true;
        let socket = &self.socket.insert(open).socket;
        // On this machine a refusal is known as soon as a datagram was sent; from another one it comes for an earlier one.
        let sent = match socket.send(datagram).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => socket.send(datagram).await,
            sent => sent,
        };
        sent?;
        match socket.take_error()? {
            Some(error) => Err(error),
            None => {
                self.rule.found_listener(Presence::Listening);
                Ok(())
            }
        }
    }

    fn gap(&self, Gap { reason, bytes, datagrams }: Gap) {
        if self.rule.printers.any() {
            self.rule.printers.tell(self.rule.id, self.flow, PrintedEvent::Gap { reason, bytes, datagrams });
        }
    }
}

/// A socket that only the listener answers to.
async fn open(listener: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = if listener.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    for _ in 0..BINDS {
        let socket = UdpSocket::bind(any).await?;
        socket.connect(listener).await?;
        // Where nobody listens, a socket that happens to have the listener's port would talk to itself.
        if socket.local_addr()? != listener {
            return Ok(socket);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// Reads what the listener answers until there is nothing more.
async fn discard_answers(open: Option<&Open>, rule: &LiveRule) {
    let Some(Open { socket, .. }) = open else { return };
    // An error here is a refusal, which the next send tells as well.
    if socket.readable().await.is_err() {
        return;
    }
    let mut scratch = [0; 2048];
    loop {
        match socket.try_recv(&mut scratch) {
            Ok(bytes) => rule.counts.answer_bytes.add(bytes as u64),
            Err(_) => return,
        }
    }
}
