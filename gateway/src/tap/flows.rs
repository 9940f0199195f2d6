//! [`Flows`]: frames in, records out. What a frame is, which flow it belongs to, and what that flow's copy gets from it.
//!
//! 1. A frame that cannot be read is counted. One that its slot cut off is a loss of the ring.
//! 2. Fragments wait for the others ([`super::fragments`]).
//! 3. What the namespace only forwards, ports that no rule names, and flows outside a sample, go no further: the kernel's filter cannot decide everything, and frames that
//!    were in the ring when the rules changed are judged by the rules of this moment.
//! 4. TCP goes through [`netstack::reassembly`], UDP through [`super::udp_flows`].
//!
//! Before: [`super::ring`]; after: [`super::batch`].

use std::{net::SocketAddr, num::NonZeroU16, ops::Range};

use link::{
    mirrored::{FrameKind, Gap},
    rules::{LossReason, RuleProtocol},
};
use netstack::{
    moment::Moment,
    packet::{IpProtocol, Packet},
    reassembly::{Event, Flags, FlowId, Limits, Reassembler, Segment, checksum_holds},
};

use super::{
    batch::Batch,
    clock,
    fragments::{First, Fragments},
    left_out::{LeftOut, Sign},
    local::Local,
    ports::Ports,
    protocol::{FlowNumber, ListeningPort, Opened, PortStats, TapStats, TappedPort},
    ring::Frame,
    udp_flows::UdpFlows,
    unplaced::Unplaced,
};

const UDP_HEADER_BYTES: usize = 8;
/// Datagrams in a frame: the kernel joins 128 at most.
const MAX_PIECES: usize = 1_024;

/// What is followed.
#[derive(Debug)]
pub(super) struct Flows {
    /// The rules.
    pub(super) ports: Ports,
    /// The namespace's own addresses.
    pub(super) local: Local,
    /// TCP.
    pub(super) tcp: Reassembler,
    udp: UdpFlows,
    fragments: Fragments,
    left_out: LeftOut,
    stats: TapStats,
    unplaced: Unplaced,
}

/// When a frame is handled, and when it came.
#[derive(Debug, Clone, Copy)]
struct Times {
    now: Moment,
    seen_unix_micros: u64,
}

