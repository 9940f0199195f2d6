//! How a [`Connection`] ends: as the client did, or because there is nothing more to know. Before: [`super`].

use link::error_code::{FLOW_RESET, STREAM_MALFORMED};

use super::{Connection, End, Outcome, PrintedEvent, Why};
use crate::mirror::copy;

impl Connection {
    /// All that is there was taken.
    pub(super) fn pause(&mut self) {
        if self.rule.printers.any()
            && let Some(event) = self.transcript.pause()
        {
            self.rule.printers.tell(self.rule.id, &self.flow, event);
        }
    }

    pub(super) async fn end(mut self, outcome: Outcome) {
        match outcome {
            Outcome::Said(End::Finished | End::Reset) => {
                self.follower.finish(&mut self.steps);
                self.apply_all();
            }
            Outcome::Said(End::Gone) | Outcome::Lost => {}
            Outcome::Malformed => {
                tracing::debug!("the gateway sent a mirrored connection that cannot be read");
                // Fails only if the stream has ended.
                let _ = self.recv.stop(STREAM_MALFORMED);
            }
            Outcome::Off => {
                let _ = self.recv.stop(FLOW_RESET);
            }
        }
        let why = if outcome == Outcome::Off { Why::SwitchedOff } else { Why::SourceGone };
        // What has ended by itself leaves nothing held: a start that was never proven to be one.
        let of_held = if outcome == Outcome::Off { Why::SwitchedOff } else { Why::NotJoined };
        self.rule.losses(of_held).bytes.add(self.follower.held() as u64);
        self.tell_end(outcome);
        if self.copy.is_none() && self.in_request && self.dropping.is_none() {
            self.rule.counts.requests_missed.increment();
        }
        if let Some(mut copy) = self.copy.take() {
            match outcome {
                Outcome::Said(End::Finished) => copy.finish(),
                Outcome::Said(End::Reset) => copy.abort(),
                Outcome::Said(End::Gone) | Outcome::Lost | Outcome::Malformed | Outcome::Off => copy.abandon(why),
            }
            match copy::drain(copy).await {
                Ok(()) => self.was_opened = true,
                Err(why) => self.not_opened = why,
            }
        }
        if !self.was_opened {
            self.rule.losses(self.not_opened).flows.increment();
        }
    }

    fn tell_end(&mut self, outcome: Outcome) {
        if !self.rule.printers.any() {
            return;
        }
        let how = match outcome {
            Outcome::Said(end) => end.name(),
            Outcome::Lost | Outcome::Malformed | Outcome::Off => "gone",
        };
        let ended = PrintedEvent::Ended { how: how.to_owned(), bytes: self.bytes };
        let told = [self.transcript.end(), self.transcript.pause(), Some(ended)];
        for event in told.into_iter().flatten() {
            self.rule.printers.tell(self.rule.id, &self.flow, event);
        }
    }
}
