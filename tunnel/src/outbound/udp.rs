//! UDP flows: a number on the link for each pair of addresses, payloads as QUIC datagrams, the large ones on streams of their own.
//!
//! 1. [`Outbound::datagram`] takes what a program sent and gives it to the link; without a link it is lost and counted, as on a wire.
//! 2. [`follow_links`] reads what comes back, on every link; a stream that is a mirrored flow goes to [`crate::mirror`].
//! 3. [`Outbound::arrived`] makes packets of it: UDP, echoes, and what could not be reached.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use link::{
    datagram::{Datagram, MAX_BYTES, Unreachable},
    mirrored::MIRRORED,
};
use netstack::{
    drop_reason::DropReason,
    flow::FlowKey,
    flow_table::{Lookup, Standing},
    icmp::{self, Quote, write_unreachable},
    udp,
};
use quinn::{Connection, RecvStream, SendDatagramError};
use rustc_hash::FxHashMap;
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

use super::{Entry, Outbound, encoded};

/// Large datagrams under way in each direction; beyond it they are dropped and counted, as a full socket buffer would.
const MAX_LARGE: usize = 256;
/// A large datagram that takes longer is lost.
const LARGE_TIMEOUT: Duration = Duration::from_secs(10);

/// The numbers of UDP flows on the link.
pub(super) struct DatagramFlows {
    next: u32,
    keys: FxHashMap<u32, FlowKey>,
    sending: Rc<Semaphore>,
    receiving: Rc<Semaphore>,
}

impl Default for DatagramFlows {
    fn default() -> Self {
        Self {
            next: 0,
            keys: FxHashMap::default(),
            sending: Rc::new(Semaphore::new(MAX_LARGE)),
            receiving: Rc::new(Semaphore::new(MAX_LARGE)),
        }
    }
}

impl DatagramFlows {
    /// A number that no flow of this session has had lately.
    fn number(&mut self, key: FlowKey) -> u32 {
        self.next = self.next.wrapping_add(1);
        self.keys.insert(self.next, key);
        self.next
    }

    pub(super) fn forget(&mut self, number: u32) {
        self.keys.remove(&number);
        if self.keys.is_empty() {
            self.keys.shrink_to_fit();
        }
    }
}

impl Outbound {
    /// A datagram from the device.
    pub(super) fn datagram(self: &Rc<Self>, datagram: &udp::Datagram<'_>) -> Result<(), DropReason> {
        let (key, now) = (datagram.key(), self.now());
        if self.names.is_nameserver(key.cluster.0) {
            self.query(key, datagram.payload());
            return Ok(());
        }
        let known = match self.table.borrow_mut().lookup(&key, now) {
            Lookup::Live(Entry::Datagrams(number)) => Some(*number),
            Lookup::Live(Entry::Tcp(_)) | Lookup::Buried(_) | Lookup::Unknown => None,
        };
        let flow = match known {
            Some(number) => number,
            None => {
                let number = self.datagrams.borrow_mut().number(key);
                let gone = self.table.borrow_mut().insert(key, Standing::Datagrams, now, || Entry::Datagrams(number));
                if gone.is_err() {
                    self.datagrams.borrow_mut().forget(number);
                }
                if let Some((key, entry)) = gone? {
                    self.evicted(key, entry);
                }
                self.status.flows.udp_total.increment();
                number
            }
        };
        let payload = datagram.payload();
        self.status.traffic.bytes_to_cluster.add(payload.len() as u64);
        self.to_link(encoded(&Datagram::UdpOut { flow, to: key.cluster.0, payload }, payload.len()));
        Ok(())
    }

    /// Sends an encoded datagram on whichever way it fits.
    pub(super) fn to_link(self: &Rc<Self>, bytes: Vec<u8>) {
        let Some(link) = self.links.current() else {
            self.link_down.set(self.link_down.get() + 1);
            return;
        };
        let connection = link.link.connection;
        if connection.max_datagram_size().is_some_and(|most| bytes.len() <= most) {
            match connection.send_datagram(Bytes::from(bytes)) {
                Ok(()) | Err(SendDatagramError::TooLarge) => {}
                Err(
                    SendDatagramError::ConnectionLost(_)
                    | SendDatagramError::UnsupportedByPeer
                    | SendDatagramError::Disabled,
                ) => self.link_down.set(self.link_down.get() + 1),
            }
            return;
        }
        let slots = Rc::clone(&self.datagrams.borrow().sending);
        let outbound = Rc::clone(self);
        self.tasks.spawn_local(async move {
            let Ok(_slot) = slots.try_acquire() else {
                outbound.link_full.set(outbound.link_full.get() + 1);
                return;
            };
            if timeout(LARGE_TIMEOUT, send_large(&connection, &bytes)).await.is_err() {
                outbound.link_full.set(outbound.link_full.get() + 1);
            }
        });
    }

