//! The requests of one connection to a listener that are not settled: not whole there yet, or not answered. Each is counted once, as
//! delivered when it was whole and its answer began, else as missed. Pure but for the rule's counters.

use std::{collections::VecDeque, sync::Arc};

use crate::mirror::{http1::head::RequestKind, live_rule::LiveRule};

/// Requests without an answer at most: above it a listener is too slow, however small they are.
const MAX_OUTSTANDING: usize = 16_384;

/// Unsettled requests, the oldest first.
#[derive(Debug)]
pub(super) struct Outstanding {
    rule: Arc<LiveRule>,
    requests: VecDeque<Request>,
    /// How many of them, from the front, have an answer.
    answered: usize,
}

#[derive(Debug)]
struct Request {
    kind: RequestKind,
    /// Where it starts and ends in what the listener gets; not known while it arrives.
    start: u64,
    end: Option<u64>,
}

impl Outstanding {
    pub(super) const fn new(rule: Arc<LiveRule>) -> Self {
        Self { rule, requests: VecDeque::new(), answered: 0 }
    }

    pub(super) fn is_full(&self) -> bool {
        self.requests.len() >= MAX_OUTSTANDING
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    pub(super) fn begin(&mut self, kind: RequestKind, start: u64) {
        self.requests.push_back(Request { kind, start, end: None });
        self.rule.counts.requests_in_flight.add(1);
    }

    pub(super) fn end(&mut self, end: u64) {
        if let Some(request) = self.requests.back_mut() {
            request.end.get_or_insert(end);
        }
    }

    /// Where the request starts that has not ended.
    pub(super) fn in_progress(&self) -> Option<u64> {
        self.requests.back().filter(|request| request.end.is_none()).map(|request| request.start)
    }

    /// An answer has begun: to the oldest request without one.
    pub(super) fn answer(&mut self) -> Option<RequestKind> {
        let kind = self.requests.get(self.answered)?.kind;
        self.answered += 1;
        Some(kind)
    }

    /// Counts those that are answered and wholly written as delivered.
    pub(super) fn settle(&mut self, written: u64) {
        while self.answered > 0
            && let Some(request) = self.requests.front()
            && request.end.is_some_and(|end| end <= written)
        {
            self.requests.pop_front();
            self.answered -= 1;
            self.rule.counts.requests_delivered.increment();
            self.rule.counts.requests_in_flight.sub(1);
        }
    }

    /// Nothing from `offset` on is written any more: requests that start there are missed, one that ends behind it does not end.
    pub(super) fn cut(&mut self, offset: u64) {
        while let Some(request) = self.requests.back_mut() {
            if request.start < offset {
                request.end = request.end.filter(|end| *end <= offset);
                return;
            }
            self.miss_last();
        }
    }

    /// The last one will not be whole.
    pub(super) fn miss_last(&mut self) {
        if self.requests.pop_back().is_some() {
            self.answered = self.answered.min(self.requests.len());
            self.missed(1);
        }
    }

    /// None of them will be settled.
    pub(super) fn miss_all(&mut self) {
        self.missed(self.requests.len() as u64);
        self.requests.clear();
        self.answered = 0;
    }

    fn missed(&self, count: u64) {
        self.rule.counts.requests_missed.add(count);
        self.rule.counts.requests_in_flight.sub(count);
    }
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        self.miss_all();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_request_is_counted_once(steps in proptest::collection::vec((0u8..6, 0u64..5), 0..60)) {
            let json = r#"{"target":"shop/deploy/web","port":8080,"protocol":"tcp","listener":"print"}"#;
            let rule = Arc::new(LiveRule::new(1, serde_json::from_str(json).unwrap()));
            let mut outstanding = Outstanding::new(Arc::clone(&rule));
            let (mut begun, mut pushed, mut written) = (0, 0, 0);
            for (step, amount) in steps {
                match step {
                    0 if outstanding.in_progress().is_none() => {
                        outstanding.begin(RequestKind::Other, pushed);
                        begun += 1;
                        pushed += 1;
                    }
                    1 => {
                        pushed += amount;
                        outstanding.end(pushed);
                    }
                    2 => { outstanding.answer(); }
                    3 => written = (written + amount).min(pushed),
                    4 => {
                        pushed = (pushed - amount.min(pushed)).max(written);
                        outstanding.cut(pushed);
                        if outstanding.in_progress().is_some() {
                            outstanding.miss_last();
                        }
                    }
                    _ => {}
                }
                outstanding.settle(written);
            }
            drop(outstanding);
            let requests = rule.delivery().requests;
            prop_assert_eq!((requests.delivered + requests.missed, requests.in_flight), (begun, 0));
        }
    }
}
