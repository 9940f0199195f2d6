//! What [`TcpFlow`] does to smoltcp: listen, feed, close, emit.

use std::ops::ControlFlow;

use smoltcp::{iface::PollResult, socket::tcp::State, wire::IpListenEndpoint};

use super::{TcpFlow, UNANSWERED_TIMEOUT, device};
use crate::{flow::FlowKey, moment::Moment, ring::Rings};

/// Makes the socket wait for a SYN, whatever it did before.
pub(super) fn listen(rings: &mut Rings, key: &FlowKey) {
    let socket = rings.socket_mut();
    socket.abort();
    // It fails for port 0 alone, which no segment has; such a flow stays closed.
    let _ = socket.listen(IpListenEndpoint { addr: Some(key.cluster.0.ip().into()), port: key.cluster.0.port() });
    socket.pause_synack(true);
    socket.set_nagle_enabled(false);
    socket.set_ack_delay(None);
    // smoltcp's own timeout also ends idle connections.
    socket.set_timeout(None);
}

impl TcpFlow {
    /// Hands a packet to smoltcp.
    pub(super) fn feed_bytes(&mut self, bytes: &[u8], now: Moment) {
        let mut device =
            device::Ingress { mtu: self.mtu, frame: self.frame, packet: Some(bytes), reply: &mut self.reply };
        self.interface.poll_ingress_single(now.to_smoltcp(), &mut device, &mut self.rings.sockets);
    }

    pub(super) fn give_up_unanswered(&mut self, now: Moment) {
        if self.unanswered_since.is_some_and(|since| now >= since + UNANSWERED_TIMEOUT) {
            self.unanswered_since = None;
            self.reset();
        }
    }

    /// Stage 4 of the flow, behind the reply.
    pub(super) fn emit_segments(
        &mut self,
        now: Moment,
        scratch: &mut [u8],
        mut emit: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> usize {
        let mut emitted = self.drain(now, scratch, &mut emit);
        if self.settled && self.awaits_answer() && self.restart_lost_timer(now) {
            emitted += self.drain(now, scratch, &mut emit);
        }
        if self.awaits_answer() {
            self.unanswered_since.get_or_insert(now);
        } else {
            self.unanswered_since = None;
        }
        emitted
    }

    /// Emits until smoltcp has nothing more or `emit` breaks.
    fn drain(&mut self, now: Moment, scratch: &mut [u8], emit: &mut impl FnMut(&[u8]) -> ControlFlow<()>) -> usize {
        let mut device = device::Egress {
            mtu: self.mtu,
            frame: self.frame,
            scratch,
            emit,
            acknowledged: &mut self.peer.sequence,
            emitted: 0,
            stopped: false,
        };
        loop {
            let in_time_wait = self.rings.socket().state() == State::TimeWait;
            // At the end of TIME-WAIT smoltcp would throw away what is still in the receive ring, so for it time stands still there:
            // only the acknowledgement of the peer's FIN is due.
            let moment = if in_time_wait { self.time_wait_since } else { now };
            let polled = self.interface.poll_egress(moment.to_smoltcp(), &mut device, &mut self.rings.sockets);
            if polled == PollResult::None || device.stopped {
                break;
            }
        }
        self.settled = !device.stopped;
        device.emitted
    }

    /// Whether something was sent that the peer must answer.
    fn awaits_answer(&self) -> bool {
        let socket = self.rings.socket();
        match socket.state() {
            State::SynReceived | State::FinWait1 | State::Closing | State::LastAck => true,
            State::Established | State::CloseWait => socket.send_queue() > 0,
            State::Closed | State::Listen | State::SynSent | State::FinWait2 | State::TimeWait => false,
        }
    }
}