impl Flows {
    /// None yet. `seed` is unpredictable.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            ports: Ports::default(),
            local: Local::default(),
            tcp: Reassembler::new(Limits::DEFAULT, seed),
            udp: UdpFlows::default(),
            fragments: Fragments::default(),
            left_out: LeftOut::default(),
            stats: TapStats::default(),
            unplaced: Unplaced::default(),
        }
    }

    /// Takes over rules; ends the flows that they leave out.
    pub(super) fn apply(&mut self, ports: &[TappedPort], batch: &mut Batch<'_>) {
        self.ports.replace(ports);
        let Self { ports, tcp, udp, left_out, unplaced, .. } = self;
        let ports = &*ports;
        let keep = |protocol| {
            move |client: SocketAddr, server: SocketAddr| ports.takes(protocol, client, server) == Some(true)
        };
        tcp.retain(keep(RuleProtocol::Tcp), &mut |id, event| batch.event(FlowNumber::tcp(id.as_u32()), event));
        udp.retain(keep(RuleProtocol::Udp), |number| batch.end(number, FrameKind::Gone));
        left_out.retain(|port| ports.iter().any(|other| other == port));
        unplaced.retain(ports);
        if self.ports.is_empty() {
            self.fragments.clear();
        }
    }

    /// The rings of a protocol lost `frames`, before the frame that comes next.
    pub(super) fn lost(&mut self, protocol: RuleProtocol, frames: u64) {
        self.stats.ring_drops += frames;
        self.stats.losses += 1;
        match protocol {
            RuleProtocol::Tcp => self.tcp.lost(),
            RuleProtocol::Udp => {
                self.udp.lost();
                self.unplaced.add_datagrams(&self.ports, frames);
            }
        }
    }

    /// Handles a frame.
    pub(super) fn frame<'a>(&mut self, frame: &Frame<'a>, now: Moment, batch: &mut Batch<'a>) {
        self.stats.frames += 1;
        let times = Times { now, seen_unix_micros: frame.nanos / 1_000 };
        if is_cut_off(frame) {
            self.stats.too_long += 1;
            self.lost(frame.protocol, 1);
            return;
        }
        let Ok(packet) = Packet::parse_captured(frame.bytes) else {
            self.stats.malformed += 1;
            return;
        };
        // Behind extension headers a filter does not find the protocol: then the other protocol's ring has the frame, too.
        if packet.protocol() != ip_protocol(frame.protocol) {
            return;
        }
        if !self.local.has(packet.destination()) {
            self.stats.for_others += 1;
            return;
        }
        if packet.fragment().is_some() {
            return self.fragment(&packet, times, batch);
        }
        // The target takes no packet with a wrong one.
        if !frame.verified && !checksum_holds(&packet) {
            self.stats.malformed += 1;
            return;
        }
        match packet.protocol() {
            IpProtocol::Tcp => {
                let Some(segment) = self.segment(&packet, now) else { return };
                let Self { ports, tcp, .. } = self;
                tcp.segment(&segment, now, &mut |id, event| tcp_event(ports, batch, id, event, times));
            }
            IpProtocol::Udp => {
                let Some(datagram) = self.datagram(&packet, now) else { return };
                let number = self.udp_flow((datagram.client, datagram.server), times, batch);
                for payload in datagram.pieces(frame.datagram_bytes) {
                    batch.datagram(number, payload);
                }
            }
            IpProtocol::Icmpv4 | IpProtocol::Icmpv6 => {}
        }
    }

    /// Does what is due; see [`Flows::poll_at`].
    pub(super) fn timeout(&mut self, now: Moment, batch: &mut Batch<'_>) {
        let Self { ports, tcp, udp, fragments, .. } = self;
        fragments.expire(now);
        let times = Times { now, seen_unix_micros: clock::unix_nanos() / 1_000 };
        tcp.timeout(now, &mut |id, event| tcp_event(ports, batch, id, event, times));
        udp.expire(now, |number| batch.end(number, FrameKind::Gone));
        self.tell_missing(times, batch);
    }

    /// When [`Flows::timeout`] is due.
    pub(super) fn poll_at(&self) -> Option<Moment> {
        [self.tcp.poll_at(), self.udp.next_expiry(), self.fragments.next_expiry()].into_iter().flatten().min()
    }

    /// An event of a TCP connection that no frame caused.
    pub(super) fn tcp_event(ports: &Ports, batch: &mut Batch<'_>, id: FlowId, event: Event<'static>, now: Moment) {
        tcp_event(ports, batch, id, event, Times { now, seen_unix_micros: clock::unix_nanos() / 1_000 });
    }

    /// Whether there is a rule for TCP.
    pub(super) fn has_tcp(&self) -> bool {
        self.ports.iter().any(|port| port.protocol == RuleProtocol::Tcp)
    }

    /// How often the ring lost something.
    pub(super) const fn losses(&self) -> u64 {
        self.stats.losses
    }

    /// The target received `bytes` to this port of which nothing else tells.
    pub(super) fn lost_unseen(&mut self, server: SocketAddr, bytes: u64) {
        self.unplaced.add_bytes(server.port(), bytes);
    }

    /// What was counted; the caller knows where nobody listens.
    pub(super) fn stats(&self) -> TapStats {
        let port_stats = |port: ListeningPort| PortStats {
            port: port.port,
            protocol: port.protocol,
            nobody_listens: false,
            left_out: self.left_out.of(port),
            lost_datagrams: self.unplaced.datagrams_of(port),
            lost_bytes: self.unplaced.bytes_of(port),
        };
        TapStats {
            fragments_dropped: self.fragments.dropped(),
            held_bytes: self.tcp.held_bytes() as u64,
            tcp_flows: self.tcp.flows() as u64,
            udp_flows: self.udp.len() as u64,
            udp_evicted: self.udp.evicted(),
            ports: self.ports.iter().map(port_stats).collect(),
            ..self.stats.clone()
        }
    }

    fn fragment(&mut self, packet: &Packet<'_>, times: Times, batch: &mut Batch<'_>) {
        let Some(fragment) = packet.fragment() else { return };
        let first = if fragment.offset == 0 { self.first(packet) } else { None };
        if fragment.offset == 0 && first.is_none() {
            return;
        }
        let whole = self.fragments.add(packet, fragment, first, times.now);
        self.tell_missing(times, batch);
        let Some(whole) = whole else { return };
        // It was finished before the packet was cut.
        let Some(packet) = Packet::parse_captured(&whole).ok().filter(checksum_holds) else {
            self.stats.malformed += 1;
            return;
        };
        if packet.protocol() == IpProtocol::Tcp {
            let Some(segment) = self.segment(&packet, times.now) else { return };
            let Self { ports, tcp, .. } = self;
            // It outlives the slots no more than this call, so what is passed on is copied.
            tcp.segment(&segment, times.now, &mut |id, event| tcp_event(ports, batch, id, owned(event), times));
        } else if packet.protocol() == IpProtocol::Udp {
            let Some(datagram) = self.datagram(&packet, times.now) else { return };
            let number = self.udp_flow((datagram.client, datagram.server), times, batch);
            let range = datagram.at_in(packet);
            batch.own_datagram(number, whole, range);
        }
    }

    /// What a first fragment shows, if it is of a port with a rule.
    fn first(&self, packet: &Packet<'_>) -> Option<First> {
        let protocol = match packet.protocol() {
            IpProtocol::Tcp => RuleProtocol::Tcp,
            IpProtocol::Udp => RuleProtocol::Udp,
            IpProtocol::Icmpv4 | IpProtocol::Icmpv6 => return None,
        };
        // Any fragment but the last has eight bytes at least.
        let &[a, b, c, d, e, f, _, _] = packet.payload().first_chunk()?;
        let client = SocketAddr::new(packet.source(), u16::from_be_bytes([a, b]));
        let server = SocketAddr::new(packet.destination(), u16::from_be_bytes([c, d]));
        let bytes = usize::from(u16::from_be_bytes([e, f])).saturating_sub(UDP_HEADER_BYTES);
        self.ports.takes(protocol, client, server).map(|_| First { protocol, client, server, bytes })
    }

    /// Says in its flow that a datagram is missing that was in too many fragments among others.
    fn tell_missing(&mut self, times: Times, batch: &mut Batch<'_>) {
        for First { protocol, client, server, bytes } in self.fragments.take_missing() {
            match self.ports.takes(protocol, client, server) {
                Some(true) => {
                    let number = self.udp_flow((client, server), times, batch);
                    batch.gap(number, Gap { reason: LossReason::Reassembly, bytes: bytes as u64, datagrams: 1 });
                }
                Some(false) => self.left_out.count((protocol, client, server), bytes, Sign::GoesOn, times.now),
                None => {}
            }
        }
    }

    /// The packet's segment, if it is of a connection that is copied.
    fn segment<'a>(&mut self, packet: &Packet<'a>, now: Moment) -> Option<Segment<'a>> {
        let Ok(segment) = Segment::parse(packet) else {
            self.stats.malformed += 1;
            return None;
        };
        let taken = self.ports.takes(RuleProtocol::Tcp, segment.client, segment.server)?;
        if !taken {
            let sign = match segment.flags {
                flags if flags.contains(Flags::SYN) => Sign::Begins,
                flags if flags.contains(Flags::FIN) || flags.contains(Flags::RST) => Sign::Ends,
                _ => Sign::GoesOn,
            };
            let flow = (RuleProtocol::Tcp, segment.client, segment.server);
            self.left_out.count(flow, segment.payload.len(), sign, now);
        }
        taken.then_some(segment)
    }

    /// The packet's datagram, if it is of a flow that is copied.
    fn datagram<'a>(&mut self, packet: &Packet<'a>, now: Moment) -> Option<Datagram<'a>> {
        let Some(datagram) = Datagram::parse(packet) else {
            self.stats.malformed += 1;
            return None;
        };
        let taken = self.ports.takes(RuleProtocol::Udp, datagram.client, datagram.server)?;
        if !taken {
            let flow = (RuleProtocol::Udp, datagram.client, datagram.server);
            self.left_out.count(flow, datagram.payload.len(), Sign::GoesOn, now);
        }
        taken.then_some(datagram)
    }

    /// The number of a datagram's flow, and what there is to say before the datagram.
    fn udp_flow(
        &mut self,
        (client, server): (SocketAddr, SocketAddr),
        times: Times,
        batch: &mut Batch<'_>,
    ) -> FlowNumber {
        let seen = self.udp.datagram((client, server), times.now);
        if let Some(number) = seen.evicted {
            batch.end(number, FrameKind::Gone);
        }
        if seen.opened {
            let opened = opened(&self.ports, RuleProtocol::Udp, (client, server), true, times);
            batch.open(seen.number, &opened);
        }
        if seen.after_loss {
            // How many of the lost frames were this flow's nobody knows.
            batch.gap(seen.number, Gap { reason: LossReason::Ring, bytes: 0, datagrams: 0 });
        }
        seen.number
    }
}

