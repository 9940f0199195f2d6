//! What can be asked of a [`TcpFlow`].

use std::fmt;

use smoltcp::socket::tcp::State;

use super::TcpFlow;
use crate::{flow::FlowKey, icmp::Quote};

impl TcpFlow {
    /// The flow's name.
    pub const fn key(&self) -> FlowKey {
        self.key
    }

    /// The SYN that opened the flow, as far as an ICMP error must quote it.
    pub fn syn(&self) -> Quote<'static> {
        Quote::syn(&self.key, self.opened_by.unwrap_or(0))
    }

    /// Whether the SYN waits for the dial.
    pub fn is_held(&self) -> bool {
        self.held && !self.is_over()
    }

    /// Whether bytes wait in the receive ring.
    pub fn can_recv(&self) -> bool {
        !self.reset && self.rings.socket().recv_queue() > 0
    }

    /// Whether the transmit ring has room and the connection is open for it.
    pub fn can_send(&self) -> bool {
        !self.finishing && self.rings.socket().can_send()
    }

    /// Whether the application has finished its direction and every byte of it was received by [`TcpFlow::recv`].
    pub fn peer_finished(&self) -> bool {
        self.fin_received() && self.rings.socket().recv_queue() == 0
    }

    /// Whether a reset ended the flow: the application's, ours, or because the application's kernel is gone.
    pub const fn is_reset(&self) -> bool {
        self.reset
    }

    /// Whether both directions are over, everything was received and the last packet emitted: the flow can go.
    pub fn is_closed(&self) -> bool {
        self.settled && !self.reply.is_some() && self.is_over() && (self.reset || self.rings.socket().recv_queue() == 0)
    }

    /// Ended by two FINs, the last of them still to be acknowledged perhaps, or by a reset. smoltcp listens again after a reset in
    /// SYN-RECEIVED.
    pub(super) fn is_over(&self) -> bool {
        match self.socket_state() {
            State::Closed | State::TimeWait => true,
            State::Listen => self.reset,
            State::SynSent
            | State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::LastAck
            | State::Closing => false,
        }
    }

    pub(super) fn fin_received(&self) -> bool {
        match self.socket_state() {
            State::CloseWait | State::LastAck | State::Closing | State::TimeWait => true,
            State::Closed => !self.reset,
            State::Listen
            | State::SynSent
            | State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2 => false,
        }
    }

    pub(super) fn socket_state(&self) -> State {
        self.rings.socket().state()
    }
}

impl fmt::Debug for TcpFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = self.rings.socket();
        f.debug_struct("TcpFlow")
            .field("key", &format_args!("{}", self.key))
            .field("state", &socket.state())
            .field("held", &self.held)
            .field("finishing", &self.finishing)
            .field("settled", &self.settled)
            .field("reset", &self.reset)
            .field("received_bytes", &socket.recv_queue())
            .field("unacknowledged_bytes", &socket.send_queue())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use smoltcp::iface::SocketStorage;

    use super::*;

    /// Beside these, an idle flow has the two pages of its rings that it has touched: 9.1 KiB in all.
    #[test]
    fn a_flow_is_small() {
        assert!(size_of::<TcpFlow>() <= 576, "{}", size_of::<TcpFlow>());
        assert!(size_of::<SocketStorage<'_>>() <= 576, "{}", size_of::<SocketStorage<'_>>());
        assert!(size_of::<FlowKey>() <= 68, "{}", size_of::<FlowKey>());
    }
}
