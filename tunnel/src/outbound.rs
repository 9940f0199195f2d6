//! Outbound: what programs on this machine send to the cluster, and what comes back.
//!
//! All of it runs on one thread. A packet is handled where it is read, without a queue:
//! 1. [`Outbound::read_device`] reads up to eight packets a turn from the TUN device;
//! 2. [`Outbound::packet`] parses one and finds its flow by its addresses;
//! 3. [`tcp`]: ring to stream and stream to ring; [`udp`] and [`icmp`]: datagrams on the link; [`names`]: port 53 of a nameserver;
//! 4. what a flow has to say goes straight to the device.
//!
//! Between packets [`timers`] wakes the few flows that wait for time. Before: [`crate::device`]; after: `gateway::session`.

mod icmp;
mod link_dns;
mod names;
mod tcp;
mod timers;
mod udp;

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use link::datagram::Datagram;
use netstack::{
    drop_reason::{DropCounters, DropReason},
    flow::FlowKey,
    flow_table::{FlowTable, Limits},
    fragment::Reassembler,
    moment::Moment,
    packet::{IpProtocol, Packet},
    ring::{HOT_RINGS, RingPool},
    segment::Segment,
    virtio,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{link_dns::LinkDns, names::Names};
use self::{tcp::TcpEntry, timers::Timers, udp::DatagramFlows};
use crate::{control::status::SessionStatus, device::Device, gateway_link::LinkWatch, mirror::Mirror};

/// Packets handled before other tasks get their turn: few enough that what they carry is in the cache when QUIC encrypts it.
const PACKETS_A_TURN: usize = 8;

/// What the flow table holds.
enum Entry {
    Tcp(Rc<TcpEntry>),
    /// The flow's number on the link.
    Datagrams(u32),
}

/// The outbound half of a session: every flow, and what they share. One thread owns it.
pub struct Outbound {
    device: Device,
    links: LinkWatch,
    names: Names,
    table: RefCell<FlowTable<Entry>>,
    rings: RefCell<RingPool>,
    scratch: RefCell<Box<[u8]>>,
    timers: Timers,
    /// Flows whose kernel waits for an answer to what it sent this turn. At most one entry a packet of the turn.
    unanswered: RefCell<Vec<Rc<TcpEntry>>>,
    datagrams: RefCell<DatagramFlows>,
    mirror: Rc<Mirror>,
    echoes: RefCell<icmp::Echoes>,
    fragments: RefCell<Reassembler>,
    drops: RefCell<DropCounters>,
    /// Datagrams dropped because there was no link to carry them.
    link_down: Cell<u64>,
    /// Datagrams dropped because too many large ones were under way.
    link_full: Cell<u64>,
    origin: Instant,
    tasks: TaskTracker,
    status: Arc<SessionStatus>,
}

impl Outbound {
    /// An outbound half without flows.
    pub fn new(
        device: Device,
        links: LinkWatch,
        names: Names,
        mirror: Rc<Mirror>,
        tasks: TaskTracker,
        status: Arc<SessionStatus>,
    ) -> Rc<Self> {
        Rc::new(Self {
            device,
            links,
            names,
            table: RefCell::new(FlowTable::new(Limits::DEFAULT)),
            rings: RefCell::new(RingPool::new(HOT_RINGS)),
            scratch: RefCell::new(vec![0; virtio::SCRATCH_BYTES].into()),
            timers: Timers::default(),
            unanswered: RefCell::default(),
            datagrams: RefCell::default(),
            mirror,
            echoes: RefCell::default(),
            fragments: RefCell::new(Reassembler::new()),
            drops: RefCell::new(DropCounters::new()),
            link_down: Cell::new(0),
            link_full: Cell::new(0),
            origin: Instant::now(),
            tasks,
            status,
        })
    }

    /// The resolver for captured nameservers.
    pub const fn names(&self) -> &Names {
        &self.names
    }

    /// Runs until `stop`, or until the device is gone. Must be called on a `LocalRuntime`.
    ///
    /// # Errors
    /// What the device answers.
    pub async fn run(self: &Rc<Self>, stop: &CancellationToken) -> io::Result<()> {
        self.tasks.spawn_local(stop.clone().run_until_cancelled_owned(udp::follow_links(Rc::clone(self))));
        self.tasks.spawn_local(stop.clone().run_until_cancelled_owned(timers::fire(Rc::clone(self))));
        // A task of its own, not part of the future that the thread blocks on: the scheduler asks the kernel before it polls that one.
        let reader = Rc::clone(self);
        let reader = stop.clone().run_until_cancelled_owned(async move { reader.read_device().await });
        let read = self.tasks.spawn_local(reader).await;
        self.reset_all();
        read.unwrap_or_else(|panicked| Some(Err(panicked.into()))).unwrap_or(Ok(()))
    }

    async fn read_device(self: &Rc<Self>) -> io::Result<()> {
        let mut buffer = vec![0; virtio::SCRATCH_BYTES];
        loop {
            self.device.readable().await?;
            for _ in 0..PACKETS_A_TURN {
                match self.device.try_read(&mut buffer) {
                    Ok(len) => self.packet(buffer.get(virtio::HEADER_BYTES..len).unwrap_or_default()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            tokio::task::yield_now().await;
            self.answer();
        }
    }

    /// Acknowledges what the last turn brought: once a flow, and only now that it is on its way to the gateway.
    fn answer(&self) {
        let mut flows = self.unanswered.take();
        for flow in flows.drain(..) {
            flow.answer(self);
        }
        // Its room is kept for the next turn.
        self.unanswered.replace(flows);
    }

    fn packet(self: &Rc<Self>, bytes: &[u8]) {
        self.status.traffic.packets_from_host.increment();
        if let Err(reason) = Packet::parse(bytes).and_then(|packet| self.whole(packet)) {
            tracing::trace!(%reason, "packet dropped");
            self.drops.borrow_mut().count(reason);
        }
    }

    /// Puts fragments together first.
    fn whole(self: &Rc<Self>, packet: Packet<'_>) -> Result<(), DropReason> {
        if packet.fragment().is_none() {
            return self.dispatch(packet);
        }
        let whole = self.fragments.borrow_mut().add(&packet, self.now(), &mut self.drops.borrow_mut());
        match whole {
            Some(bytes) => Packet::parse(&bytes).and_then(|packet| self.dispatch(packet)),
            None => Ok(()),
        }
    }

    fn dispatch(self: &Rc<Self>, packet: Packet<'_>) -> Result<(), DropReason> {
        match packet.protocol() {
            IpProtocol::Tcp => self.segment(&Segment::parse(packet)?),
            IpProtocol::Udp => self.datagram(&netstack::udp::Datagram::parse(packet)?),
            IpProtocol::Icmpv4 | IpProtocol::Icmpv6 => self.echo(&netstack::icmp::Echo::parse(&packet)?),
        }
    }

    /// Writes a packet that begins with its virtio header.
    fn write(&self, packet: &[u8]) {
        match self.device.write(packet) {
            Ok(()) => self.status.traffic.packets_to_host.increment(),
            // The device goes down only when somebody else takes it down; TCP tries again, and datagrams may be lost.
            Err(error) => tracing::debug!(%error, "the device did not take a packet"),
        }
    }

    /// Lays a packet into the scratch buffer and writes it.
    fn write_with(&self, lay: impl FnOnce(&mut [u8]) -> Option<usize>) {
        let mut scratch = self.scratch.borrow_mut();
        if let Some(len) = lay(&mut scratch) {
            self.write(&scratch[..len]);
        }
    }

    fn now(&self) -> Moment {
        Moment::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// A flow had to go for another, or its time is over.
    fn evicted(&self, key: FlowKey, entry: Entry) {
        match entry {
            Entry::Tcp(flow) => flow.abandon(),
            Entry::Datagrams(number) => {
                self.datagrams.borrow_mut().forget(number);
                tracing::trace!(%key, "flow idle");
            }
        }
    }

    /// Puts what is counted here into the status.
    fn report(&self) {
        use netstack::flow_table::Standing;
        let table = self.table.borrow();
        let flows = &self.status.flows;
        flows.tcp_open.set(table.count(Standing::Established) as u64);
        flows.tcp_held.set(table.count(Standing::Dialing) as u64);
        flows.udp_open.set(table.count(Standing::Datagrams) as u64);
        let drops = self.drops.borrow();
        let counted = drops.iter().map(|(reason, count)| (reason.as_str(), count));
        let of_link = [("link_down", self.link_down.get()), ("link_full", self.link_full.get())];
        let drops = counted.chain(of_link).filter(|(_, count)| *count > 0);
        let drops = drops.map(|(reason, count)| (reason.to_owned(), count)).collect();
        let link = self.links.current();
        names::publish(&self.status.dns, &self.names.counters());
        self.status.update(|summary| {
            summary.drops = drops;
            if let Some(link) = link {
                summary.link.rtt_micros = u64::try_from(link.link.connection.rtt().as_micros()).ok();
            }
        });
    }

    /// The session ends: programs learn it by a reset, not by silence.
    fn reset_all(&self) {
        let flows: Vec<_> = self.table.borrow().iter().filter_map(|(_, entry)| entry.tcp()).collect();
        for flow in flows {
            flow.reset(self);
        }
    }
}

impl Entry {
    fn tcp(&self) -> Option<Rc<TcpEntry>> {
        match self {
            Self::Tcp(flow) => Some(Rc::clone(flow)),
            Self::Datagrams(_) => None,
        }
    }
}

/// Encodes a datagram for the link.
fn encoded(datagram: &Datagram<'_>, payload_len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(payload_len + 32);
    datagram.encode(&mut bytes);
    bytes
}
