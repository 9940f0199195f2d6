//! What a [`Connection`] does with the steps of its stream: each goes to the copy, or is counted as not delivered.
//! Before: [`super`]; after: [`crate::mirror::copy`].

use bytes::Bytes;

use super::{Connection, Step, Why};
use crate::mirror::{copy, http1::head::RequestKind};

/// Requests on trial are held up to this; a larger one is not joined.
const MAX_TRIAL_BYTES: usize = 4 << 20;

impl Connection {
    pub(super) fn apply_all(&mut self) {
        let mut steps = std::mem::take(&mut self.steps);
        for step in steps.drain(..) {
            if self.rule.printers.any()
                && let Some(event) = self.transcript.step(&step)
            {
                self.rule.printers.tell(self.rule.id, &self.flow, event);
            }
            self.apply(step);
        }
        self.steps = steps;
        self.bound_held();
    }

    /// What is held back counts, and is given up when it may not be held.
    fn bound_held(&mut self) {
        let costs = self.follower.costs() + self.transcript.costs();
        if self.follower.held() > MAX_TRIAL_BYTES || !self.held.admits(costs) {
            self.transcript.forget();
            let mut steps = Vec::new();
            self.follower.relieve(&mut steps);
            for step in steps {
                self.apply(step);
            }
        }
        self.held.set(self.follower.costs() + self.transcript.costs());
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Begin { head, kind } => self.begin(head, kind),
            Step::Body(bytes) => self.forward(bytes, false),
            Step::Raw(bytes) => self.forward(bytes, true),
            Step::End { .. } => self.end_request(),
            Step::Broken => self.broken(),
            Step::Missed => self.rule.counts.requests_missed.increment(),
            Step::Stray(bytes) => self.rule.losses(Why::NotJoined).bytes.add(bytes),
            Step::Notice(kind) => self.rule.notice(kind),
        }
    }

    fn begin(&mut self, head: Bytes, kind: RequestKind) {
        self.in_request = true;
        if let Some(copy) = self.copy.take_if(|copy| copy.is_doomed()) {
            self.mirror.tasks.spawn_local(copy::drain(copy));
        }
        match &mut self.copy {
            Some(copy) if copy.is_behind() => self.miss(&head),
            Some(_) => self.begin_in_copy(head, kind),
            None => {
                self.dial();
                if self.dropping.is_some() {
                    self.miss(&head);
                } else {
                    self.begin_in_copy(head, kind);
                }
            }
        }
    }

    fn begin_in_copy(&mut self, head: Bytes, kind: RequestKind) {
        self.dropping = None;
        let Some(copy) = &mut self.copy else {
            self.rule.counts.bytes.add(head.len() as u64);
            return;
        };
        if !copy.begin(head.clone(), kind) {
            copy.cut(Why::ListenerLag);
            self.miss(&head);
        }
    }

    /// A request passes by a listener that is too slow for it.
    fn miss(&mut self, head: &Bytes) {
        self.rule.counts.requests_missed.increment();
        self.rule.losses(Why::ListenerLag).bytes.add(head.len() as u64);
        self.dropping = Some(Why::ListenerLag);
    }

    fn forward(&mut self, bytes: Bytes, raw: bool) {
        let len = bytes.len() as u64;
        if let Some(why) = self.dropping {
            self.rule.losses(why).bytes.add(len);
            return;
        }
        let Some(copy) = &mut self.copy else {
            self.rule.counts.bytes.add(len);
            return;
        };
        let fits = if raw { copy.push_raw(bytes) } else { copy.push(bytes) };
        if !fits {
            copy.cut(Why::ListenerLag);
            self.rule.losses(Why::ListenerLag).bytes.add(len);
            self.dropping = Some(Why::ListenerLag);
        }
    }

    fn end_request(&mut self) {
        self.in_request = false;
        match (&mut self.copy, self.dropping) {
            (Some(copy), None) => copy.end(),
            (None, None) => self.rule.counts.requests_delivered.increment(),
            (_, Some(_)) => {}
        }
    }

    /// Something of the message in progress, or of a raw connection, is missing.
    fn broken(&mut self) {
        let in_request = std::mem::take(&mut self.in_request);
        if self.dropping.is_none() {
            match &mut self.copy {
                Some(copy) => copy.cut(Why::NotJoined),
                None if in_request => self.rule.counts.requests_missed.increment(),
                None => {}
            }
            self.dropping = Some(Why::NotJoined);
        }
    }
}
