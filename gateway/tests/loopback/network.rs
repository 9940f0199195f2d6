//! A network in memory that loses, doubles, delays and reorders by a seed, and the clock that it runs on.
//!
//! The clock is tokio's, paused, and moved by hand: left alone it would jump to the next timer whenever all tasks wait, although the kernel
//! may be about to hand over what loopback carries between the gateway and its services.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    convert::Infallible,
    fmt, io,
    io::IoSliceMut,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::Duration,
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use tokio::time::{Instant, Sleep, advance, sleep_until};

/// How far the clock goes in a turn.
const STEP: Duration = Duration::from_millis(1);
/// What the kernel has of each turn, in real time.
const TURN: Duration = Duration::from_micros(20);
/// How often tasks run in a turn: what one wakes, and what that wakes.
const ROUNDS: usize = 4;

/// Runs `body` while the clock goes.
pub(crate) async fn driven<T>(body: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        output = body => output,
        never = drive() => match never {},
    }
}

async fn drive() -> Infallible {
    loop {
        for _ in 0..ROUNDS {
            tokio::task::yield_now().await;
        }
        std::thread::sleep(TURN);
        advance(STEP).await;
    }
}

/// What happens to packets: shares of them, and times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conditions {
    pub(crate) loss: f64,
    pub(crate) duplicate: f64,
    pub(crate) delay: Duration,
    /// Each packet takes up to this much longer, so later ones overtake it.
    pub(crate) jitter: Duration,
}

impl Conditions {
    /// Something between a good network and a bad one.
    pub(crate) fn of_seed(seed: u64) -> Self {
        let mut random = Random(seed);
        Self {
            loss: random.share() * 0.08,
            duplicate: random.share() * 0.03,
            delay: Duration::from_millis(1).mul_f64(1.0 + random.share() * 29.0),
            jitter: Duration::from_millis(10).mul_f64(random.share()),
        }
    }
}

/// Numbers that are the same for the same seed (SplitMix64).
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn bytes(&mut self, most: u64) -> Vec<u8> {
        let count = self.next() % (most + 1);
        (0..count).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// Joins sockets by address.
#[derive(Debug, Clone)]
pub(crate) struct Network(Arc<Mutex<Wires>>);

#[derive(Debug)]
struct Wires {
    conditions: Conditions,
    random: Random,
    sent: u64,
    sockets: HashMap<SocketAddr, Arc<Mutex<Inbox>>>,
}

/// Packets on their way to a socket.
#[derive(Debug, Default)]
struct Inbox {
    coming: BinaryHeap<Reverse<Coming>>,
    waker: Option<Waker>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Coming {
    at: Instant,
    number: u64,
    from: SocketAddr,
    packet: Vec<u8>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl Network {
    pub(crate) fn new(seed: u64, conditions: Conditions) -> Self {
        let wires = Wires { conditions, random: Random(seed), sent: 0, sockets: HashMap::new() };
        Self(Arc::new(Mutex::new(wires)))
    }

    /// A socket at `address`. One that had it before is cut off, as by a SIGKILL of its process.
    pub(crate) fn bind(&self, address: &str) -> Arc<dyn AsyncUdpSocket> {
        let address = address.parse().unwrap();
        let inbox = Arc::<Mutex<Inbox>>::default();
        locked(&self.0).sockets.insert(address, Arc::clone(&inbox));
        let timer = Mutex::new(Box::pin(sleep_until(Instant::now())));
        Arc::new(Port { network: self.clone(), address, inbox, timer })
    }

    fn send(&self, from: &Port, to: SocketAddr, packet: &[u8]) {
        let mut wires = locked(&self.0);
        let is_cut_off = !wires.sockets.get(&from.address).is_some_and(|inbox| Arc::ptr_eq(inbox, &from.inbox));
        let Some(inbox) = wires.sockets.get(&to).cloned().filter(|_| !is_cut_off) else { return };
        let Conditions { loss, duplicate, delay, jitter } = wires.conditions;
        if wires.random.share() < loss {
            return;
        }
        let copies = if wires.random.share() < duplicate { 2 } else { 1 };
        let mut inbox = locked(&inbox);
        for _ in 0..copies {
            wires.sent += 1;
            let at = Instant::now() + delay + jitter.mul_f64(wires.random.share());
            inbox.coming.push(Reverse(Coming { at, number: wires.sent, from: from.address, packet: packet.to_vec() }));
        }
        if let Some(waker) = inbox.waker.take() {
            waker.wake();
        }
    }
}

/// One end of the network, as quinn sees it.
struct Port {
    network: Network,
    address: SocketAddr,
    inbox: Arc<Mutex<Inbox>>,
    timer: Mutex<Pin<Box<Sleep>>>,
}

impl AsyncUdpSocket for Port {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for packet in transmit.contents.chunks(segment) {
            self.network.send(self, transmit.destination, packet);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inbox = locked(&self.inbox);
        let mut count = 0;
        while count < bufs.len().min(meta.len())
            && inbox.coming.peek().is_some_and(|Reverse(next)| next.at <= Instant::now())
        {
            let Some(Reverse(Coming { from, packet, .. })) = inbox.coming.pop() else { break };
            let len = packet.len().min(bufs[count].len());
            bufs[count][..len].copy_from_slice(&packet[..len]);
            meta[count] = RecvMeta { addr: from, len, stride: len.max(1), ecn: None, dst_ip: None };
            count += 1;
        }
        if count > 0 {
            return Poll::Ready(Ok(count));
        }
        inbox.waker = Some(cx.waker().clone());
        if let Some(Reverse(next)) = inbox.coming.peek() {
            let mut timer = locked(&self.timer);
            timer.as_mut().reset(next.at);
            if timer.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("address", &self.address).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
