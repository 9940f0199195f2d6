//! TCP flows: the application's kernel on one side, a stream of the link on the other, smoltcp's two rings between.
//!
//! 1. A SYN makes a flow, which is held, and a task that dials: [`TcpEntry::run`].
//! 2. The outcome becomes a SYN-ACK, a RST, an ICMP error or silence.
//! 3. From then on each packet, and each wake-up by the stream, calls [`Flow::pump`]: receive ring to stream, stream to transmit
//!    ring, what is ready to the device. Nothing else is queued anywhere, so a slow end closes the other's window.
//! 4. FIN crosses as FIN, RST as RESET_STREAM; when both directions are over the rings go back to the pool.

mod flow;
mod stream;

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Poll, Waker},
};

use link::header::DialOutcome;
use netstack::{
    drop_reason::DropReason,
    flow::FlowKey,
    flow_table::{Lookup, Standing, Tombstone},
    icmp::{Unreachable, write_unreachable},
    moment::Moment,
    segment::Segment,
    tcp_flow::{Ingress, TcpFlow},
    tcp_reply,
};

use self::{flow::Flow, stream::Stream};
use super::{Entry, Outbound, names::TooMany};
use crate::device::MTU;

/// One TCP flow. The table, the reader and its task share it; one thread, so nobody waits.
pub(super) struct TcpEntry {
    key: FlowKey,
    flow: RefCell<Flow>,
}

impl Outbound {
    /// A segment from the device.
    pub(super) fn segment(self: &Rc<Self>, segment: &Segment<'_>) -> Result<(), DropReason> {
        let (key, now) = (segment.key(), self.now());
        let found = match self.table.borrow_mut().lookup(&key, now) {
            Lookup::Live(Entry::Tcp(flow)) => Ok(Rc::clone(flow)),
            Lookup::Live(Entry::Datagrams(_)) => return Err(DropReason::FlowUnknown),
            Lookup::Buried(tombstone) => Err(Some(tombstone)),
            Lookup::Unknown => Err(None),
        };
        match found {
            Ok(flow) => match flow.segment(self, segment, now) {
                Ingress::Taken => Ok(()),
                // The kernel has forgotten the old flow; a reset for it could only confuse the new one.
                Ingress::Superseded => {
                    flow.abandon();
                    self.open(segment, now)
                }
            },
            Err(Some(Tombstone::Silent)) => Err(DropReason::FlowSilent),
            Err(Some(Tombstone::Closed) | None) if segment.opens() => self.open(segment, now),
            Err(Some(Tombstone::Closed)) => self.reply(tcp_reply::acknowledge(segment)),
            Err(None) => self.reply(tcp_reply::reset(segment)),
        }
    }

    fn reply(&self, reply: Option<tcp_reply::TcpReply>) -> Result<(), DropReason> {
        self.write(reply.ok_or(DropReason::FlowUnknown)?.as_bytes());
        Ok(())
    }

    fn open(self: &Rc<Self>, segment: &Segment<'_>, now: Moment) -> Result<(), DropReason> {
        let key = segment.key();
        let mut made = None;
        let gone = self.table.borrow_mut().insert(key, Standing::Dialing, now, || {
            let entry = Rc::new(TcpEntry::new(key, self, now));
            made = Some(Rc::clone(&entry));
            Entry::Tcp(entry)
        })?;
        if let Some((key, entry)) = gone {
            self.evicted(key, entry);
        }
        let entry = made.expect("an insert that succeeds has made its value");
        let Ingress::Taken = entry.segment(self, segment, now) else {
            unreachable!("a new flow takes its first SYN");
        };
        self.tasks.spawn_local(entry.run(Rc::clone(self)));
        Ok(())
    }
}

impl TcpEntry {
    fn new(key: FlowKey, outbound: &Outbound, now: Moment) -> Self {
        let rings = outbound.rings.borrow_mut().take();
        let flow = Flow {
            tcp: TcpFlow::new(key, rand::random(), rings, MTU, now),
            stream: Stream::Dialing,
            waker: Waker::noop().clone(),
            due: None,
            unanswered: false,
            finished_to_stream: false,
            finished_to_host: false,
            over: false,
        };
        Self { key, flow: RefCell::new(flow) }
    }

    fn segment(self: &Rc<Self>, outbound: &Outbound, segment: &Segment<'_>, now: Moment) -> Ingress {
        let mut flow = self.flow.borrow_mut();
        let taken = flow.tcp.ingress(segment, now);
        if taken == Ingress::Superseded {
            return taken;
        }
        if matches!(flow.stream, Stream::Link(..)) {
            flow.send_on(outbound);
            if !std::mem::replace(&mut flow.unanswered, true) {
                outbound.unanswered.borrow_mut().push(Rc::clone(self));
            }
        } else {
            flow.pump_and_wake(outbound, self.key, now);
        }
        taken
    }

    /// What a segment has to be answered with, behind the bytes that it brought.
    pub(super) fn answer(&self, outbound: &Outbound) {
        let mut flow = self.flow.borrow_mut();
        flow.unanswered = false;
        flow.pump_and_wake(outbound, self.key, outbound.now());
    }

