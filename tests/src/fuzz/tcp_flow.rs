//! A flow against an application's kernel that sends anything: no panic, no packet that cannot be read, no egress that
//! [`TcpFlow::poll_at`] did not announce, and nothing received that was not sent.
//!
//! The input is a list of operations, each a few bytes. Segments are made relative to what the two sides have sent so far, since
//! random sequence numbers would all miss the window.

use std::{net::SocketAddr, ops::ControlFlow, time::Duration};

use netstack::{
    flow::{ClusterAddr, FlowKey, HostAddr, Protocol},
    moment::Moment,
    packet::Packet,
    ring::Rings,
    segment::Segment,
    tcp_flow::{Ingress, TcpFlow},
    virtio,
};

/// Small rings, so that a short input fills them.
const RING_BYTES: u16 = 4096;
/// The first sequence number of the application's kernel: a few bytes of payload wrap it.
const FIRST_SEQUENCE: u32 = u32::MAX - 2000;
/// An input that does more than this has shown what it can.
const MAX_OPERATIONS: usize = 400;

/// One input.
pub fn run(data: &[u8]) {
    let mut bytes = data.iter().copied();
    let mut application = Application::new();
    for _ in 0..MAX_OPERATIONS {
        let Some(operation) = bytes.next() else { break };
        let mut next = || bytes.next().unwrap_or(0);
        match operation % 12 {
            0..4 => application.segment([next(), next(), next(), next(), next()]),
            4 => application.flow.accept(),
            5 => application.flow.refuse(),
            6 => application.flow.reset(),
            7 => application.flow.finish(),
            8 => application.receive(usize::from(next()) * 16),
            9 => application.send(usize::from(next()) * 16),
            10 => application.wait(Duration::from_millis(u64::from(next()) * 20)),
            _ => application.egress(),
        }
        application.check();
    }
}

struct Application {
    flow: TcpFlow,
    now: Moment,
    scratch: Vec<u8>,
    /// The next sequence number of the application's kernel.
    next: u32,
    /// The highest sequence number seen from the flow, and what to acknowledge.
    seen: u32,
    /// Payload handed to `send` and payload seen in packets; retransmissions count again.
    sent_bytes: usize,
    received_bytes: usize,
    offered_bytes: usize,
}

impl Application {
    fn new() -> Self {
        let key = key();
        let now = Moment::ORIGIN + Duration::from_secs(1);
        Self {
            flow: TcpFlow::new(key, 7, Rings::small(RING_BYTES), u16::MAX, now),
            now,
            scratch: vec![0; virtio::SCRATCH_BYTES],
            next: FIRST_SEQUENCE,
            seen: 0,
            sent_bytes: 0,
            received_bytes: 0,
            offered_bytes: 0,
        }
    }

    fn segment(&mut self, [flags, shift, acknowledge, window, length]: [u8; 5]) {
        // Mostly in order; sometimes a little before or behind.
        let sequence = self.next.wrapping_add(if shift < 200 { 0 } else { u32::from(shift - 200).wrapping_sub(20) });
        let acknowledged = self.seen.wrapping_add(if acknowledge < 200 { 0 } else { u32::from(acknowledge - 200) });
        let payload = vec![flags; usize::from(length) * 8];
        let flags = flags & 0x3f;
        let bytes = tcp_packet(flags, sequence, acknowledged, u16::from(window) * 257, &payload);
        let packet = Packet::parse(&bytes).expect("the packet is well formed");
        let Ok(segment) = Segment::parse(packet) else { return };
        if self.flow.ingress(&segment, self.now) == Ingress::Superseded {
            assert!(segment.opens());
            return;
        }
        self.offered_bytes += payload.len();
        let controls = u32::from(flags & 1) + u32::from(flags >> 1 & 1);
        if shift < 200 {
            let len = u32::try_from(payload.len()).expect("at most 2,040 bytes");
            self.next = sequence.wrapping_add(len).wrapping_add(controls);
        }
    }

    fn receive(&mut self, most: usize) {
        while let Some(taken) = self.flow.recv(|bytes| (bytes.len().min(most), bytes.len().min(most))) {
            self.received_bytes += taken;
            if taken == 0 {
                break;
            }
        }
        assert!(self.received_bytes <= self.offered_bytes, "more was received than was sent");
    }

    fn send(&mut self, most: usize) {
        let filled = self.flow.send(|room| {
            let filled = room.len().min(most);
            room[..filled].fill(0x5a);
            (filled, filled)
        });
        self.sent_bytes += filled.unwrap_or(0);
    }

    fn wait(&mut self, time: Duration) {
        self.egress();
        self.now = self.now + time;
        let announced = self.flow.poll_at(self.now).is_some_and(|at| at <= self.now);
        let emitted = self.emit();
        assert!(announced || emitted == 0, "{emitted} packets were sent that poll_at did not announce");
    }

    fn egress(&mut self) {
        self.emit();
        assert_eq!(self.emit(), 0, "an egress that came to its end left something");
    }

    fn emit(&mut self) -> usize {
        let (seen, sent_bytes) = (&mut self.seen, self.sent_bytes);
        self.flow.egress(self.now, &mut self.scratch, |written| {
            let packet = Packet::parse(&written[virtio::HEADER_BYTES..]).expect("what is sent is a packet");
            let segment = Segment::parse(packet).expect("what is sent is a segment");
            assert_eq!(segment.key().host.0, key().cluster.0);
            assert!(segment.payload().len() <= sent_bytes, "more was sent than was written");
            assert!(segment.payload().iter().all(|byte| *byte == 0x5a));
            let tcp = packet.payload();
            let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
            let len = u32::try_from(segment.payload().len()).expect("at most a packet");
            let end = sequence.wrapping_add(len).wrapping_add(u32::from(tcp[13] & 3 != 0));
            if segment.resets() || end.wrapping_sub(*seen) < 1 << 31 || *seen == 0 {
                *seen = end;
            }
            ControlFlow::Continue(())
        })
    }

    fn check(&mut self) {
        let _ = self.flow.poll_at(self.now);
        if self.flow.is_held() {
            assert!(!self.flow.can_recv() && !self.flow.can_send());
        }
        if self.flow.is_closed() {
            assert_eq!(self.flow.poll_at(self.now), None);
            assert!(!self.flow.can_recv() && !self.flow.can_send());
        }
    }
}

fn key() -> FlowKey {
    FlowKey {
        host: HostAddr(SocketAddr::from(([198, 18, 0, 1], 40_000))),
        cluster: ClusterAddr(SocketAddr::from(([10, 96, 0, 20], 80))),
        protocol: Protocol::Tcp,
    }
}

fn tcp_packet(flags: u8, sequence: u32, acknowledged: u32, window: u16, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(40 + payload.len()).expect("payloads are short");
    let mut bytes = vec![0x45, 0];
    bytes.extend(total.to_be_bytes());
    bytes.extend([0, 0, 0x40, 0, 64, 6, 0, 0, 198, 18, 0, 1, 10, 96, 0, 20]);
    bytes.extend(40_000_u16.to_be_bytes());
    bytes.extend(80_u16.to_be_bytes());
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(acknowledged.to_be_bytes());
    bytes.extend([5 << 4, flags]);
    bytes.extend(window.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}
