//! Segments of a few clients in any order and with any content, losses of the ring, answers that may be lies, time: no panic, no more held
//! than is allowed, events in an order that makes sense, and nothing that a timeout does unannounced.
//!
//! And while the client says the same at each place of its stream and the target does not lie, what comes out is that, or a gap.
//! The input is a list of operations, each a few bytes; the first byte says whether it is such a client.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use netstack::{
    moment::Moment,
    reassembly::{Asked, Event, Flags, FlowId, Limits, Reassembler, Received, Segment},
};

const LIMITS: Limits = Limits { flows: 4, held_bytes_per_flow: 3000, held_bytes: 5000, ..Limits::DEFAULT };

/// The sequence number of a stream's first byte: a few bytes wrap it.
const FIRST: u32 = u32::MAX - 300;

/// One input.
pub fn run(data: &[u8]) {
    let mut bytes = data.iter().copied();
    let honest = bytes.next().is_some_and(|byte| byte & 1 == 0);
    let mut tap = Tap::new(honest);
    while let Some(operation) = bytes.next() {
        let mut next = || bytes.next().unwrap_or(0);
        match operation % 16 {
            0..8 => tap.segment([operation, next(), next(), next(), next()]),
            8 => tap.reassembler.lost(),
            9 => tap.asked = tap.reassembler.ask(tap.now),
            10 => tap.settle([next(), next(), next()]),
            11 => tap.gone(next()),
            12 => tap.wait(Duration::from_millis(u64::from(next()) * 20)),
            13 => tap.wait(Duration::from_secs(u64::from(next()) * 4)),
            14 => tap.handshake(next()),
            _ => tap.forget(next()),
        }
        tap.check();
    }
    tap.wait(Duration::from_secs(100_000));
    assert_eq!((tap.reassembler.flows(), tap.reassembler.held_bytes()), (0, 0));
    assert_eq!(tap.reassembler.poll_at(), None);
}

struct Tap {
    reassembler: Reassembler,
    honest: bool,
    now: Moment,
    asked: Asked,
    open: Open,
}

/// The flows that are open: how far each is, where that is known.
type Open = HashMap<FlowId, Option<u64>>;

impl Tap {
    fn new(honest: bool) -> Self {
        let now = Moment::ORIGIN + Duration::from_secs(1);
        let mut reassembler = Reassembler::new(LIMITS, 1);
        let asked = reassembler.ask(now);
        Self { reassembler, honest, now, asked, open: HashMap::new() }
    }

    fn segment(&mut self, [operation, port, flags, place, len]: [u8; 5]) {
        let flags = if self.honest { flags & 0x1f & !Flags::SYN.0 | Flags::ACK.0 } else { flags };
        let far = if operation == 7 && !self.honest { u32::from(len) << 24 } else { 0 };
        let at = u32::from(place) * 4;
        let seq = FIRST.wrapping_add(at).wrapping_add(far);
        let payload: Vec<u8> = (0..usize::from(len) * 3)
            .map(|behind| if self.honest { content(u64::from(at) + behind as u64) } else { operation ^ place })
            .collect();
        self.send(port, seq, flags, &payload);
    }

    fn handshake(&mut self, port: u8) {
        self.send(port, FIRST.wrapping_sub(1), Flags::SYN.0, &[]);
        self.send(port, FIRST, Flags::ACK.0, &[]);
    }

    fn send(&mut self, port: u8, seq: u32, flags: u8, payload: &[u8]) {
        let segment = Segment { client: client(port), server: server(), seq, ack: 0, flags: Flags(flags), payload };
        let Self { reassembler, honest, now, open, .. } = self;
        reassembler.segment(&segment, *now, &mut |id, event| note(open, *honest, id, event));
    }

    fn settle(&mut self, [port, high, low]: [u8; 3]) {
        let high = if self.honest { 0 } else { u64::from(high) << 28 };
        let received = Received { bytes: high + u64::from(low) * 4, ended: low & 1 == 1 };
        let Self { reassembler, honest, now, asked, open, .. } = self;
        reassembler.settle((client(port), server()), received, *asked, *now, &mut |id, event| {
            note(open, *honest, id, event);
        });
    }

    fn gone(&mut self, port: u8) {
        let Self { reassembler, honest, now, asked, open, .. } = self;
        reassembler.gone((client(port), server()), *asked, *now, &mut |id, event| note(open, *honest, id, event));
    }

    fn forget(&mut self, port: u8) {
        let Self { reassembler, honest, open, .. } = self;
        reassembler.retain(|other, _| other != client(port), &mut |id, event| note(open, *honest, id, event));
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.reassembler.poll_at().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.timeout();
            assert!(self.reassembler.poll_at().is_none_or(|next| next > self.now), "it is due again at once");
        }
        self.now = end;
        assert_eq!(self.timeout(), 0, "what was done had not been announced");
    }

    fn timeout(&mut self) -> usize {
        let Self { reassembler, honest, now, open, .. } = self;
        let mut events = 0;
        reassembler.timeout(*now, &mut |id, event| {
            events += 1;
            note(open, *honest, id, event);
        });
        events
    }

    fn check(&self) {
        assert!(self.reassembler.held_bytes() <= LIMITS.held_bytes);
        assert_eq!(self.reassembler.flows(), self.open.len());
        assert!(self.open.len() <= LIMITS.flows);
        assert!(self.reassembler.is_unsettled() || self.reassembler.unsettled().count() <= LIMITS.flows);
    }
}

fn note(open: &mut Open, honest: bool, id: FlowId, event: Event<'_>) {
    let place = match event {
        Event::Opened { from_start, .. } => {
            assert!(open.insert(id, from_start.then_some(0)).is_none(), "the number is in use");
            return;
        }
        Event::Finished | Event::Reset | Event::Gone => {
            assert!(open.remove(&id).is_some(), "it is not open");
            return;
        }
        Event::Bytes { .. } | Event::Gap { .. } => open.get_mut(&id).expect("it is open"),
    };
    let len = match event {
        Event::Bytes { bytes, .. } => {
            assert!(!bytes.is_empty());
            if let Some(place) = place.filter(|_| honest) {
                let right = bytes.iter().zip(place..).all(|(&byte, at)| byte == content(at));
                assert!(right, "wrong bytes at {place}");
            }
            bytes.len() as u64
        }
        Event::Gap { bytes, .. } => bytes,
        Event::Opened { .. } | Event::Finished | Event::Reset | Event::Gone => 0,
    };
    assert!(len > 0);
    *place = place.map(|place| place.saturating_add(len));
}

/// The byte of an honest client's stream.
fn content(at: u64) -> u8 {
    (at ^ at >> 8).to_le_bytes()[0]
}

fn client(port: u8) -> SocketAddr {
    ([10, 0, 0, 1], 1 + u16::from(port % 6)).into()
}

fn server() -> SocketAddr {
    ([10, 0, 0, 2], 80).into()
}