    /// A timer of this flow fired.
    pub(super) fn timer(&self, outbound: &Outbound, now: Moment) {
        let mut flow = self.flow.borrow_mut();
        flow.due = None;
        flow.pump_and_wake(outbound, self.key, now);
        // While the program does not read, nothing reads the stream, and so nothing would tell that its side is gone. smoltcp asks
        // for a timer about once a second then.
        if !flow.over && !flow.tcp.can_send() && flow.stream.is_gone() {
            flow.tcp.reset();
            flow.egress(outbound, self.key, now);
            flow.end();
        }
    }

    /// Resets both ends.
    pub(super) fn reset(&self, outbound: &Outbound) {
        let mut flow = self.flow.borrow_mut();
        flow.tcp.reset();
        flow.egress(outbound, self.key, outbound.now());
        flow.end();
    }

    /// The table has dropped the flow, which was not open yet: its kernel sends the SYN again.
    pub(super) fn abandon(&self) {
        self.flow.borrow_mut().end();
    }

    async fn run(self: Rc<Self>, outbound: Rc<Outbound>) {
        outbound.status.flows.tcp_total.increment();
        let stream = poll_dial(&self, &outbound).await;
        let now = outbound.now();
        let tombstone = match stream {
            None => None,
            Some(Ok(stream)) => {
                self.accept(&outbound, stream, now);
                self.carry(&outbound).await;
                Some(Tombstone::Closed)
            }
            Some(Err(outcome)) => self.fail(&outbound, outcome, now),
        };
        let is_ours = match outbound.table.borrow_mut().lookup(&self.key, now) {
            Lookup::Live(Entry::Tcp(entry)) => Rc::ptr_eq(entry, &self),
            Lookup::Live(Entry::Datagrams(_)) | Lookup::Buried(_) | Lookup::Unknown => false,
        };
        if is_ours {
            let mut table = outbound.table.borrow_mut();
            match tombstone {
                Some(tombstone) => drop(table.bury(&self.key, tombstone, outbound.now())),
                None => drop(table.remove(&self.key)),
            }
        }
        if let Some(entry) = Rc::into_inner(self) {
            outbound.rings.borrow_mut().give_back(entry.flow.into_inner().tcp.into_rings());
        }
    }

    fn accept(&self, outbound: &Outbound, stream: Stream, now: Moment) {
        outbound.table.borrow_mut().set_standing(&self.key, Standing::Established, now);
        let mut flow = self.flow.borrow_mut();
        flow.stream = stream;
        flow.tcp.accept();
        flow.egress(outbound, self.key, now);
    }

    /// Copies until both directions are over.
    async fn carry(&self, outbound: &Outbound) {
        // Once the stream has finished, only STOP_SENDING tells that its side is gone: then somebody must wait for it.
        let mut stopped: Option<Pin<Box<dyn Future<Output = ()>>>> = None;
        poll_fn(|cx| {
            let mut flow = self.flow.borrow_mut();
            if !flow.waker.will_wake(cx.waker()) {
                flow.waker = cx.waker().clone();
            }
            flow.pump(outbound, self.key, outbound.now());
            if flow.over {
                return Poll::Ready(());
            }
            if flow.finished_to_host && !flow.finished_to_stream && stopped.is_none() {
                stopped = flow.stream.stopped();
            }
            if stopped.as_mut().is_some_and(|stopped| stopped.as_mut().poll(cx).is_ready()) && !flow.finished_to_stream
            {
                stopped = None;
                flow.tcp.reset();
                flow.egress(outbound, self.key, outbound.now());
                flow.end();
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }

    /// What the application's `connect()` says to a dial that failed.
    fn fail(&self, outbound: &Outbound, outcome: DialOutcome, now: Moment) -> Option<Tombstone> {
        let unreachable = match outcome {
            DialOutcome::Connected | DialOutcome::Busy => return None,
            DialOutcome::TimedOut => return Some(Tombstone::Silent),
            DialOutcome::Refused => {
                outbound.status.flows.tcp_refused.increment();
                let mut flow = self.flow.borrow_mut();
                flow.tcp.refuse();
                flow.egress(outbound, self.key, now);
                return Some(Tombstone::Closed);
            }
            DialOutcome::HostUnreachable => Unreachable::Host,
            DialOutcome::NetworkUnreachable => Unreachable::Network,
            DialOutcome::Prohibited => {
                outbound.status.flows.prohibited.increment();
                Unreachable::Prohibited
            }
        };
        let flow = self.flow.borrow();
        outbound.write_with(|scratch| write_unreachable(scratch, unreachable, &flow.tcp.syn()));
        None
    }
}

/// Dials; `None` when the flow ended meanwhile.
async fn poll_dial(entry: &TcpEntry, outbound: &Rc<Outbound>) -> Option<Result<Stream, DialOutcome>> {
    match outbound.names.accept(entry.key, outbound) {
        Ok(Some(local)) => return Some(Ok(Stream::Local(local))),
        Ok(None) => {}
        Err(TooMany) => return Some(Err(DialOutcome::Busy)),
    }
    let mut dial = Box::pin(stream::dial(entry.key, outbound));
    poll_fn(|cx| {
        let mut flow = entry.flow.borrow_mut();
        if !flow.waker.will_wake(cx.waker()) {
            flow.waker = cx.waker().clone();
        }
        if flow.over || flow.tcp.is_reset() {
            return Poll::Ready(None);
        }
        drop(flow);
        dial.as_mut().poll(cx).map(Some)
    })
    .await
}
