//! [`TcpFlow`]: the cluster's end of one TCP connection of an application, as smoltcp speaks it.
//!
//! One interface with one socket per flow, so no flow costs another anything. The way of a packet:
//!
//! 1. [`TcpFlow::ingress`] takes a segment of the application's kernel. The first SYN is held.
//! 2. The caller dials: [`TcpFlow::accept`], [`TcpFlow::refuse`], or drops the flow (silence, or an ICMP error quoting [`TcpFlow::syn`]).
//! 3. [`TcpFlow::recv`] lends the receive ring to a stream's `poll_write`, [`TcpFlow::send`] the transmit ring to its `poll_read`.
//!    [`TcpFlow::peer_finished`] ends the first way, [`TcpFlow::finish`] the second, [`TcpFlow::reset`] both.
//! 4. [`TcpFlow::egress`] lays what is ready into the caller's scratch, a packet at a time. It belongs behind every call above;
//!    and at [`TcpFlow::poll_at`], which announces whatever a later egress would do by itself.
//! 5. When [`TcpFlow::is_closed`], [`TcpFlow::into_rings`]. TIME-WAIT is not kept: the flow table keeps a tombstone.
//!
//! Before: [`crate::segment`], [`crate::flow_table`]; after: `tunnel::outbound::tcp`, and back to the device.

mod device;
mod engine;
mod guard;
mod state;

use std::{ops::ControlFlow, time::Duration};

use smoltcp::{
    iface::{Config, Interface},
    socket::tcp::State,
    wire::HardwareAddress,
};

use self::device::{Frame, Reply};
use crate::{flow::FlowKey, moment::Moment, ring::Rings, segment::Segment};

/// How long the application's kernel may leave data, SYN-ACK or FIN without any answer. It is on this machine and answers even window
/// probes at once, so it is gone (its namespace was deleted, say); Linux gives an orphan about as long.
pub const UNANSWERED_TIMEOUT: Duration = Duration::from_secs(120);

/// The smallest MTU that IPv6 allows (RFC 8200 5); below it there might be no room for a segment.
const MIN_MTU: u16 = 1280;

/// One TCP connection.
pub struct TcpFlow {
    interface: Interface,
    rings: Rings,
    key: FlowKey,
    frame: Frame,
    reply: Reply,
    /// Sequence number of the SYN that opened the flow.
    opened_by: Option<u32>,
    mtu: u16,
    /// What went through the rings, both together.
    carried_bytes: usize,
    /// The SYN waits for [`TcpFlow::accept`].
    held: bool,
    /// Our FIN is wanted, or sent.
    finishing: bool,
    /// Nothing has changed since an egress came to its end.
    settled: bool,
    /// Ended by a reset, from either side, and not by two FINs.
    reset: bool,
    /// When the last segment came that may have led to TIME-WAIT.
    time_wait_since: Moment,
    /// What the peer said last.
    peer: guard::Peer,
    /// Since when something of ours has been without any answer.
    unanswered_since: Option<Moment>,
}

/// What became of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Ingress {
    /// The flow has it.
    Taken,
    /// It is the SYN of a new connection between the same addresses, so the application's kernel has forgotten this one: drop this
    /// flow as if it had been reset, and give the segment to a new one.
    Superseded,
}

impl TcpFlow {
    /// A flow that waits for its SYN. `seed` must differ from flow to flow; `mtu` is the device's, at least 1,280.
    pub fn new(key: FlowKey, seed: u64, mut rings: Rings, mtu: u16, now: Moment) -> Self {
        let mtu = mtu.max(MIN_MTU);
        let frame = Frame::new(&key);
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut reply = Reply::NONE;
        let mut device = device::Ingress { mtu, frame, packet: None, reply: &mut reply };
        let mut interface = Interface::new(config, &mut device, now.to_smoltcp());
        // The socket listens on the one address; an address of the interface would have to be checked for being unicast.
        interface.set_any_ip(true);
        engine::listen(&mut rings, &key);
        Self {
            interface,
            rings,
            key,
            frame,
            reply,
            opened_by: None,
            mtu,
            carried_bytes: 0,
            held: true,
            finishing: false,
            settled: true,
            reset: false,
            time_wait_since: now,
            peer: guard::Peer::default(),
            unanswered_since: None,
        }
    }

    /// Takes a segment of this flow. It may leave a reply for the next egress and bytes for [`TcpFlow::recv`].
    pub fn ingress(&mut self, segment: &Segment<'_>, now: Moment) -> Ingress {
        if segment.opens() {
            match self.opened_by {
                Some(sequence) if sequence == segment.sequence() && self.socket_state() != State::Listen => {}
                Some(_) if !self.is_held() => return Ingress::Superseded,
                // Given up and tried again: the dial that is under way is as good for the new attempt.
                Some(_) => engine::listen(&mut self.rings, &self.key),
                None => {}
            }
            self.opened_by = Some(segment.sequence());
            self.learn_scale(segment);
        }
        let before = self.socket_state();
        self.feed(segment, now);
        let after = self.socket_state();
        // Behind both FINs a reset is no error (RFC 9293 3.10.7.4): the peer has forgotten what it had finished.
        let finished = matches!(before, State::Closing | State::LastAck | State::TimeWait);
        self.reset |=
            segment.resets() && !finished && before != after && matches!(after, State::Closed | State::Listen);
        self.close_when_safe();
        self.settled = false;
        if before != State::TimeWait {
            self.time_wait_since = now;
        }
        self.unanswered_since = None;
        Ingress::Taken
    }

