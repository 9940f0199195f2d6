//! The application's side: a smoltcp socket that connects.

use std::{collections::VecDeque, net::SocketAddr};

use netstack::moment::Moment;
use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken},
    socket::tcp,
    time::Instant,
    wire::HardwareAddress,
};

pub(crate) struct Client {
    interface: Interface,
    device: Queues,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
}

impl Client {
    pub(crate) fn connect(host: SocketAddr, cluster: SocketAddr, mtu: u16, buffer: usize, now: Moment) -> Self {
        let mut device = Queues { mtu: usize::from(mtu), ..Queues::default() };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = 99;
        let mut interface = Interface::new(config, &mut device, instant(now));
        interface.set_any_ip(true);
        let buffer = || tcp::SocketBuffer::new(vec![0; buffer]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.connect(interface.context(), cluster, host).unwrap();
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        Self { interface, device, sockets, handle }
    }

    pub(crate) fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Every packet that is ready.
    pub(crate) fn poll(&mut self, now: Moment) -> Vec<Vec<u8>> {
        self.interface.poll(instant(now), &mut self.device, &mut self.sockets);
        self.device.sent.drain(..).collect()
    }

    pub(crate) fn receive(&mut self, packet: Vec<u8>, now: Moment) {
        self.device.received.push_back(packet);
        self.interface.poll_ingress_single(instant(now), &mut self.device, &mut self.sockets);
    }

    pub(crate) fn poll_at(&mut self, now: Moment) -> Option<Moment> {
        let due = self.interface.poll_at(instant(now), &self.sockets)?;
        Some(Moment::from_micros(u64::try_from(due.total_micros()).unwrap()).max(now))
    }
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

    /// Verifies every checksum.
    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}
