//! The steps of a [`RequestFollower`]: from head to body to the next head, what is on trial, and what is let go.
//! Before: [`super`]; after: [`super::parts`].

use bytes::Bytes;

use super::{Body, Chunked, Framing, Head, NoticeKind, Partial, RequestFollower, RequestKind, Scan, State, Step};

impl RequestFollower {
    pub(super) fn head(&mut self, mut rest: Bytes, out: &mut Vec<Step>) -> Bytes {
        let State::Head(partial) = &mut self.state else { return rest };
        match partial.scan.take(&rest) {
            Scan::More => {
                partial.held.extend_from_slice(&rest);
                Bytes::new()
            }
            Scan::End(len) => {
                let end = rest.split_to(len);
                let head = partial.join(end);
                match Head::parse(&head) {
                    Ok(parsed) => self.begin(head, parsed, out),
                    Err(_) => self.ambiguous(head, out),
                }
                rest
            }
            Scan::NoHead => self.no_head(rest, out),
        }
    }

    pub(super) fn begin(&mut self, head: Bytes, parsed: Head, out: &mut Vec<Step>) {
        if self.trial.as_ref().is_some_and(|trial| trial.ended) {
            self.acquit(out);
        }
        self.is_proven |= self.has_begun;
        self.has_begun = true;
        self.emit(Step::Begin { head, kind: parsed.kind }, out);
        if parsed.kind == RequestKind::Connect {
            self.emit(Step::End { body: 0 }, out);
            self.state = State::Raw;
            self.acquit(out);
            return;
        }
        let body = match parsed.framing {
            Framing::Length(length) => Body::Length { left: length, all: length },
            Framing::Chunked => Body::Chunked(Chunked::default()),
        };
        self.state = State::Body(if parsed.upgrade { Body::Upgrading(Box::new(body)) } else { body });
        self.end_if_over(out);
    }

    pub(super) fn body(&mut self, mut rest: Bytes, out: &mut Vec<Step>) -> Bytes {
        let State::Body(body) = &mut self.state else { return rest };
        match body.take(&rest) {
            Some(len) => {
                let taken = rest.split_to(len);
                if !taken.is_empty() {
                    self.emit(Step::Body(taken), out);
                }
                self.end_if_over(out);
                rest
            }
            None => {
                self.ambiguous(rest, out);
                Bytes::new()
            }
        }
    }

    /// Goes on to the next head where a body has ended.
    pub(super) fn end_if_over(&mut self, out: &mut Vec<Step>) {
        let State::Body(body) = &self.state else { return };
        let Some((payload, upgrade)) = body.over() else { return };
        self.state = State::Head(Partial { upgrade, ..Partial::default() });
        self.emit(Step::End { body: payload }, out);
        if let Some(trial) = &mut self.trial {
            trial.ended = true;
        }
    }

    /// The framing can't be followed from here on, with `bytes` in hand.
    pub(super) fn ambiguous(&mut self, bytes: Bytes, out: &mut Vec<Step>) {
        if self.trial.is_some() {
            self.reject(out);
            self.emit(Step::Stray(bytes.len() as u64), out);
            return;
        }
        out.push(Step::Notice(NoticeKind::AmbiguousFraming));
        self.state = State::Raw;
        self.emit(Step::Raw(bytes), out);
    }

    /// What should be a head is none.
    pub(super) fn no_head(&mut self, rest: Bytes, out: &mut Vec<Step>) -> Bytes {
        let upgraded = matches!(&self.state, State::Head(partial) if partial.upgrade);
        if self.trial.is_some() {
            if upgraded {
                self.acquit(out);
            } else {
                self.reject(out);
                return self.emit(Step::Stray(rest.len() as u64), out);
            }
        }
        if self.is_proven || upgraded {
            self.release(rest, out);
        } else {
            // It was no request that was joined at. What was passed on must not be taken for one.
            out.push(Step::Broken);
            let held = self.held();
            self.forget();
            self.state = State::Seeking;
            out.push(Step::Stray((held + rest.len()) as u64));
        }
        Bytes::new()
    }

    /// Passes on what is held back, and all that follows, as it is.
    pub(super) fn release(&mut self, rest: Bytes, out: &mut Vec<Step>) {
        if let State::Head(partial) = std::mem::replace(&mut self.state, State::Raw) {
            let held = Bytes::from(partial.held);
            out.extend([held, rest].into_iter().filter(|bytes| !bytes.is_empty()).map(Step::Raw));
        }
    }

    pub(super) const fn is_between(&self) -> bool {
        matches!(&self.state, State::Head(partial) if partial.held.is_empty())
    }

    pub(super) const fn forget(&mut self) {
        self.is_proven = false;
        self.has_begun = false;
    }

    pub(super) fn acquit(&mut self, out: &mut Vec<Step>) {
        if let Some(trial) = self.trial.take() {
            out.extend(trial.steps);
        }
    }

    pub(super) fn reject(&mut self, out: &mut Vec<Step>) {
        let Some(trial) = self.trial.take() else { return };
        let held = match std::mem::replace(&mut self.state, State::Seeking) {
            State::Head(partial) => partial.held.len(),
            State::Body(_) | State::Raw | State::Seeking | State::Lost => 0,
        };
        self.forget();
        if trial.held + held > 0 {
            out.push(Step::Stray((trial.held + held) as u64));
        }
    }

    /// Appends a step, or keeps it while it is on trial; returns the nothing that is left.
    pub(super) fn emit(&mut self, step: Step, out: &mut Vec<Step>) -> Bytes {
        match &mut self.trial {
            Some(trial) => trial.keep(step),
            None => out.push(step),
        }
        Bytes::new()
    }
}