const fn ip_protocol(protocol: RuleProtocol) -> IpProtocol {
    match protocol {
        RuleProtocol::Tcp => IpProtocol::Tcp,
        RuleProtocol::Udp => IpProtocol::Udp,
    }
}

/// A slot has room for every IP packet; what is longer is a packet without a length (BIG TCP), of which the ring has a part.
fn is_cut_off(frame: &Frame<'_>) -> bool {
    let no_length = matches!(frame.bytes, [version, _, 0, 0, ..] if version >> 4 == 4);
    frame.bytes.len() < frame.len || (no_length && frame.len > usize::from(u16::MAX))
}

fn tcp_event<'a>(ports: &Ports, batch: &mut Batch<'a>, id: FlowId, event: Event<'a>, times: Times) {
    let number = FlowNumber::tcp(id.as_u32());
    if let Event::Opened { client, server, from_start } = event {
        batch.open(number, &opened(ports, RuleProtocol::Tcp, (client, server), from_start, times));
    } else {
        batch.event(number, event);
    }
}

fn opened(
    ports: &Ports,
    protocol: RuleProtocol,
    (client, server): (SocketAddr, SocketAddr),
    from_start: bool,
    times: Times,
) -> Opened {
    let sample_number = ports.sample_number(protocol, client, server);
    Opened { protocol, from_start, client, server, sample_number, seen_unix_micros: times.seen_unix_micros }
}