    /// The dial succeeded: the next egress sends the SYN-ACK.
    pub fn accept(&mut self) {
        self.held = false;
        self.settled = false;
        self.rings.socket_mut().pause_synack(false);
    }

    /// The dial was refused: the next egress sends RST|ACK, and the application's `connect()` says `ECONNREFUSED`.
    pub fn refuse(&mut self) {
        self.reset();
    }

    /// Ends both directions at once: the next egress sends a RST.
    pub fn reset(&mut self) {
        if !self.is_over() {
            self.held = false;
            self.settled = false;
            self.reset = true;
            self.rings.socket_mut().abort();
        }
    }

    /// Lends the bytes at the front of the receive ring to `read`, which says how many of them it took. `None`, without a call, when there
    /// are none. A ring has an end, so call again until `None` or until nothing is taken.
    pub fn recv<R>(&mut self, read: impl FnOnce(&[u8]) -> (usize, R)) -> Option<R> {
        let rings = &mut self.rings;
        if self.reset || rings.socket().recv_queue() == 0 {
            return None;
        }
        let mut consumed = 0;
        let result = rings.socket_mut().recv(|bytes| {
            let (taken, result) = read(bytes);
            consumed = taken;
            (taken, result)
        });
        self.carried_bytes = self.carried_bytes.saturating_add(consumed);
        // Behind both FINs nobody is told about a window.
        self.settled &= consumed == 0 || self.is_over();
        result.ok()
    }

    /// Lends the free room at the end of the transmit ring to `fill`, which says how many bytes it wrote. `None`, without a call, when
    /// there is no room, the connection is not yet open, or [`TcpFlow::finish`] was called. Call again as with [`TcpFlow::recv`].
    pub fn send<R>(&mut self, fill: impl FnOnce(&mut [u8]) -> (usize, R)) -> Option<R> {
        let rings = &mut self.rings;
        if self.finishing || !rings.socket().can_send() {
            return None;
        }
        let mut filled = 0;
        let result = rings.socket_mut().send(|room| {
            let (written, result) = fill(room);
            filled = written;
            (written, result)
        });
        self.carried_bytes = self.carried_bytes.saturating_add(filled);
        self.settled &= filled == 0;
        result.ok()
    }

    /// Nothing more will be sent: a FIN follows what is in the transmit ring. The other direction goes on.
    pub fn finish(&mut self) {
        if !self.finishing {
            self.finishing = true;
            self.settled = false;
            self.close_when_safe();
        }
    }

    /// Hands every packet that is ready to `emit`, each behind its virtio header, ready for one `write(2)` to the device.
    ///
    /// `emit` must take the packet that it is given; it breaks when it wants no further one, and the rest waits for the next egress.
    /// Returns how many packets it took. `scratch` needs [`crate::virtio::SCRATCH_BYTES`], or as much as the MTU.
    pub fn egress(&mut self, now: Moment, scratch: &mut [u8], mut emit: impl FnMut(&[u8]) -> ControlFlow<()>) -> usize {
        let replied = match self.reply.take().map(&mut emit) {
            Some(ControlFlow::Break(())) => return 1,
            Some(ControlFlow::Continue(())) => 1,
            None => 0,
        };
        if self.is_held() || self.is_closed() {
            return replied;
        }
        self.give_up_unanswered(now);
        replied + self.emit_segments(now, scratch, emit)
    }

    /// When the next egress is due although nothing else happens; `None` when it is not. At or before `now` means at once. A held
    /// flow asks for none, and nor does a closed one.
    pub fn poll_at(&mut self, now: Moment) -> Option<Moment> {
        if self.reply.is_some() {
            return Some(now);
        }
        if self.is_held() || self.is_closed() {
            return None;
        }
        if self.socket_state() == State::TimeWait {
            return (!self.settled).then_some(now);
        }
        let due = self.interface.poll_at(now.to_smoltcp(), &self.rings.sockets).map(Moment::from_smoltcp);
        let unanswered = self.unanswered_since.map(|since| since + UNANSWERED_TIMEOUT);
        [due, unanswered].into_iter().flatten().min()
    }

    /// Ends the flow without a word and gives its rings back.
    pub fn into_rings(mut self) -> Rings {
        let unread = self.rings.socket().recv_queue();
        self.rings.dirty_bytes = self.rings.dirty_bytes.max(self.carried_bytes.saturating_add(unread));
        self.rings
    }
}