    fn arrived(&self, bytes: &[u8]) {
        let Ok(datagram) = Datagram::decode(bytes) else {
            tracing::debug!("the gateway sent a datagram that cannot be read");
            return;
        };
        match datagram {
            Datagram::UdpIn { flow, payload } => {
                let Some(key) = self.touch(flow) else { return };
                self.status.traffic.bytes_from_cluster.add(payload.len() as u64);
                self.write_with(|scratch| udp::write(scratch, key.cluster, key.host, payload));
            }
            Datagram::UdpUnreachable { flow, why } => {
                self.count_prohibited(why);
                let Some(key) = self.touch(flow) else { return };
                self.write_with(|scratch| write_unreachable(scratch, of_stack(why), &Quote::datagram(&key)));
            }
            Datagram::EchoIn { id, seq, ttl, payload } => self.echo_arrived(id, seq, ttl, payload),
            Datagram::EchoUnreachable { id, seq, why } => {
                self.count_prohibited(why);
                self.echo_unreachable(id, seq, of_stack(why));
            }
            // Only sessions send these.
            Datagram::UdpOut { .. } | Datagram::EchoOut { .. } => {}
        }
    }

    fn count_prohibited(&self, why: Unreachable) {
        if why == Unreachable::Prohibited {
            self.status.flows.prohibited.increment();
        }
    }

    /// The flow's addresses; what comes back counts as traffic.
    fn touch(&self, number: u32) -> Option<FlowKey> {
        let key = *self.datagrams.borrow().keys.get(&number)?;
        match self.table.borrow_mut().lookup(&key, self.now()) {
            Lookup::Live(Entry::Datagrams(live)) if *live == number => Some(key),
            Lookup::Live(_) | Lookup::Buried(_) | Lookup::Unknown => None,
        }
    }
}

async fn send_large(connection: &Connection, bytes: &[u8]) {
    // An error is a link that ended, and with it the datagram.
    if let Ok(mut stream) = connection.open_uni().await
        && stream.write_all(bytes).await.is_ok()
    {
        let _ = stream.finish();
    }
}

/// Reads datagrams from every link while it lives, until the session ends: one that drains still brings answers.
pub(super) async fn follow_links(outbound: Rc<Outbound>) {
    let mut links = outbound.links.clone();
    let mut link = links.current();
    let mut readers = JoinSet::new();
    loop {
        if let Some(link) = link {
            let outbound = Rc::clone(&outbound);
            let connection = link.link.connection;
            readers.spawn_local(async move {
                tokio::join!(read_datagrams(&outbound, &connection), accept_streams(&outbound, &connection));
            });
        }
        // Those of links that have ended.
        while readers.try_join_next().is_some() {}
        match links.changed().await {
            Ok(next) => link = next,
            Err(_) => return,
        }
    }
}

async fn read_datagrams(outbound: &Outbound, connection: &Connection) {
    while let Ok(bytes) = connection.read_datagram().await {
        outbound.arrived(&bytes);
    }
}

async fn accept_streams(outbound: &Rc<Outbound>, connection: &Connection) {
    while let Ok(stream) = connection.accept_uni().await {
        outbound.tasks.spawn_local(read_stream(Rc::clone(outbound), stream));
    }
}

/// A stream of the gateway's: its first byte tells what it is.
async fn read_stream(outbound: Rc<Outbound>, mut stream: RecvStream) {
    let Ok(Ok(Some(first))) = timeout(LARGE_TIMEOUT, stream.read_chunk(usize::MAX, true)).await else { return };
    if first.bytes.first() == Some(&MIRRORED) {
        return Rc::clone(&outbound.mirror).arrived(first.bytes, stream).await;
    }
    let slots = Rc::clone(&outbound.datagrams.borrow().receiving);
    let Ok(_slot) = slots.try_acquire() else { return };
    if let Ok(Some(bytes)) = timeout(LARGE_TIMEOUT, read_whole(&first.bytes, stream)).await {
        outbound.arrived(&bytes);
    }
}

async fn read_whole(first: &[u8], mut stream: RecvStream) -> Option<Vec<u8>> {
    let most = MAX_BYTES.checked_sub(first.len())?;
    let rest = stream.read_to_end(most).await.ok()?;
    Some([first, &rest].concat())
}

const fn of_stack(why: Unreachable) -> icmp::Unreachable {
    match why {
        Unreachable::Port => icmp::Unreachable::Port,
        Unreachable::Host => icmp::Unreachable::Host,
        Unreachable::Network => icmp::Unreachable::Network,
        Unreachable::Prohibited => icmp::Unreachable::Prohibited,
    }
}