fn owned(event: Event<'_>) -> Event<'static> {
    match event {
        Event::Bytes { bytes, starts_segment, pushed } => {
            Event::Bytes { bytes: bytes.into_owned().into(), starts_segment, pushed }
        }
        Event::Opened { client, server, from_start } => Event::Opened { client, server, from_start },
        Event::Gap { bytes, reason } => Event::Gap { bytes, reason },
        Event::Finished => Event::Finished,
        Event::Reset => Event::Reset,
        Event::Gone => Event::Gone,
    }
}

/// A UDP datagram; who sends it may leave its port out.
struct Datagram<'a> {
    client: SocketAddr,
    server: SocketAddr,
    payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    fn parse(packet: &Packet<'a>) -> Option<Self> {
        let udp = packet.payload();
        let &[a, b, c, d, e, f, _, _] = udp.first_chunk()?;
        let payload = udp.get(UDP_HEADER_BYTES..usize::from(u16::from_be_bytes([e, f])))?;
        let client = SocketAddr::new(packet.source(), u16::from_be_bytes([a, b]));
        let server = SocketAddr::new(packet.destination(), u16::from_be_bytes([c, d]));
        Some(Self { client, server, payload })
    }

    /// The datagrams that the target reads, of a frame that is several.
    fn pieces(&self, bytes: Option<NonZeroU16>) -> impl Iterator<Item = &'a [u8]> {
        let len = bytes.map_or(usize::MAX, |bytes| bytes.get().into());
        let len = if self.payload.len().div_ceil(len) <= MAX_PIECES { len } else { usize::MAX };
        // Nothing is a datagram, too.
        let rest = self.payload.split_at(self.payload.len().min(len));
        std::iter::once(rest.0).chain(rest.1.chunks(len))
    }

    /// Where its payload is in the packet that it was parsed from.
    fn at_in(&self, packet: Packet<'_>) -> Range<usize> {
        let at = packet.bytes().len() - packet.payload().len() + UDP_HEADER_BYTES;
        at..at + self.payload.len()
    }
}

#[cfg(test)]
mod tests;
