//! What a [`Connection`] does with the pieces of its stream: bytes, gaps and the end. Before: [`super`]; after: [`super::steps`].

use bytes::Bytes;
use link::mirrored::Gap;

use super::{Connection, NoticeKind, Outcome, Piece, Place, PrintedEvent};
use crate::mirror::sniff;

impl Connection {
    /// Takes a chunk of the stream apart; the outcome when it held the end.
    pub(super) fn chunk(&mut self, mut chunk: Bytes, mut quiet: bool) -> Option<Outcome> {
        loop {
            match self.frames.next(&mut chunk) {
                Ok(Some(Piece::Bytes { bytes, starts_segment, ends_segment, pushed })) => {
                    let quiet = std::mem::take(&mut quiet);
                    self.bytes(bytes, Place { starts_segment, ends_segment, pushed, quiet });
                }
                Ok(Some(Piece::Gap(gap))) => self.gap(gap),
                Ok(Some(Piece::End(end))) => return Some(Outcome::Said(end)),
                Ok(Some(Piece::Datagram { .. })) | Err(_) => return Some(Outcome::Malformed),
                Ok(None) => return None,
            }
        }
    }

    fn bytes(&mut self, bytes: Bytes, place: Place) {
        if self.sniffs_left > 0 {
            self.sniff(&bytes, place);
        }
        self.bytes += bytes.len() as u64;
        self.follower.take(bytes, place, &mut self.steps);
        self.apply_all();
    }

    /// Looks whether the connection is something known that is not followed.
    fn sniff(&mut self, bytes: &[u8], place: Place) {
        let kind = if self.flow.from_start {
            self.sniffs_left = 0;
            sniff::is_client_hello(bytes).then_some(NoticeKind::Tls)
        } else if place.starts_segment && self.follower.is_seeking() {
            self.sniffs_left -= 1;
            let is_tls = sniff::is_tls_record(bytes) || sniff::is_client_hello(bytes);
            let http2 = sniff::is_http2_frames(bytes).then_some(NoticeKind::Http2Joined);
            if is_tls { Some(NoticeKind::Tls) } else { http2 }
        } else {
            None
        };
        if let Some(kind) = kind {
            self.sniffs_left = 0;
            self.rule.notice(kind);
        }
    }

    fn gap(&mut self, gap: Gap) {
        self.follower.gap(gap.bytes, &mut self.steps);
        self.apply_all();
        if self.rule.printers.any() {
            let event = PrintedEvent::Gap { reason: gap.reason, bytes: gap.bytes, datagrams: 0 };
            self.rule.printers.tell(self.rule.id, &self.flow, event);
        }
    }
}
