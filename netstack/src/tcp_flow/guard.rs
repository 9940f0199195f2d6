//! Where smoltcp must be led by the hand: segments that it would take the wrong way, and a timer that it can lose. Used by [`TcpFlow`].
//!
//! Found by the model tests, and seen in smoltcp 0.14:
//! - three repeated acknowledgements while only a FIN is in flight make it forget the FIN;
//! - a FIN counts as received although the end of its segment did not fit the window, and the stream ends short;
//! - payload behind a FIN is received, too;
//! - a window that closes over data in flight leaves it without a timer, once the window or a retransmission has had its turn;
//! - once both ends have finished, the peer's windows are ignored, so what was left to send waits for single probes;
//! - a window that is rounded down when scaled can take back up to three bytes of the one before (see [`WINDOW_MARGIN`]).

use std::borrow::Cow;

use smoltcp::socket::tcp::State;

use super::TcpFlow;
use crate::{
    moment::Moment,
    segment::{self, ACK, FIN, Fields, Segment},
};

/// How much less of a scaled window is said than smoltcp says, in units of the scale. As a ring fills by an odd number of bytes, the
/// window's end may go back by less than one unit; this way it never goes back behind what the peer was told, whose last bytes would be
/// cut off, and sent again only after its own timeout.
pub(super) const WINDOW_MARGIN: u16 = 1;

/// What the peer said last, to be said again to smoltcp.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Peer {
    /// What it acknowledged; `None` before the SYN-ACK.
    acknowledged: Option<u32>,
    /// Its window, unscaled.
    window: u16,
    /// How far its windows are to be shifted.
    scale: u8,
    /// The next byte that we expect of it: what our last packet acknowledged.
    pub(super) sequence: u32,
}

impl Peer {
    /// Ignores what is older than what it said before, as smoltcp does.
    fn hear(&mut self, acknowledged: u32, window: u16) {
        if self.acknowledged.is_none_or(|before| acknowledged.wrapping_sub(before) < 1 << 31) {
            (self.acknowledged, self.window) = (Some(acknowledged), window);
        }
    }
}

impl TcpFlow {
    /// Hands a segment to smoltcp, changed where it would be taken the wrong way.
    pub(super) fn feed(&mut self, segment: &Segment<'_>, now: Moment) {
        if self.is_beyond_fin(segment) {
            return;
        }
        let packet = segment.packet();
        let mut bytes = Cow::Borrowed(packet.bytes());
        if packet.has_extension_headers() {
            bytes = Cow::Owned(packet.without_extension_headers());
        }
        let tcp = bytes.len() - packet.payload().len();
        let mut window = segment.window();
        if self.only_repeats(segment) {
            // With nothing left to send but the FIN it means nothing; and an update of it is no repetition.
            window ^= 1;
            bytes.to_mut()[tcp + segment::WINDOW_AT..][..2].copy_from_slice(&window.to_be_bytes());
        }
        if segment.flags() & ACK != 0 {
            self.peer.hear(segment.acknowledged(), window);
        }
        if segment.flags() & FIN != 0 && !segment.payload().is_empty() {
            bytes.to_mut()[tcp + segment::FLAGS_AT] &= !FIN;
            self.feed_bytes(&bytes, now);
            let sequence = segment.sequence_end().wrapping_sub(1);
            let acknowledged = segment.acknowledged();
            self.feed_fields(Fields { flags: FIN | ACK, sequence, acknowledged, window }, now);
        } else {
            self.feed_bytes(&bytes, now);
        }
    }

    /// Remembers what the SYN says about windows.
    pub(super) fn learn_scale(&mut self, syn: &Segment<'_>) {
        let scale = syn.window_scale();
        let scaled = scale.is_some() && self.rings.socket().recv_capacity() > usize::from(u16::MAX);
        self.frame.window_margin = if scaled { WINDOW_MARGIN } else { 0 };
        self.peer.scale = scale.unwrap_or(0);
    }

    /// Asks smoltcp for the FIN that is wanted as soon as smoltcp can be trusted with it: not before the handshake is over, for then it
    /// sends a FIN without its SYN, and not before the rest fits the peer's window.
    pub(super) fn close_when_safe(&mut self) {
        let socket = self.rings.socket_mut();
        if self.finishing
            && matches!(socket.state(), State::Established | State::CloseWait)
            && socket.send_queue() <= usize::from(self.peer.window) << self.peer.scale
        {
            socket.close();
        }
    }

    /// Makes smoltcp set a timer when it should have one and has not; says whether there is something to emit now. Hearing the peer's last
    /// acknowledgement once more starts probing when its window is closed, and hearing it three times more a fast retransmission when
    /// data is in flight.
    pub(super) fn restart_lost_timer(&mut self, now: Moment) -> bool {
        for fed in 0..=4 {
            let timer = self.interface.poll_at(now.to_smoltcp(), &self.rings.sockets).map(Moment::from_smoltcp);
            if timer.is_some() || self.rings.socket().send_queue() == 0 {
                return fed > 0 && timer.is_some_and(|due| due <= now);
            }
            let Some(acknowledged) = self.peer.acknowledged else { break };
            let (window, sequence) = (self.peer.window, self.peer.sequence);
            self.feed_fields(Fields { flags: ACK, sequence, acknowledged, window }, now);
            // The peer has asked nothing.
            self.reply.take();
        }
        false
    }

    fn feed_fields(&mut self, fields: Fields, now: Moment) {
        let mut bytes = [0; segment::MAX_HEADERS_BYTES];
        if let Some(ip) = segment::write(&mut bytes, self.key.host.0, self.key.cluster.0, fields) {
            self.feed_bytes(&bytes[..ip.total_len()], now);
        }
    }

    fn is_beyond_fin(&self, segment: &Segment<'_>) -> bool {
        let beyond = segment.sequence_end().wrapping_sub(self.peer.sequence);
        self.fin_received() && !segment.payload().is_empty() && (1..1 << 31).contains(&beyond)
    }

    /// Whether smoltcp would count the segment as a repeated acknowledgement of everything but our FIN.
    fn only_repeats(&self, segment: &Segment<'_>) -> bool {
        let socket = self.rings.socket();
        matches!(socket.state(), State::FinWait1 | State::Closing | State::LastAck)
            && socket.send_queue() == 0
            && segment.payload().is_empty()
            && self.peer.acknowledged == Some(segment.acknowledged())
            && self.peer.window == segment.window()
    }
}
