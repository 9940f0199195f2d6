//! A [`TcpFlow`] and a smoltcp client on either side of a [`Link`], under a virtual clock: what the device and the application's kernel
//! are in the product. Checks on the way that checksums come out right as the kernel finishes them, and the promise of every step:
//! what a flow would emit at a later time was announced by `poll_at`.

mod bytes;
mod client;
mod link;

use std::{
    net::{IpAddr, SocketAddr},
    ops::ControlFlow,
    time::Duration,
};

use netstack::{
    moment::Moment,
    packet::Packet,
    ring::Rings,
    segment::Segment,
    tcp_flow::{Ingress, TcpFlow},
    virtio,
};

pub(crate) use self::{
    bytes::{drain, fill, pattern},
    link::{Conditions, Link},
};
use self::{
    bytes::{finish_checksum, window_end},
    client::Client,
};

/// How a pair begins.
pub(crate) struct Setup {
    pub(crate) ipv6: bool,
    pub(crate) rings: Rings,
    pub(crate) mtu: u16,
    pub(crate) client_buffer: usize,
    pub(crate) conditions: Conditions,
    pub(crate) seed: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            ipv6: false,
            rings: Rings::new(),
            mtu: 65_535,
            client_buffer: 300_000,
            conditions: Conditions::PERFECT,
            seed: 1,
        }
    }
}

pub(crate) struct Pair {
    pub(crate) now: Moment,
    /// `None` until the client's first SYN has come.
    flow: Option<TcpFlow>,
    rings: Option<Rings>,
    mtu: u16,
    pub(crate) client: Client,
    to_flow: Link,
    to_client: Link,
    scratch: Vec<u8>,
    /// Packets that the flow emitted.
    pub(crate) emitted: usize,
    /// Ends of the windows that the flow announced, as sequence numbers, in order.
    pub(crate) window_ends: Vec<u32>,
    /// The last packet that the client sent.
    pub(crate) last_sent: Vec<u8>,
    /// Nothing passes any more: the application's machine is gone.
    pub(crate) severed: bool,
}

impl Pair {
    pub(crate) fn new(setup: Setup) -> Self {
        let address = |v4: [u8; 4], v6: &str| if setup.ipv6 { v6.parse().unwrap() } else { IpAddr::from(v4) };
        let host = SocketAddr::new(address([10, 0, 0, 1], "fd00::1"), 40_000);
        let cluster = SocketAddr::new(address([10, 96, 0, 1], "fd01::1"), 80);
        // Not the origin, where smoltcp's own sense of "at once" is.
        let now = Moment::ORIGIN + Duration::from_secs(5);
        Self {
            now,
            flow: None,
            rings: Some(setup.rings),
            mtu: setup.mtu,
            client: Client::connect((host, cluster), setup.mtu.into(), setup.client_buffer, 99, now),
            to_flow: Link::new(setup.conditions, setup.seed),
            to_client: Link::new(setup.conditions, setup.seed ^ 0xffff),
            scratch: vec![0; virtio::SCRATCH_BYTES],
            emitted: 0,
            window_ends: Vec::new(),
            last_sent: Vec::new(),
            severed: false,
        }
    }

    /// A pair whose connection is open on both sides.
    pub(crate) fn established(setup: Setup) -> Self {
        let mut pair = Self::new(setup);
        pair.run_until(|pair| pair.flow.is_some());
        pair.flow().accept();
        pair.run_until(|pair| pair.flow().can_send() && pair.client.socket().may_send());
        pair
    }

    pub(crate) fn flow(&mut self) -> &mut TcpFlow {
        self.flow.as_mut().expect("the client's SYN has come")
    }

    pub(crate) fn has_flow(&self) -> bool {
        self.flow.is_some()
    }

    /// The client's addresses once more, for another connection from the same port.
    pub(crate) fn reconnect(&mut self) {
        self.client = self.client.again(self.now);
    }

    pub(crate) fn into_rings(self) -> Rings {
        self.flow.expect("the client's SYN has come").into_rings()
    }

