//! [`Transcript`]: what is told of a connection, put together from its steps. Before: [`crate::mirror::connection`]; after: [`super`].

use httparse::EMPTY_HEADER;
use link::printable::printable;

use crate::{control::mirror_message::PrintedEvent, mirror::http1::request::Step};

/// Bytes of an event's texts.
const MAX_TEXT_BYTES: usize = 8 << 10;
/// Header fields of an event, each of which takes two texts' places.
const MAX_FIELDS: usize = 128;

/// Puts a connection's steps together to what is told of it.
#[derive(Debug, Default)]
pub(in crate::mirror) struct Transcript {
    /// The request in progress, as it is told when it ends. Its texts are its own: the head would keep the buffer it came in.
    request: Option<PrintedEvent>,
    raw: u64,
}

impl Transcript {
    /// What is to be told with this step.
    pub(in crate::mirror) fn step(&mut self, step: &Step) -> Option<PrintedEvent> {
        match step {
            Step::Begin { head, .. } => {
                self.request = Some(request(head));
                None
            }
            Step::End { body } => self.request.take().map(|request| ended(request, *body)),
            Step::Broken => self.request.take(),
            Step::Raw(bytes) => {
                self.raw += bytes.len() as u64;
                None
            }
            Step::Body(_) | Step::Missed | Step::Stray(_) | Step::Notice(_) => None,
        }
    }

    /// What has come together of what is no HTTP/1.
    pub(in crate::mirror) fn pause(&mut self) -> Option<PrintedEvent> {
        let bytes = std::mem::take(&mut self.raw);
        (bytes > 0).then_some(PrintedEvent::Bytes { bytes })
    }

    /// What was begun and will not end.
    pub(in crate::mirror) const fn end(&mut self) -> Option<PrintedEvent> {
        self.request.take()
    }

    /// The memory that the request in progress takes.
    pub(in crate::mirror) fn costs(&self) -> usize {
        let Some(PrintedEvent::Request { line, headers, .. }) = &self.request else { return 0 };
        let texts = headers.iter().map(|(name, value)| name.capacity() + value.capacity()).sum::<usize>();
        line.capacity() + texts + headers.capacity() * size_of::<(String, String)>()
    }

    /// Gives it up, for the sake of memory: it is not told.
    pub(in crate::mirror) fn forget(&mut self) {
        self.request = None;
    }
}

/// A request of which nothing but the head is known.
fn request(head: &[u8]) -> PrintedEvent {
    let mut left = MAX_TEXT_BYTES;
    let mut text = |bytes: &[u8]| {
        let mut text = printable(&String::from_utf8_lossy(bytes), left);
        text.truncate(text.floor_char_boundary(left));
        text.shrink_to_fit();
        left -= text.len();
        text
    };
    let first = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).find(|line| !line.is_empty());
    let line = text(first.unwrap_or_default());
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut fields);
    // It was parsed before; should it not be now, its first line is all there is to tell.
    let _ = parsed.parse(head);
    let named = parsed.headers.iter().filter(|field| !field.name.is_empty());
    let headers = named.map(|field| (text(field.name.as_bytes()), text(field.value))).collect();
    PrintedEvent::Request { line, headers, body_bytes: 0, whole: false }
}

fn ended(mut request: PrintedEvent, body: u64) -> PrintedEvent {
    if let PrintedEvent::Request { body_bytes, whole, .. } = &mut request {
        (*body_bytes, *whole) = (body, true);
    }
    request
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::mirror::http1::head::RequestKind;

    #[test]
    fn a_request_is_told_with_its_fields_and_nothing_that_a_terminal_acts_upon() {
        let mut transcript = Transcript::default();
        let head = Bytes::from_static(b"GET /\xc2\x9b31m HTTP/1.1\r\nHost: a\tb\r\n\r\n");
        assert_eq!(transcript.step(&Step::Begin { head, kind: RequestKind::Other }), None);
        let told = transcript.step(&Step::End { body: 7 });
        let headers = vec![("Host".to_owned(), "ab".to_owned())];
        let line = "GET /31m HTTP/1.1".to_owned();
        assert_eq!(told, Some(PrintedEvent::Request { line, headers, body_bytes: 7, whole: true }));
    }

    #[test]
    fn the_texts_of_a_request_are_bounded_in_bytes() {
        let long = "\u{20ac}".repeat(20_000);
        let head = Bytes::from(format!("GET / HTTP/1.1\r\nLong: {long}\r\nLast: x\r\n\r\n"));
        let mut transcript = Transcript::default();
        transcript.step(&Step::Begin { head, kind: RequestKind::Other });
        assert!((8_000..MAX_TEXT_BYTES + 500).contains(&transcript.costs()), "{}", transcript.costs());
        transcript.forget();
        assert_eq!((transcript.costs(), transcript.step(&Step::End { body: 0 })), (0, None));
    }
}
