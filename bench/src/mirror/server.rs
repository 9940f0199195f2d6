//! What stands at both ends of the mirror: the target's program, and the developer's listener, which gets the same bytes and so is the
//! same program. The first byte of a connection says what it is about; datagrams are counted.
//!
//! Before: [`super::client`]; after: whoever asks for [`Counts`].

use std::{
    cell::RefCell,
    io,
    net::{SocketAddr, UdpSocket},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use anyhow::{Context, Result};
use cli::demo::namespace::Namespace;
use nix::{
    sys::socket::{setsockopt, sockopt::RcvBufForce},
    time::{ClockId, clock_gettime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::LocalSet,
};

use super::counts::{Counts, Hash, Numbered};

/// Read to the end, then answer with how much it was: 8 bytes, big-endian.
pub(super) const SINK: u8 = b'S';
/// The same, behind a number of 4 bytes, big-endian, under which it is noted what was read.
pub(super) const NUMBERED: u8 = b'N';
/// Answer each message of [`MESSAGE_BYTES`] with itself.
pub(super) const ECHO: u8 = b'E';
/// Answer [`REQUEST_BYTES`] with [`ANSWER_BYTES`], and close.
pub(super) const REQUEST: u8 = b'R';
/// Note when each message of [`MESSAGE_BYTES`] arrived.
pub(super) const TIMED: u8 = b'T';
/// Answer with the counts, as JSON.
pub(super) const COUNTS: u8 = b'?';

pub(super) const MESSAGE_BYTES: usize = 64;
pub(super) const REQUEST_BYTES: usize = 200;
pub(super) const ANSWER_BYTES: usize = 100;
/// What one read takes.
const BUFFER_BYTES: usize = 256 << 10;
/// A second of 20,000 small datagrams, as the kernel counts their room.
const DATAGRAM_BUFFER_BYTES: usize = 16 << 20;

/// Serves in a thread of its own inside a namespace, until the process ends.
pub(super) fn start(namespace: &Namespace, address: SocketAddr) -> Result<()> {
    let inside = namespace.clone();
    let (ready, wait) = std::sync::mpsc::sync_channel(1);
    thread::Builder::new().name("target".to_owned()).spawn(move || {
        let entered = inside.enter();
        let said = ready.clone();
        let served = entered.and_then(|()| run(address, move || drop(said.send(Ok(())))));
        if let Err(error) = served {
            let _ = ready.send(Err(error));
        }
    })?;
    wait.recv().context("the server's thread ended")?.with_context(|| format!("cannot serve on {address}"))
}

/// Serves until the process ends.
pub(super) fn run(address: SocketAddr, ready: impl FnOnce()) -> io::Result<()> {
    let datagrams = count_datagrams(address)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let socket =
            if address.is_ipv4() { tokio::net::TcpSocket::new_v4()? } else { tokio::net::TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener: TcpListener = socket.listen(4_096)?;
        ready();
        let counts = Rc::new(RefCell::new(Counts::default()));
        loop {
            let (stream, _) = listener.accept().await?;
            let (counts, datagrams) = (Rc::clone(&counts), Arc::clone(&datagrams));
            tokio::task::spawn_local(async move {
                // A client that went away is its own concern: what counts is what arrived.
                let _ = serve(stream, &counts, &datagrams).await;
            });
        }
    })
}

/// Counts what comes in a thread of its own, so that nothing waits behind a connection.
fn count_datagrams(address: SocketAddr) -> io::Result<Arc<AtomicU64>> {
    let socket = UdpSocket::bind(address)?;
    setsockopt(&socket, RcvBufForce, &DATAGRAM_BUFFER_BYTES)?;
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    thread::Builder::new().name("datagrams".to_owned()).spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while socket.recv(&mut buffer).is_ok() {
            counted.fetch_add(1, Relaxed);
        }
    })?;
    Ok(count)
}

async fn serve(mut stream: TcpStream, counts: &Rc<RefCell<Counts>>, datagrams: &AtomicU64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let kind = stream.read_u8().await?;
    if kind == COUNTS {
        counts.borrow_mut().datagrams = datagrams.load(Relaxed);
        let text = serde_json::to_vec(&*counts.borrow())?;
        return stream.write_all(&text).await;
    }
    {
        let mut counts = counts.borrow_mut();
        counts.connections += 1;
        counts.open += 1;
        counts.bytes += 1;
    }
    let served = match kind {
        SINK => sink(&mut stream, counts).await,
        NUMBERED => numbered(&mut stream, counts).await,
        ECHO => messages(&mut stream, counts, true).await,
        TIMED => messages(&mut stream, counts, false).await,
        _ => request(&mut stream, counts).await,
    };
    counts.borrow_mut().open -= 1;
    served
}

async fn sink(stream: &mut TcpStream, counts: &RefCell<Counts>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut total = 1_u64;
    loop {
        let read = stream.read(&mut buffer).await? as u64;
        if read == 0 {
            return stream.write_u64(total).await;
        }
        total += read;
        counts.borrow_mut().bytes += read;
    }
}

async fn numbered(stream: &mut TcpStream, counts: &RefCell<Counts>) -> io::Result<()> {
    let number = stream.read_u32().await?;
    counts.borrow_mut().bytes += 4;
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut bytes, mut hash) = (0, Hash::default());
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            counts.borrow_mut().numbered.insert(number, Numbered { bytes, hash: hash.finish() });
            return stream.write_u64(bytes).await;
        }
        bytes += read as u64;
        hash.take(&buffer[..read]);
        counts.borrow_mut().bytes += read as u64;
    }
}

async fn messages(stream: &mut TcpStream, counts: &RefCell<Counts>, echo: bool) -> io::Result<()> {
    let mut message = [0; MESSAGE_BYTES];
    while stream.read_exact(&mut message).await.is_ok() {
        {
            let mut counts = counts.borrow_mut();
            counts.bytes += MESSAGE_BYTES as u64;
            if !echo {
                counts.times.push(now_nanos());
            }
        }
        if echo {
            stream.write_all(&message).await?;
        }
    }
    Ok(())
}

async fn request(stream: &mut TcpStream, counts: &RefCell<Counts>) -> io::Result<()> {
    let mut rest = [0; REQUEST_BYTES - 1];
    stream.read_exact(&mut rest).await?;
    {
        let mut counts = counts.borrow_mut();
        counts.bytes += rest.len() as u64;
        counts.requests += 1;
    }
    stream.write_all(&[0; ANSWER_BYTES]).await
}

/// The machine's monotonic clock, the same in every process.
fn now_nanos() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(std::time::Duration::from).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