    /// Steps until `done`, which may act on both ends.
    pub(crate) fn run_until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.now + Duration::from_secs(24 * 3600);
        let mut idle = 0;
        while !done(self) {
            assert!(self.now < end, "a day has passed");
            // What `done` does may need many steps before it makes a packet, such as to read a window empty byte by byte.
            idle = if self.exchange() || self.advance() { 0 } else { idle + 1 };
            assert!(
                idle < 400_000,
                "nothing will ever happen again: {:?}, client {}",
                self.flow,
                self.client.describe()
            );
        }
    }

    /// Steps until `moment` and as long as anything happens there.
    pub(crate) fn run_to(&mut self, moment: Moment) {
        loop {
            while self.exchange() {}
            if self.due().is_none_or(|due| due > moment) {
                break;
            }
            self.advance();
        }
        self.now = moment;
        while self.exchange() {}
    }

    /// Whether nothing will happen any more without someone's doing.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.run_to(self.now + Duration::from_secs(1));
        self.due().is_none()
    }

    /// Gives a packet to the flow at once, as if the application's kernel had sent it.
    pub(crate) fn inject(&mut self, bytes: &[u8]) -> Option<Ingress> {
        let segment = Segment::parse(Packet::parse(bytes).ok()?).ok()?;
        let now = self.now;
        Some(self.flow().ingress(&segment, now))
    }

    /// Sends what is ready and delivers what is due.
    fn exchange(&mut self) -> bool {
        let now = self.now;
        let mut happened = false;
        for packet in self.client.poll(now) {
            self.last_sent.clone_from(&packet);
            if !self.severed {
                self.to_flow.send(packet, now);
            }
            happened = true;
        }
        happened |= self.flow_egress(now) > 0;
        while let Some(packet) = self.to_flow.receive(now) {
            self.flow_ingress(&packet);
            happened = true;
        }
        while let Some(packet) = self.to_client.receive(now) {
            self.client.receive(packet, now);
            happened = true;
        }
        happened
    }

    fn flow_ingress(&mut self, packet: &[u8]) {
        let segment = Segment::parse(Packet::parse(packet).unwrap()).unwrap();
        let (now, mtu) = (self.now, self.mtu);
        if let Some(rings) = self.rings.take_if(|_| segment.opens()) {
            self.flow = Some(TcpFlow::new(segment.key(), 7, rings, mtu, now));
        }
        if let Some(flow) = &mut self.flow {
            let _ = flow.ingress(&segment, now);
        }
    }

    fn flow_egress(&mut self, now: Moment) -> usize {
        let Some(flow) = &mut self.flow else { return 0 };
        let (to_client, severed) = (&mut self.to_client, self.severed);
        let window_ends = &mut self.window_ends;
        let emitted = flow.egress(now, &mut self.scratch, |bytes| {
            let packet = finish_checksum(bytes);
            window_ends.extend(window_end(&packet));
            if !severed {
                to_client.send(packet, now);
            }
            ControlFlow::Continue(())
        });
        self.emitted += emitted;
        let left = flow.egress(now, &mut self.scratch, |_| ControlFlow::Continue(()));
        assert_eq!(left, 0, "an egress that came to its end left something");
        emitted
    }

    fn due(&mut self) -> Option<Moment> {
        let now = self.now;
        let flow = self.flow.as_mut().and_then(|flow| flow.poll_at(now));
        [self.to_flow.due(), self.to_client.due(), self.client.poll_at(now), flow].into_iter().flatten().min()
    }

    /// Goes on to what is due next; on the way the flow must stay as silent as it announced.
    fn advance(&mut self) -> bool {
        let Some(due) = self.due() else { return false };
        if due <= self.now {
            return self.exchange();
        }
        let just_before = Moment::from_micros(due.as_micros() - 1);
        assert_eq!(self.flow_egress(just_before), 0, "the flow emitted before the time that it announced");
        self.now = due;
        true
    }
}
