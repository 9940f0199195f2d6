//! [`Tap`]: a reassembler, a clock, and what came out, checked as it comes: the order of events, their sizes, the bounds of memory.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use netstack::{
    moment::Moment,
    reassembly::{Asked, Event, Flags, FlowId, GapReason, Limits, Reassembler, Received, Segment},
};

pub(crate) const SYN: u8 = Flags::SYN.0;
pub(crate) const FIN: u8 = Flags::FIN.0;
pub(crate) const RST: u8 = Flags::RST.0;
pub(crate) const PSH: u8 = Flags::PSH.0;
pub(crate) const ACK: u8 = Flags::ACK.0;

/// What became of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Finished,
    Reset,
    Gone,
}

/// A part of a stream; neighbours of one kind are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Bytes(Vec<u8>),
    Gap(u64, GapReason),
}

/// A flow as it came out.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) id: FlowId,
    pub(crate) client: SocketAddr,
    pub(crate) from_start: bool,
    pub(crate) parts: Vec<Part>,
    pub(crate) end: Option<End>,
    /// Offsets in the stream at which a segment began, or one with PSH ended.
    pub(crate) starts: Vec<u64>,
    pub(crate) pushes: Vec<u64>,
    /// Payload that was lent, not copied.
    pub(crate) borrowed: usize,
}

pub(crate) struct Tap {
    pub(crate) reassembler: Reassembler,
    pub(crate) limits: Limits,
    pub(crate) now: Moment,
    pub(crate) seen: Vec<Seen>,
    live: HashMap<FlowId, usize>,
}

pub(crate) fn client(port: u16) -> SocketAddr {
    ([10, 0, 0, 1], port).into()
}

pub(crate) fn server() -> SocketAddr {
    ([10, 0, 0, 2], 80).into()
}

pub(crate) fn bytes(data: &[u8]) -> Part {
    Part::Bytes(data.to_vec())
}

pub(crate) const fn ring(len: u64) -> Part {
    Part::Gap(len, GapReason::Ring)
}

impl Tap {
    pub(crate) fn new() -> Self {
        Self::with(Limits::DEFAULT)
    }

    pub(crate) fn with(limits: Limits) -> Self {
        let now = Moment::ORIGIN + Duration::from_secs(1000);
        Self { reassembler: Reassembler::new(limits, 7), limits, now, seen: Vec::new(), live: HashMap::new() }
    }

    /// The only flow that there was.
    #[track_caller]
    pub(crate) fn only(&self) -> &Seen {
        assert_eq!(self.seen.len(), 1, "{:?}", self.seen);
        &self.seen[0]
    }

    pub(crate) fn send(&mut self, port: u16, seq: u32, flags: u8, payload: &[u8]) {
        let segment = Segment { client: client(port), server: server(), seq, ack: 1, flags: Flags(flags), payload };
        let Self { reassembler, seen, live, now, .. } = self;
        reassembler.segment(&segment, *now, &mut |id, event| note(seen, live, id, event));
        self.check();
    }

    /// A handshake; the stream begins at `first`.
    pub(crate) fn open(&mut self, port: u16, first: u32) {
        self.send(port, first.wrapping_sub(1), SYN, &[]);
        self.send(port, first, ACK, &[]);
    }

    pub(crate) fn ask(&mut self) -> Asked {
        self.reassembler.ask(self.now)
    }

    /// The target says it now, in answer to a question asked just now.
    pub(crate) fn settle(&mut self, port: u16, received: u64) {
        let asked = self.ask();
        self.answer(port, received, false, asked);
    }

    /// It had received this before there was a tap.
    pub(crate) fn was_there(&mut self, port: u16, bytes: u64) {
        self.reassembler.was_there(client(port), server(), Received { bytes, ended: false });
    }

    /// What is missing and in no event.
    pub(crate) fn answer(&mut self, port: u16, bytes: u64, ended: bool, asked: Asked) -> u64 {
        let Self { reassembler, seen, live, now, .. } = self;
        let received = Received { bytes: bytes + u64::from(ended), ended };
        let missed = reassembler.settle((client(port), server()), received, asked, *now, &mut |id, event| {
            note(seen, live, id, event);
        });
        self.check();
        missed
    }

