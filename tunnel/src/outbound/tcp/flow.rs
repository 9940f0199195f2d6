//! [`Flow`]: what is between a program's kernel and a stream of the link, and how bytes go from one to the other.
//! Before: [`super`], by each packet, wake-up and timer; after: [`super::stream`].

use std::{
    ops::ControlFlow,
    task::{Context, Poll, Waker},
};

use link::error_code::FLOW_RESET;
use netstack::{flow::FlowKey, moment::Moment, tcp_flow::TcpFlow};

use super::{
    super::Outbound,
    stream::{Stream, StreamReset},
};

/// smoltcp's half, the stream's, and how far each is.
pub(super) struct Flow {
    pub(super) tcp: TcpFlow,
    pub(super) stream: Stream,
    /// The task's, so that a stream that blocks while a packet is handled wakes the task.
    pub(super) waker: Waker,
    /// When the heap will look at this flow.
    pub(super) due: Option<Moment>,
    /// [`super::TcpEntry::answer`] is due at the end of the turn.
    pub(super) unanswered: bool,
    /// The application's FIN went to the stream.
    pub(super) finished_to_stream: bool,
    /// The stream's FIN went to the application.
    pub(super) finished_to_host: bool,
    /// The table has forgotten the flow, or the stream is gone.
    pub(super) over: bool,
}

impl Flow {
    /// Gives the stream what a segment brought, and nothing else yet: the driver sends it before anything is answered.
    pub(super) fn send_on(&mut self, outbound: &Outbound) {
        if self.over {
            return;
        }
        let waker = self.waker.clone();
        // A stream that is gone says so again when the segment is answered.
        let _ = self.fill_stream(outbound, &mut Context::from_waker(&waker));
    }

    /// Pumps outside the flow's task, and lets the task notice the end.
    pub(super) fn pump_and_wake(&mut self, outbound: &Outbound, key: FlowKey, now: Moment) {
        let finished_before = self.finished_to_host;
        self.pump(outbound, key, now);
        // From a finished stream only its stop can still come, and the task waits for that.
        let must_wait = self.finished_to_host && !finished_before;
        if self.over || must_wait || (matches!(self.stream, Stream::Dialing) && self.tcp.is_reset()) {
            self.waker.wake_by_ref();
        }
    }

    pub(super) fn pump(&mut self, outbound: &Outbound, key: FlowKey, now: Moment) {
        if self.over {
            return;
        }
        let waker = self.waker.clone();
        let mut cx = Context::from_waker(&waker);
        let moved = self.fill_stream(outbound, &mut cx).and_then(|()| self.fill_ring(outbound, &mut cx));
        if moved.is_err() {
            self.tcp.reset();
        }
        self.egress(outbound, key, now);
        if self.tcp.is_reset() || moved.is_err() || self.tcp.is_closed() {
            self.end();
        }
    }

    fn fill_stream(&mut self, outbound: &Outbound, cx: &mut Context<'_>) -> Result<(), StreamReset> {
        let stream = &mut self.stream;
        let mut blocked = matches!(stream, Stream::Dialing);
        while !blocked {
            let wrote = self.tcp.recv(|bytes| match stream.poll_write(cx, bytes) {
                Poll::Ready(Ok(count)) => (count, Ok(Some(count))),
                Poll::Ready(Err(reset)) => (0, Err(reset)),
                Poll::Pending => (0, Ok(None)),
            });
            match wrote.transpose()? {
                Some(Some(count)) => outbound.status.traffic.bytes_to_cluster.add(count as u64),
                Some(None) | None => blocked = true,
            }
        }
        if !self.finished_to_stream && self.tcp.peer_finished() && !matches!(self.stream, Stream::Dialing) {
            self.finished_to_stream = true;
            self.stream.finish();
        }
        Ok(())
    }

    fn fill_ring(&mut self, outbound: &Outbound, cx: &mut Context<'_>) -> Result<(), StreamReset> {
        while !self.finished_to_host {
            let stream = &mut self.stream;
            let read = self.tcp.send(|room| match stream.poll_read(cx, room) {
                Poll::Ready(Ok(count)) => (count, Ok(Some(count))),
                Poll::Ready(Err(reset)) => (0, Err(reset)),
                Poll::Pending => (0, Ok(None)),
            });
            match read.transpose()? {
                Some(Some(0)) => {
                    self.finished_to_host = true;
                    self.tcp.finish();
                }
                Some(Some(count)) => outbound.status.traffic.bytes_from_cluster.add(count as u64),
                Some(None) | None => break,
            }
        }
        Ok(())
    }

    /// Writes what is ready, and asks for the timer that smoltcp wants.
    pub(super) fn egress(&mut self, outbound: &Outbound, key: FlowKey, now: Moment) {
        let mut scratch = outbound.scratch.borrow_mut();
        self.tcp.egress(now, &mut scratch, |packet| {
            outbound.write(packet);
            ControlFlow::Continue(())
        });
        if let Some(at) = self.tcp.poll_at(now)
            && self.due.is_none_or(|due| at.as_micros() < due.as_micros())
        {
            self.due = Some(at);
            outbound.timers.add(at, key);
        }
    }

    /// Lets go of the stream; what has not finished is reset.
    pub(super) fn end(&mut self) {
        if self.over {
            return;
        }
        self.over = true;
        match std::mem::replace(&mut self.stream, Stream::Dialing) {
            Stream::Link(mut send, mut recv) => {
                // A FIN that has arrived already stands; then the stop below is what tells.
                if !self.finished_to_stream || self.tcp.is_reset() {
                    let _ = send.reset(FLOW_RESET);
                }
                if !self.finished_to_host {
                    let _ = recv.stop(FLOW_RESET);
                }
            }
            Stream::Dialing | Stream::Local(_) => {}
        }
        self.waker.wake_by_ref();
    }
}
