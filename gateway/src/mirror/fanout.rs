//! [`FanOut`]: what one tap copies, handed to every rule of every session that wants it. It runs in the tap's reader, so it never waits:
//! a frame costs one look-up, and a push for each session that has the flow.
//!
//! Every flow of the tap is known here, wanted or not, so that a session that comes later gets it from its middle.
//! Before: [`super::reader`]; after: [`super::feed`].

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use link::{
    mirrored::{FrameHeader, FrameKind, Gap},
    rules::{Loss, LossReason, RuleProtocol, Sample},
};
use rustc_hash::FxHashMap;

use super::{counts::Counts, feed::Feed, subscription::Subscription};
use crate::tap::protocol::{FlowNumber, FromFlow, Opened, PortStats};

/// Flows of one tap that are known at most; a tap that opens more has its new ones passed over. Taps have bounds below it.
const MOST_FLOWS: usize = 1 << 18;

/// A port that a tap copies.
pub(super) type Port = (RuleProtocol, u16);

/// The flows of one tap, and who wants them.
#[derive(Debug, Default)]
pub(super) struct FanOut {
    replica: String,
    subscribers: FxHashMap<Port, Vec<Subscriber>>,
    flows: FxHashMap<FlowNumber, Flow>,
}

#[derive(Debug)]
struct Subscriber {
    subscription: Arc<Subscription>,
    counts: Arc<Counts>,
    /// What the tap had counted of its port.
    seen: PortStats,
    /// It had another tap before: flows that are seen from their middle may be those that it had.
    had_another: bool,
}

#[derive(Debug)]
struct Flow {
    opened: Opened,
    /// A frame of it has come.
    has_begun: bool,
    feeds: Vec<Arc<Feed>>,
    /// Rules for its port that leave it out.
    left_out: Vec<(Arc<Subscription>, Arc<Counts>, LossReason)>,
}

impl FanOut {
    pub(super) fn new(replica: &str) -> Self {
        Self { replica: replica.to_owned(), ..Self::default() }
    }

    /// The rules' ports, each with the largest sample.
    pub(super) fn ports(&self) -> impl Iterator<Item = (Port, Sample)> {
        let largest = |subscribers: &Vec<Subscriber>| subscribers.iter().map(|one| one.subscription.rule.sample).max();
        self.subscribers.iter().filter_map(move |(port, subscribers)| Some((*port, largest(subscribers)?)))
    }

    /// Who wants anything of this tap.
    pub(super) fn subscriptions(&self) -> impl Iterator<Item = &Arc<Subscription>> {
        self.subscribers.values().flatten().map(|one| &one.subscription)
    }

    /// Copies for a rule from here on, flows that are open included. `seen` is what the tap counted of the port so far.
    pub(super) fn subscribe(&mut self, subscription: &Arc<Subscription>, counts: &Arc<Counts>, seen: PortStats) {
        let rule = &subscription.rule;
        let port = (rule.protocol, rule.port);
        for flow in self.flows.values_mut().filter(|flow| flow.port() == port) {
            flow.join(&self.replica, subscription, counts, true, LossReason::Existing);
        }
        let subscriber =
            Subscriber { subscription: Arc::clone(subscription), counts: Arc::clone(counts), seen, had_another: false };
        self.subscribers.entry(port).or_default().push(subscriber);
    }

    /// Hands on nothing for a rule any more.
    pub(super) fn unsubscribe(&mut self, subscription: &Arc<Subscription>) {
        let port = (subscription.rule.protocol, subscription.rule.port);
        let Some(subscribers) = self.subscribers.get_mut(&port) else { return };
        subscribers.retain(|one| !Arc::ptr_eq(&one.subscription, subscription));
        if subscribers.is_empty() {
            self.subscribers.remove(&port);
        }
        for flow in self.flows.values_mut().filter(|flow| flow.port() == port) {
            flow.left_out.retain(|(other, ..)| !Arc::ptr_eq(other, subscription));
            flow.feeds.retain(|feed| !Arc::ptr_eq(&feed.subscription, subscription));
        }
    }

    /// Hands on what the tap says of a flow.
    pub(super) fn take(&mut self, number: FlowNumber, what: &FromFlow, now: Instant) {
        match what {
            FromFlow::Opened(opened) => self.open(number, opened, now),
            FromFlow::Frame { header, bytes } => self.frame(number, *header, bytes, now),
        }
    }

    fn frame(&mut self, number: FlowNumber, header: FrameHeader, bytes: &Bytes, now: Instant) {
        // One that was passed over because there were too many.
        let Some(flow) = self.flows.get_mut(&number) else { return };
        flow.has_begun = true;
        for feed in &flow.feeds {
            feed.push(header, bytes, now);
        }
        match header.kind {
            FrameKind::Bytes { .. } | FrameKind::Datagram | FrameKind::Gap => flow.count_left_out(header, bytes),
            FrameKind::Finished | FrameKind::Reset | FrameKind::Gone => drop(self.flows.remove(&number)),
        }
    }

