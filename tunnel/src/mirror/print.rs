//! What is told to those who watch a rule with `--print`: requests with their heads, sizes of everything else.
//!
//! Each watcher has a bounded queue; one that reads too slowly loses lines, which are counted. Before: [`super::connection`],
//! [`super::datagrams`]; after: [`super::commands`].

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use httparse::EMPTY_HEADER;
use link::{mirrored::MirrorHeader, printable::printable};
use tokio::sync::mpsc;

use super::http1::request::Step;
use crate::control::mirror_message::{Printed, PrintedEvent};

/// Events that wait for a watcher; with the next two constants, 8 MiB. What comes when they are full is lost to it and counted.
const MAX_WAITING: usize = 512;
/// Bytes of an event's texts.
const MAX_TEXT_BYTES: usize = 8 << 10;
/// Header fields of an event, each of which takes two texts' places.
const MAX_FIELDS: usize = 128;

/// Those who watch a rule.
#[derive(Debug, Default)]
pub(super) struct Printers {
    any: AtomicBool,
    all: Mutex<Vec<Printer>>,
}

/// A watcher's near end; one is in several rules' [`Printers`].
#[derive(Debug, Clone)]
pub(super) struct Printer {
    events: mpsc::Sender<Printed>,
    lost: Arc<AtomicU64>,
}

/// A watcher's far end.
#[derive(Debug)]
pub(crate) struct Watcher {
    events: mpsc::Receiver<Printed>,
    lost: Arc<AtomicU64>,
}

pub(super) fn channel() -> (Printer, Watcher) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    let lost = Arc::default();
    (Printer { events: sender, lost: Arc::clone(&lost) }, Watcher { events: receiver, lost })
}

impl Watcher {
    /// What has come, at least one event; `None` when the rules are gone. With it, how many were lost before.
    pub(crate) async fn next(&mut self, most: usize) -> Option<(Vec<Printed>, u64)> {
        let mut events = Vec::new();
        if self.events.recv_many(&mut events, most).await == 0 {
            return None;
        }
        Some((events, self.lost.swap(0, Relaxed)))
    }
}

impl Printers {
    pub(super) fn add(&self, printer: Printer) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(printer);
        self.any.store(true, Relaxed);
    }

    /// Forgets those whose far end is gone; says whether any is left.
    pub(super) fn sweep(&self) -> bool {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|printer| !printer.events.is_closed());
        self.any.store(!all.is_empty(), Relaxed);
        !all.is_empty()
    }

    /// Tells those who watch that nothing more comes.
    pub(super) fn clear(&self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.any.store(false, Relaxed);
    }

    pub(super) fn any(&self) -> bool {
        self.any.load(Relaxed)
    }

    /// Tells all of them what a flow has received.
    pub(super) fn tell(&self, rule: u32, flow: &MirrorHeader, event: PrintedEvent) {
        let printed = Printed {
            unix_millis: unix_millis(),
            rule,
            replica: printable(&flow.replica, link::mirrored::MAX_REPLICA_BYTES),
            client: canonical(flow.client),
            event,
        };
        for printer in self.all.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if printer.events.try_send(printed.clone()).is_err() {
                printer.lost.fetch_add(1, Relaxed);
            }
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Puts a connection's steps together to what is told of it.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    /// The request in progress, as it is told when it ends. Its texts are its own: the head would keep the buffer it came in.
    request: Option<PrintedEvent>,
    raw: u64,
}

impl Transcript {
    /// What is to be told with this step.
    pub(super) fn step(&mut self, step: &Step) -> Option<PrintedEvent> {
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
    pub(super) fn pause(&mut self) -> Option<PrintedEvent> {
        let bytes = std::mem::take(&mut self.raw);
        (bytes > 0).then_some(PrintedEvent::Bytes { bytes })
    }

    /// What was begun and will not end.
    pub(super) const fn end(&mut self) -> Option<PrintedEvent> {
        self.request.take()
    }

    /// The memory that the request in progress takes.
    pub(super) fn costs(&self) -> usize {
        let Some(PrintedEvent::Request { line, headers, .. }) = &self.request else { return 0 };
        let texts = headers.iter().map(|(name, value)| name.capacity() + value.capacity()).sum::<usize>();
        line.capacity() + texts + headers.capacity() * size_of::<(String, String)>()
    }

    /// Gives it up, for the sake of memory: it is not told.
    pub(super) fn forget(&mut self) {
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
    use link::rules::RuleProtocol;

    use super::*;
    use crate::mirror::http1::head::RequestKind;

    fn flow() -> MirrorHeader {
        MirrorHeader {
            rule: 1,
            protocol: RuleProtocol::Tcp,
            from_start: true,
            client: "[::ffff:10.0.0.1]:7".parse().unwrap(),
            server: "[::ffff:10.0.0.2]:80".parse().unwrap(),
            seen_unix_micros: 0,
            replica: "web-1".to_owned(),
        }
    }

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

    #[tokio::test]
    async fn a_slow_watcher_loses_lines_which_are_counted() {
        let (printer, mut watcher) = channel();
        let printers = Printers::default();
        printers.add(printer);
        for bytes in 0..MAX_WAITING as u64 + 3 {
            printers.tell(1, &flow(), PrintedEvent::Bytes { bytes });
        }
        let (events, lost) = watcher.next(10_000).await.unwrap();
        assert_eq!((events.len(), lost), (MAX_WAITING, 3));
        assert_eq!(events[0].client, "10.0.0.1:7".parse().unwrap());
        drop(watcher);
        assert!(!printers.sweep() && !printers.any());
    }
}
