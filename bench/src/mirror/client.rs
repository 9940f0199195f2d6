//! The target's client inside the cluster: what it sees is what a mirror must not change.
//! Before: [`super::harm`], [`mod@super::copy`], [`mod@super::flows`]; after: [`super::server`].

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket},
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use cli::demo::namespace::Namespace;

use super::server::{ANSWER_BYTES, ECHO, MESSAGE_BYTES, NUMBERED, REQUEST, REQUEST_BYTES, SINK, TIMED};

/// What one write takes.
const CHUNK_BYTES: usize = 64 << 10;
const DATAGRAM_BYTES: usize = 200;
const PATIENCE: Duration = Duration::from_secs(60);
/// New connections are made by so many threads.
const DIALERS: u32 = 8;
/// What numbered connections carry begins somewhere in so many bytes, and comes round again.
const POOL_BYTES: usize = 4 << 20;

/// A client's namespace and the target's address.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) namespace: Namespace,
    pub(super) target: SocketAddr,
}

/// One stream, as the target counted it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Carried {
    pub(super) bytes: u64,
    pub(super) seconds: f64,
}

impl Carried {
    pub(super) fn gigabytes(self) -> f64 {
        self.bytes as f64 * 1e-9
    }

    pub(super) fn gbits(self) -> f64 {
        8.0 * self.gigabytes() / self.seconds
    }
}

/// Lets through so many Gbit/s, for all who ask it together. Who was held up catches up.
#[derive(Debug)]
pub(super) struct Pace {
    gbits: Option<f64>,
    began: Instant,
    sent: AtomicU64,
}

impl Pace {
    /// Without a rate it lets through everything.
    pub(super) fn new(gbits: Option<f64>) -> Self {
        Self { gbits, began: Instant::now(), sent: AtomicU64::new(0) }
    }

    fn wait(&self, bytes: usize) {
        let before = self.sent.fetch_add(bytes as u64, Relaxed);
        if let Some(gbits) = self.gbits {
            let due = Duration::from_secs_f64(before as f64 * 8e-9 / gbits);
            thread::sleep(due.saturating_sub(self.began.elapsed()));
        }
    }
}