    /// Its socket ended, with so many bytes in all and a FIN; what is missing and in no event.
    pub(crate) fn buried(&mut self, port: u16, bytes: u64) -> u64 {
        let asked = self.ask();
        let Self { reassembler, seen, live, now, .. } = self;
        let sink = &mut |id, event: Event<'_>| note(seen, live, id, event);
        let missed = reassembler.buried((client(port), server()), bytes + 1, asked, *now, sink);
        self.check();
        missed
    }

    pub(crate) fn gone(&mut self, port: u16, asked: Asked) {
        let Self { reassembler, seen, live, now, .. } = self;
        reassembler.gone((client(port), server()), asked, *now, &mut |id, event| note(seen, live, id, event));
        self.check();
    }

    pub(crate) fn unsettled(&self) -> Vec<u16> {
        self.reassembler.unsettled().map(|(client, _)| client.port()).collect()
    }

    /// Time passes, and what is due is done when it is.
    pub(crate) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.reassembler.poll_at().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.timeout();
            assert!(self.reassembler.poll_at().is_none_or(|next| next > self.now), "it is due again at once");
        }
        self.now = end;
        let events = self.timeout();
        assert_eq!(events, 0, "what was done had not been announced");
    }

    fn timeout(&mut self) -> usize {
        let Self { reassembler, seen, live, now, .. } = self;
        let mut events = 0;
        reassembler.timeout(*now, &mut |id, event| {
            events += 1;
            note(seen, live, id, event);
        });
        self.check();
        events
    }

    #[track_caller]
    fn check(&self) {
        let held = self.reassembler.held_bytes();
        assert!(held <= self.limits.held_bytes, "{held} bytes are held");
        assert_eq!(self.live.len(), self.reassembler.flows());
        assert!(self.live.len() <= self.limits.flows);
    }
}

impl Seen {
    pub(crate) fn gaps(&self) -> u64 {
        let gap = |part: &Part| if let Part::Gap(bytes, _) = part { *bytes } else { 0 };
        self.parts.iter().map(gap).sum()
    }

    pub(crate) fn len(&self) -> u64 {
        let len = |part: &Part| match part {
            Part::Bytes(bytes) => bytes.len() as u64,
            Part::Gap(bytes, _) => *bytes,
        };
        self.parts.iter().map(len).sum()
    }

    /// Every byte is that of `stream` at its place.
    #[track_caller]
    pub(crate) fn assert_part_of(&self, stream: &[u8]) {
        let mut at = 0;
        for part in &self.parts {
            match part {
                Part::Bytes(bytes) => {
                    assert!(stream.get(at..at + bytes.len()) == Some(bytes.as_slice()), "wrong bytes at {at}");
                    at += bytes.len();
                }
                Part::Gap(bytes, _) => at += usize::try_from(*bytes).unwrap(),
            }
        }
    }
}

fn note(seen: &mut Vec<Seen>, live: &mut HashMap<FlowId, usize>, id: FlowId, event: Event<'_>) {
    if let Event::Opened { client, from_start, .. } = event {
        assert!(live.insert(id, seen.len()).is_none(), "{id:?} is in use");
        let (parts, starts, pushes) = Default::default();
        seen.push(Seen { id, client, from_start, parts, end: None, starts, pushes, borrowed: 0 });
        return;
    }
    let flow = &mut seen[*live.get(&id).expect("it is open")];
    let end = match event {
        Event::Opened { .. } => unreachable!("handled"),
        Event::Bytes { bytes, starts_segment, pushed } => {
            assert!(!bytes.is_empty());
            if starts_segment {
                flow.starts.push(flow.len());
            }
            if matches!(bytes, std::borrow::Cow::Borrowed(_)) {
                flow.borrowed += bytes.len();
            }
            match flow.parts.last_mut() {
                Some(Part::Bytes(before)) => before.extend_from_slice(&bytes),
                _ => flow.parts.push(Part::Bytes(bytes.into_owned())),
            }
            if pushed {
                flow.pushes.push(flow.len());
            }
            return;
        }
        Event::Gap { bytes, reason } => {
            assert!(bytes > 0);
            match flow.parts.last_mut() {
                Some(Part::Gap(before, same)) if *same == reason => *before += bytes,
                _ => flow.parts.push(Part::Gap(bytes, reason)),
            }
            return;
        }
        Event::Finished => End::Finished,
        Event::Reset => End::Reset,
        Event::Gone => End::Gone,
    };
    flow.end = Some(end);
    live.remove(&id);
}
