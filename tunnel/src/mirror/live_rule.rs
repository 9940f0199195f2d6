//! A rule as its flows see it: whether it is on, what they count, and what they found the listener to be. The thread that carries the
//! flows writes it, the one that answers commands reads it. Before: [`super::rules`]; after: [`super::connection`], [`super::datagrams`].

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use link::rules::Loss;
use tokio_util::sync::CancellationToken;

use super::{print::Printers, sockets};
use crate::control::{
    counters::Counter,
    mirror_message::NewRule,
    mirror_status::{Delivery, ListenerState, Notice, NoticeKind, Presence, Requests},
    status::unix_now,
};

/// A rule that flows refer to by its number.
#[derive(Debug)]
pub(super) struct LiveRule {
    pub(super) id: u32,
    pub(super) spec: NewRule,
    pub(super) counts: Counts,
    pub(super) printers: Printers,
    on: AtomicBool,
    /// Cancelled when the rule is switched off; a new one is made when it is switched on.
    off: Mutex<CancellationToken>,
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    listener: ListenerState,
    notices: BTreeMap<NoticeKind, u64>,
}

/// What flows count.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) open: Gauge,
    pub(super) bytes: Counter,
    pub(super) datagrams: Counter,
    pub(super) answer_bytes: Counter,
    pub(super) listener_lag: LossCounts,
    pub(super) not_delivered: LossCounts,
    pub(super) not_joined: LossCounts,
    pub(super) switched_off: LossCounts,
    pub(super) source_gone: LossCounts,
    pub(super) requests_delivered: Counter,
    pub(super) requests_missed: Counter,
    pub(super) requests_in_flight: Gauge,
}

/// A number of what is there now. Changed by one thread.
#[derive(Debug, Default)]
pub(super) struct Gauge(Counter);

impl Gauge {
    pub(super) fn add(&self, amount: u64) {
        self.0.add(amount);
    }

    pub(super) fn sub(&self, amount: u64) {
        self.0.set(self.0.value().saturating_sub(amount));
    }
}

/// What was not delivered, for one reason.
#[derive(Debug, Default)]
pub(super) struct LossCounts {
    pub(super) flows: Counter,
    pub(super) bytes: Counter,
    pub(super) datagrams: Counter,
}

impl LossCounts {
    fn snapshot(&self) -> Loss {
        Loss { flows: self.flows.value(), bytes: self.bytes.value(), datagrams: self.datagrams.value() }
    }
}

/// Why something was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    ListenerLag,
    NotDelivered,
    NotJoined,
    SwitchedOff,
    SourceGone,
}

impl LiveRule {
    pub(super) fn new(id: u32, spec: NewRule) -> Self {
        Self {
            id,
            spec,
            counts: Counts::default(),
            printers: Printers::default(),
            on: AtomicBool::new(true),
            off: Mutex::default(),
            found: Mutex::default(),
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// Resolves for flows that are there now when the rule is switched off.
    pub(super) fn off(&self) -> CancellationToken {
        self.off.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn switch(&self, on: bool) {
        let mut off = self.off.lock().unwrap_or_else(PoisonError::into_inner);
        self.on.store(on, Relaxed);
        if on {
            if off.is_cancelled() {
                *off = CancellationToken::new();
            }
        } else {
            off.cancel();
        }
    }

    pub(super) const fn losses(&self, why: Why) -> &LossCounts {
        match why {
            Why::ListenerLag => &self.counts.listener_lag,
            Why::NotDelivered => &self.counts.not_delivered,
            Why::NotJoined => &self.counts.not_joined,
            Why::SwitchedOff => &self.counts.switched_off,
            Why::SourceGone => &self.counts.source_gone,
        }
    }

    /// The listener was found so.
    pub(super) fn found_listener(&self, listener: Presence) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.listener.listener != listener {
            found.listener = ListenerState { listener, since_unix: unix_now() };
        }
    }

    /// Something was seen in one more connection; told in the log the first time.
    pub(super) fn notice(&self, kind: NoticeKind) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let count = found.notices.entry(kind).or_default();
        *count += 1;
        if *count == 1 {
            tracing::info!(rule = self.id, "{}", explain(kind));
        }
    }

    pub(super) fn listener_state(&self) -> ListenerState {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).listener
    }

    pub(super) fn notices(&self) -> Vec<Notice> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let told = found.notices.iter();
        told.map(|(&kind, &connections)| Notice { kind, connections, text: explain(kind).into_owned() }).collect()
    }

    pub(super) fn delivery(&self) -> Delivery {
        let counts = &self.counts;
        Delivery {
            open: counts.open.0.value(),
            bytes: counts.bytes.value(),
            datagrams: counts.datagrams.value(),
            answer_bytes: counts.answer_bytes.value(),
            listener_lag: counts.listener_lag.snapshot(),
            not_delivered: counts.not_delivered.snapshot(),
            not_joined: counts.not_joined.snapshot(),
            switched_off: counts.switched_off.snapshot(),
            source_gone: counts.source_gone.snapshot(),
            requests: Requests {
                delivered: counts.requests_delivered.value(),
                missed: counts.requests_missed.value(),
                in_flight: counts.requests_in_flight.0.value(),
            },
        }
    }
}

fn explain(kind: NoticeKind) -> Cow<'static, str> {
    match kind {
        NoticeKind::Tls => "the connections are encrypted (TLS): they are copied as they are, and a listener can't read them without the \
                            target's key; mirror the port behind whatever ends TLS, such as a sidecar's or the program's own port"
            .into(),
        NoticeKind::Http2Joined => "HTTP/2 connections that were open before the rule can't be joined, for the state of their header \
                                    compression is not known: new ones are copied; restart a client to see its requests"
            .into(),
        NoticeKind::AmbiguousFraming => "requests were sent whose lengths two programs may read differently (both Content-Length and \
                                         Transfer-Encoding, folded lines, broken chunks): they are copied as they are, and neither counted \
                                         nor joined again"
            .into(),
        NoticeKind::Descriptors => format!(
            "this session may have {} files open, and no more of them can be sockets to listeners: what comes beyond is not copied; \
             raise the limit before adit connect (ulimit -Hn, LimitNOFILE= of systemd), or narrow the rule with --sample",
            sockets::limit()
        )
        .into(),
        NoticeKind::Other => "something newer than this adit was seen".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_end_when_their_rule_is_switched_off_and_new_ones_do_not() {
        let json = r#"{"target":"shop/deploy/web","port":8080,"protocol":"tcp","listener":"print"}"#;
        let rule = LiveRule::new(1, serde_json::from_str(json).unwrap());
        let before = rule.off();
        rule.switch(true);
        assert!(rule.is_on() && !before.is_cancelled());
        rule.switch(false);
        assert!(!rule.is_on() && before.is_cancelled());
        rule.switch(true);
        assert!(rule.is_on() && !rule.off().is_cancelled());
    }
}