impl Client {
    fn dial(&self, kind: u8) -> Result<TcpStream> {
        let mut stream = TcpStream::connect(self.target).with_context(|| format!("the target {}", self.target))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&[kind])?;
        Ok(stream)
    }

    /// One stream for this long, at this many Gbit/s or as fast as it goes.
    pub(super) fn stream(&self, gbits: Option<f64>, time: Duration) -> Result<Carried> {
        self.namespace.run(|| {
            let mut stream = self.dial(SINK)?;
            let chunk = vec![0x5a; CHUNK_BYTES];
            let (pace, began) = (Pace::new(gbits), Instant::now());
            let mut sent = 1;
            while began.elapsed() < time {
                pace.wait(CHUNK_BYTES);
                stream.write_all(&chunk)?;
                sent += CHUNK_BYTES as u64;
            }
            let bytes = finish(stream)?;
            ensure!(bytes == sent, "the target read {bytes} of {sent} bytes");
            Ok(Carried { bytes, seconds: began.elapsed().as_secs_f64() })
        })
    }

    /// Connections with numbers from 0, so many at once, each of as many bytes as `size` says.
    pub(super) fn numbered(&self, count: u32, at_once: usize, pace: &Pace, size: fn(u32) -> u64) -> Result<()> {
        let pool = pool();
        let next = AtomicU32::new(0);
        let work = || -> Result<()> {
            loop {
                let number = next.fetch_add(1, Relaxed);
                if number >= count {
                    return Ok(());
                }
                self.one_numbered(number, size(number), pace, &pool)?;
            }
        };
        self.namespace.run(|| {
            thread::scope(|scope| {
                // A thread of a scope begins where its maker is.
                let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
                workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
            })
        })
    }

    fn one_numbered(&self, number: u32, bytes: u64, pace: &Pace, pool: &[u8]) -> Result<()> {
        let mut stream = self.dial(NUMBERED)?;
        stream.write_all(&number.to_be_bytes())?;
        let mut at = number as usize * 7_919 % POOL_BYTES;
        let mut left = usize::try_from(bytes)?;
        while left > 0 {
            let now = left.min(CHUNK_BYTES);
            pace.wait(now);
            stream.write_all(&pool[at..at + now])?;
            at = (at + now) % POOL_BYTES;
            left -= now;
        }
        let read = finish(stream)?;
        ensure!(read == bytes, "the target read {read} of {bytes} bytes of connection {number}");
        Ok(())
    }

    /// Exchanges of a small message on one kept connection: the time of each.
    pub(super) fn exchanges(&self, count: usize, gap: Duration) -> Result<Vec<Duration>> {
        self.namespace.run(|| {
            let mut stream = self.dial(ECHO)?;
            let mut message = [7; MESSAGE_BYTES];
            let mut times = Vec::with_capacity(count);
            for _ in 0..count {
                let began = Instant::now();
                stream.write_all(&message)?;
                stream.read_exact(&mut message)?;
                times.push(began.elapsed());
                thread::sleep(gap);
            }
            Ok(times)
        })
    }

    /// Small messages without an answer; the server notes when each arrived.
    pub(super) fn timed(&self, count: usize, gap: Duration) -> Result<()> {
        self.namespace.run(|| {
            let mut stream = self.dial(TIMED)?;
            for _ in 0..count {
                stream.write_all(&[7; MESSAGE_BYTES])?;
                thread::sleep(gap);
            }
            Ok(())
        })
    }

    /// New connections, each with a request and its answer, at this many a second or as fast as it goes: the time of each.
    pub(super) fn connections(&self, per_second: Option<u32>, time: Duration) -> Result<Vec<Duration>> {
        let every = per_second.map(|all| f64::from(DIALERS) / f64::from(all));
        self.namespace.run(|| {
            thread::scope(|scope| {
                let dialer = |number| scope.spawn(move || self.dialer(every, number, time));
                let dialers: Vec<_> = (0..DIALERS).map(dialer).collect();
                let mut times = Vec::new();
                for dialer in dialers {
                    times.extend(dialer.join().expect("a dialer does not panic")?);
                }
                Ok(times)
            })
        })
    }

    fn dialer(&self, every: Option<f64>, number: u32, time: Duration) -> Result<Vec<Duration>> {
        let began = Instant::now();
        let mut times = Vec::new();
        while began.elapsed() < time {
            if let Some(every) = every {
                let due = (times.len() as f64 + f64::from(number) / f64::from(DIALERS)) * every;
                thread::sleep(Duration::from_secs_f64(due).saturating_sub(began.elapsed()));
            }
            let dialed = Instant::now();
            self.request()?;
            times.push(dialed.elapsed());
        }
        Ok(times)
    }

    fn request(&self) -> Result<()> {
        let mut stream = TcpStream::connect(self.target)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&[REQUEST; REQUEST_BYTES])?;
        stream.read_exact(&mut [0; ANSWER_BYTES])?;
        Ok(())
    }

    /// Connections that stay open until they are dropped, each after an exchange.
    pub(super) fn open(&self, count: usize) -> Result<Vec<TcpStream>> {
        let one = |_| {
            let mut stream = self.dial(ECHO)?;
            stream.write_all(&[7; MESSAGE_BYTES])?;
            stream.read_exact(&mut [0; MESSAGE_BYTES])?;
            Ok(stream)
        };
        self.namespace.run(|| (0..count).map(one).collect())
    }

    /// Datagrams of 200 bytes, so many a second: how many.
    pub(super) fn datagrams(&self, per_second: u32, time: Duration) -> Result<u64> {
        self.namespace.run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect(self.target)?;
            let began = Instant::now();
            let mut sent = 0;
            while began.elapsed() < time {
                let due = Duration::from_secs(sent) / per_second;
                thread::sleep(due.saturating_sub(began.elapsed()));
                socket.send(&[7; DATAGRAM_BYTES])?;
                sent += 1;
            }
            Ok(sent)
        })
    }
}

/// Says that nothing follows; how much the target read, its first bytes left out where it leaves them out.
fn finish(mut stream: TcpStream) -> Result<u64> {
    stream.shutdown(Shutdown::Write)?;
    let mut count = [0; 8];
    stream.read_exact(&mut count)?;
    Ok(u64::from_be_bytes(count))
}

/// Bytes that do not repeat, and a chunk's worth more from the beginning.
fn pool() -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut pool = Vec::with_capacity(POOL_BYTES + CHUNK_BYTES);
    while pool.len() < POOL_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        pool.extend_from_slice(&state.to_le_bytes());
    }
    pool.extend_from_within(..CHUNK_BYTES);
    pool
}