    fn open(&mut self, number: FlowNumber, opened: &Opened, now: Instant) {
        // A number that is used again without an end: what was before is over.
        if let Some(flow) = self.flows.remove(&number) {
            flow.leave(now);
        }
        if self.flows.len() >= MOST_FLOWS {
            return;
        }
        let mut flow = Flow { opened: *opened, has_begun: false, feeds: Vec::new(), left_out: Vec::new() };
        for one in self.subscribers.get(&flow.port()).into_iter().flatten() {
            let reason = if one.had_another { LossReason::Absent } else { LossReason::Existing };
            flow.join(&self.replica, &one.subscription, &one.counts, !opened.from_start, reason);
        }
        self.flows.insert(number, flow);
    }

    /// The tap is gone and took its flows along: what passes before the next one is there is not copied.
    pub(super) fn lose_tap(&mut self, now: Instant) {
        for (_, flow) in self.flows.drain() {
            for feed in &flow.feeds {
                feed.lose_rest(LossReason::Absent);
            }
            flow.leave(now);
        }
        for one in self.subscribers.values_mut().flatten() {
            one.had_another = true;
            one.seen = no_stats((one.subscription.rule.protocol, one.subscription.rule.port));
        }
    }

    /// The replica is gone, and its flows with it.
    pub(super) fn leave(&mut self, now: Instant) {
        for (_, flow) in self.flows.drain() {
            flow.leave(now);
        }
    }

    /// Counts for each rule what the tap itself left out or lost of its port since it was last told.
    pub(super) fn count(&mut self, stats: &[PortStats]) {
        for port in stats {
            for one in self.subscribers.get_mut(&(port.protocol, port.port)).into_iter().flatten() {
                let left_out = since(port.left_out, one.seen.left_out);
                let lost = since(lost_by_ring(port), lost_by_ring(&one.seen));
                one.seen = *port;
                for (reason, loss) in [(LossReason::Sample, left_out), (LossReason::Ring, lost)] {
                    if loss != Loss::default() {
                        one.counts.lose(reason, loss);
                        one.subscription.shared.metrics.lose_mirrored(reason, loss);
                    }
                }
            }
        }
    }
}

impl Flow {
    fn port(&self) -> Port {
        (self.opened.protocol, self.opened.server.port())
    }

    /// Copies the flow for a rule, or leaves it out. `is_open_before` says that it was there before the rule.
    fn join(
        &mut self,
        replica: &str,
        subscription: &Arc<Subscription>,
        counts: &Arc<Counts>,
        is_open_before: bool,
        existing: LossReason,
    ) {
        let rule = &subscription.rule;
        let left_out = if !rule.sample.takes(self.opened.sample_number) {
            LossReason::Sample
        } else if rule.skip_existing && is_open_before && rule.protocol == RuleProtocol::Tcp {
            existing
        } else {
            let from_start = self.opened.from_start && !self.has_begun;
            match subscription.open(replica, counts, &self.opened, from_start) {
                Some(feed) => return self.feeds.push(feed),
                None => return self.left_out.push((Arc::clone(subscription), Arc::clone(counts), LossReason::Lag)),
            }
        };
        subscription.leave_out(counts, left_out);
        self.left_out.push((Arc::clone(subscription), Arc::clone(counts), left_out));
    }

    /// Counts a frame for the rules that leave the flow out. What is missing in it they leave out as well.
    fn count_left_out(&self, header: FrameHeader, frame: &[u8]) {
        if self.left_out.is_empty() {
            return;
        }
        let loss = if header.kind == FrameKind::Gap {
            // What cannot be read was refused when it came from the tap.
            let Ok(Gap { bytes, datagrams, .. }) = Gap::decode(&frame[FrameHeader::BYTES..]) else { return };
            Loss { flows: 0, bytes, datagrams }
        } else {
            Loss { flows: 0, bytes: header.len as u64, datagrams: u64::from(header.kind == FrameKind::Datagram) }
        };
        for (subscription, counts, reason) in &self.left_out {
            counts.lose(*reason, loss);
            subscription.shared.metrics.lose_mirrored(*reason, loss);
        }
    }

    fn leave(&self, now: Instant) {
        for feed in &self.feeds {
            feed.leave(now);
        }
    }
}

/// What the ring lost that is in no flow's gaps.
const fn lost_by_ring(port: &PortStats) -> Loss {
    Loss { flows: 0, bytes: port.lost_bytes, datagrams: port.lost_datagrams }
}

/// What a tap that has not counted yet says of a port.
pub(super) fn no_stats((protocol, port): Port) -> PortStats {
    PortStats { port, protocol, nobody_listens: false, left_out: Loss::default(), lost_datagrams: 0, lost_bytes: 0 }
}

/// The difference; all of it where the tap began to count anew.
fn since(now: Loss, before: Loss) -> Loss {
    let difference = || {
        Some(Loss {
            flows: now.flows.checked_sub(before.flows)?,
            bytes: now.bytes.checked_sub(before.bytes)?,
            datagrams: now.datagrams.checked_sub(before.datagrams)?,
        })
    };
    difference().unwrap_or(now)
}
