//! The application's side: a smoltcp socket that connects.

use std::{collections::VecDeque, net::SocketAddr};

use netstack::{moment::Moment, packet::Packet, segment::Segment};
use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken},
    socket::tcp::{self, State},
    time::Instant,
    wire::HardwareAddress,
};

const FIN: u8 = 0x01;
const ACK: u8 = 0x10;

pub(crate) struct Client {
    interface: Interface,
    device: Queues,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    host: SocketAddr,
    cluster: SocketAddr,
    buffer: usize,
    /// Differs between a client and the next, so that their sequence numbers do.
    seed: u64,
    /// What the flow acknowledged.
    acknowledged: u32,
    /// The end of what the flow has sent.
    sequence: u32,
    repeated: bool,
    /// The flow's last packet as an acknowledgement alone.
    last: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(
        (host, cluster): (SocketAddr, SocketAddr),
        mtu: usize,
        buffer: usize,
        seed: u64,
        now: Moment,
    ) -> Self {
        let mut device = Queues { mtu, ..Queues::default() };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut device, instant(now));
        interface.set_any_ip(true);
        let ring = || tcp::SocketBuffer::new(vec![0; buffer]);
        let mut socket = tcp::Socket::new(ring(), ring());
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.connect(interface.context(), cluster, host).unwrap();
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        Self {
            interface,
            device,
            sockets,
            handle,
            host,
            cluster,
            buffer,
            seed,
            acknowledged: 0,
            sequence: 0,
            repeated: false,
            last: Vec::new(),
        }
    }

    /// Another connection with the same addresses; this one is forgotten.
    pub(crate) fn again(&self, now: Moment) -> Self {
        Self::connect((self.host, self.cluster), self.device.mtu, self.buffer, self.seed + 1, now)
    }

    pub(crate) fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    pub(crate) fn describe(&mut self) -> String {
        let socket = self.socket();
        format!("{:?}, {} to read, {} unacknowledged", socket.state(), socket.recv_queue(), socket.send_queue())
    }

    /// Every packet that is ready.
    pub(crate) fn poll(&mut self, now: Moment) -> Vec<Vec<u8>> {
        self.interface.poll(instant(now), &mut self.device, &mut self.sockets);
        for _ in 0..4 {
            // smoltcp may be left with data in flight and without a timer; a flow guards itself against that, too.
            let waits = self.socket().is_active() && self.socket().send_queue() > 0;
            if self.poll_at(now).is_some() || !waits || self.last.is_empty() {
                break;
            }
            self.receive(self.last.clone(), now);
        }
        self.device.sent.drain(..).collect()
    }

    /// With the same guards against smoltcp as a flow has, since a bare one would end a transfer short or not at all.
    pub(crate) fn receive(&mut self, mut packet: Vec<u8>, now: Moment) {
        let tcp = packet.len() - Packet::parse(&packet).unwrap().payload().len();
        let payload = Segment::parse(Packet::parse(&packet).unwrap()).unwrap().payload().len();
        if payload == 0 {
            self.keep_fin(&mut packet[tcp..]);
        }
        self.hear(&packet, tcp, payload);
        let mut behind = packet.clone();
        if payload > 0 && packet[tcp + 13] & FIN != 0 {
            packet[tcp + 13] &= !FIN;
            self.process(packet, now);
            shorten(&mut behind, tcp, payload);
            self.process(behind, now);
        } else {
            self.process(packet, now);
        }
    }

    /// Remembers what the flow said last, as an acknowledgement alone.
    fn hear(&mut self, packet: &[u8], tcp: usize, payload: usize) {
        let acknowledged = u32::from_be_bytes(packet[tcp + 8..tcp + 12].try_into().unwrap());
        let older = acknowledged.wrapping_sub(self.acknowledged) >= 1 << 31 && self.acknowledged != 0;
        if older || packet[tcp + 13] & ACK == 0 {
            return;
        }
        self.acknowledged = acknowledged;
        let mut last = packet.to_vec();
        let fin = usize::from(last[tcp + 13] & FIN);
        shorten(&mut last, tcp, payload);
        last[tcp + 13] = ACK;
        forward(&mut last[tcp + 4..tcp + 8], fin);
        // Late packets come from behind.
        let sequence = u32::from_be_bytes(last[tcp + 4..tcp + 8].try_into().unwrap());
        if self.last.is_empty() || sequence.wrapping_sub(self.sequence) < 1 << 31 {
            self.sequence = sequence;
        }
        last[tcp + 4..tcp + 8].copy_from_slice(&self.sequence.to_be_bytes());
        self.last = last;
    }

    fn process(&mut self, packet: Vec<u8>, now: Moment) {
        self.device.received.push_back(packet);
        self.interface.poll_ingress_single(instant(now), &mut self.device, &mut self.sockets);
    }

    fn keep_fin(&mut self, tcp: &mut [u8]) {
        let acknowledged = u32::from_be_bytes(tcp[8..12].try_into().unwrap());
        let finishing = matches!(self.socket().state(), State::FinWait1 | State::Closing | State::LastAck);
        if finishing && self.socket().send_queue() == 0 && acknowledged == self.acknowledged {
            self.repeated = !self.repeated;
            tcp[15] ^= u8::from(self.repeated);
        }
    }

    pub(crate) fn poll_at(&mut self, now: Moment) -> Option<Moment> {
        let due = self.interface.poll_at(instant(now), &self.sockets)?;
        Some(Moment::from_micros(u64::try_from(due.total_micros()).unwrap()).max(now))
    }
}

/// Takes the payload off, as if it had been sent before.
fn shorten(packet: &mut Vec<u8>, tcp: usize, payload: usize) {
    packet.truncate(packet.len() - payload);
    forward(&mut packet[tcp + 4..tcp + 8], payload);
    let (at, counted) = if packet[0] >> 4 == 4 { (2, packet.len()) } else { (4, packet.len() - 40) };
    packet[at..at + 2].copy_from_slice(&u16::try_from(counted).unwrap().to_be_bytes());
}

/// Adds to a sequence number.
fn forward(field: &mut [u8], by: usize) {
    let sequence = u32::from_be_bytes((&*field).try_into().unwrap());
    field.copy_from_slice(&sequence.wrapping_add(u32::try_from(by).unwrap()).to_be_bytes());
}

fn instant(moment: Moment) -> Instant {
    Instant::from_micros(i64::try_from(moment.as_micros()).unwrap())
}

#[derive(Default)]
struct Queues {
    mtu: usize,
    received: VecDeque<Vec<u8>>,
    sent: VecDeque<Vec<u8>>,
}

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Sent<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Sent<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for Queues {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sent<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sent<'_>)> {
        self.received.pop_front().map(|packet| (Received(packet), Sent(&mut self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sent<'_>> {
        Some(Sent(&mut self.sent))
    }

    /// Checksums are verified where packets are finished, since this end changes some.
    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities.checksum = ChecksumCapabilities::ignored();
        capabilities
    }
}
