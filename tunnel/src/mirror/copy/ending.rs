//! How a [`struct@Copy`] ends: as the client did, because something of it is missing, or at once. Before: [`super`]; after: [`super::drive`].

use std::{future::poll_fn, time::Duration};

use tokio::time::timeout;

use super::{Copy, Plan, Stage, Why, dial::reset};

/// After the client has finished, a listener may take this long to answer what it was asked before it learns of the end: many programs
/// give up what they are about when their client does, while this client has had its answer from the target.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// And this long to take the rest once it knows.
const FINISH_TIMEOUT: Duration = Duration::from_secs(30);
/// What is to be reset goes on for this long, so that requests that are whole can be answered.
const RESET_TIMEOUT: Duration = Duration::from_secs(5);

impl Copy {
    /// What was pushed last can't go on. Bytes that are taken back count as lost for `why`.
    pub(in crate::mirror) fn cut(&mut self, why: Why) {
        match self.outstanding.in_progress() {
            Some(start) => {
                self.take_back(start.max(self.written), why);
                self.outstanding.miss_last();
                if start < self.written {
                    self.plan = Plan::Reset;
                }
            }
            None if self.raw => self.plan = Plan::Reset,
            None => {}
        }
        self.charge();
        if why == Why::ListenerLag {
            self.resume_at = Some(self.queue.len() / 2);
        }
    }

    /// The client has finished.
    pub(in crate::mirror) fn finish(&mut self) {
        if self.plan == Plan::Going {
            self.plan = Plan::Finish;
            self.charge();
        }
    }

    /// The client has reset.
    pub(in crate::mirror) fn abort(&mut self) {
        self.plan = Plan::Abort;
        self.charge();
    }

    /// Ends it at once; what is held is lost for `why`.
    pub(in crate::mirror) fn abandon(&mut self, why: Why) {
        let is_broken = self.raw || self.outstanding.in_progress().is_some() || self.pushed > self.written;
        if let Stage::Open(socket) = &self.stage
            && is_broken
            && !self.has_shut
        {
            reset(socket);
        }
        self.over(why);
    }

    /// Takes back what was pushed from this offset on.
    pub(super) fn take_back(&mut self, offset: u64, why: Why) {
        let mut back = usize::try_from(self.pushed - offset).unwrap_or(usize::MAX);
        self.rule.losses(why).bytes.add(back as u64);
        self.pushed = offset;
        while back > 0
            && let Some(last) = self.batch.last_mut()
        {
            let now = back.min(last.len());
            last.truncate(last.len() - now);
            self.batched -= now;
            back -= now;
            if last.is_empty() {
                self.batch.pop();
            }
        }
        self.queue.drop_back(back.min(self.queue.len()));
        self.charge();
    }
}

/// Brings a copy to its end, as far as that may take; switching its rule off ends it at once. Says why if no listener took it.
pub(in crate::mirror) async fn drain(mut copy: Copy) -> Result<(), Why> {
    let most = if copy.plan == Plan::Finish { FINISH_TIMEOUT } else { RESET_TIMEOUT };
    let off = copy.rule.off();
    if copy.plan == Plan::Finish {
        let answered = off.run_until_cancelled(poll_fn(|cx| copy.poll(cx)));
        copy.waits_no_more = timeout(ANSWER_TIMEOUT, answered).await.is_err();
    }
    let drained = timeout(most, off.run_until_cancelled(poll_fn(|cx| copy.poll(cx)))).await;
    match drained {
        Ok(Some(())) => {}
        Ok(None) => copy.abandon(Why::SwitchedOff),
        Err(_) => {
            if let Stage::Open(socket) = &copy.stage {
                reset(socket);
            }
            copy.over(Why::ListenerLag);
        }
    }
    if copy.has_opened { Ok(()) } else { Err(copy.ended_for) }
}
