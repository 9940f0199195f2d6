//! [`Recorder`]: a listener that keeps what comes on each connection and how it ended, or on a UDP socket each datagram.
//!
//! The same stands in for a target's program and for the host's, so that what they got can be compared. Before it: [`crate::mirror`].

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hasher},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cli::demo::{
    echo::accept_each,
    namespace::Namespace,
    services::{Services, Supervisor},
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

/// Bytes of each connection that are kept as they are; of the rest only the hash.
const HEAD_BYTES: usize = 4_096;
/// Read at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// So that a burst is not lost at the host's socket while its thread is elsewhere.
const UDP_RECEIVE_BYTES: usize = 16 << 20;

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// By a FIN.
    Finished,
    /// By a RST.
    Reset,
}

/// What came on one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// The first bytes.
    pub head: Vec<u8>,
    /// All of them.
    pub bytes: u64,
    /// Of all of them.
    pub hash: u64,
    /// `None` while it is open.
    pub end: Option<End>,
}

/// Listens in a namespace until it is dropped, which closes every connection.
#[derive(Debug)]
pub struct Recorder {
    recordings: Arc<Mutex<Vec<Recording>>>,
    datagrams: Arc<Mutex<Vec<Vec<u8>>>>,
    _services: Services,
}

impl Recorder {
    /// Takes TCP connections, and answers with nothing but its own FIN.
    #[track_caller]
    pub fn tcp(namespace: &Namespace, address: SocketAddr) -> Self {
        Self::start(namespace, move |supervisor, recordings, _| {
            accept_each(supervisor, address, move |stream| record(stream, Arc::clone(&recordings)))
        })
    }

    /// Takes UDP datagrams.
    #[track_caller]
    pub fn udp(namespace: &Namespace, address: SocketAddr) -> Self {
        Self::start(namespace, move |supervisor, _, datagrams| receive(supervisor, address, datagrams))
    }

    #[track_caller]
    fn start(
        namespace: &Namespace,
        start: impl FnOnce(&Supervisor, Arc<Mutex<Vec<Recording>>>, Arc<Mutex<Vec<Vec<u8>>>>) -> io::Result<()>
        + Send
        + 'static,
    ) -> Self {
        let (recordings, datagrams) = (Arc::<Mutex<_>>::default(), Arc::<Mutex<_>>::default());
        let (for_tcp, for_udp) = (Arc::clone(&recordings), Arc::clone(&datagrams));
        let services = Services::start(namespace, move |supervisor| start(supervisor, for_tcp, for_udp));
        Self { recordings, datagrams, _services: services.expect("the address is free") }
    }

    /// What came on each connection so far, in the order of their acceptance.
    pub fn recordings(&self) -> Vec<Recording> {
        lock(&self.recordings).clone()
    }

    /// How many connections have ended.
    pub fn ended(&self) -> usize {
        lock(&self.recordings).iter().filter(|recording| recording.end.is_some()).count()
    }

    /// How often each content came, by length and hash: to compare two recorders whatever the order.
    pub fn contents(&self) -> HashMap<(u64, u64), usize> {
        let mut contents = HashMap::new();
        for recording in lock(&self.recordings).iter() {
            *contents.entry((recording.bytes, recording.hash)).or_default() += 1;
        }
        contents
    }

    /// The datagrams so far, in their order.
    pub fn datagrams(&self) -> Vec<Vec<u8>> {
        lock(&self.datagrams).clone()
    }

    /// How many datagrams there are.
    pub fn datagram_count(&self) -> usize {
        lock(&self.datagrams).len()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn record(mut stream: TcpStream, recordings: Arc<Mutex<Vec<Recording>>>) {
    let (mut hasher, mut buffer) = (DefaultHasher::new(), vec![0; BUFFER_BYTES]);
    let index = {
        let mut recordings = lock(&recordings);
        recordings.push(Recording { head: Vec::new(), bytes: 0, hash: hasher.finish(), end: None });
        recordings.len() - 1
    };
    let end = loop {
        match stream.read(&mut buffer).await {
            Ok(0) => break End::Finished,
            Err(_) => break End::Reset,
            Ok(read) => {
                hasher.write(&buffer[..read]);
                let recording = &mut lock(&recordings)[index];
                let kept = read.min(HEAD_BYTES - recording.head.len());
                recording.head.extend_from_slice(&buffer[..kept]);
                recording.bytes += read as u64;
                recording.hash = hasher.finish();
            }
        }
    };
    // Before the peer learns of it, so that whoever waits for its own end finds it here.
    lock(&recordings)[index].end = Some(end);
    let _ = stream.shutdown().await;
}

fn receive(supervisor: &Supervisor, address: SocketAddr, datagrams: Arc<Mutex<Vec<Vec<u8>>>>) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    // The machine's limit holds for the size that is asked for politely.
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &UDP_RECEIVE_BYTES)
        .or_else(|_| socket.set_recv_buffer_size(UDP_RECEIVE_BYTES))?;
    socket.bind(&address.into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    supervisor.spawn(async move {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            if let Ok(read) = socket.recv(&mut buffer).await {
                lock(&datagrams).push(buffer[..read].to_vec());
            }
        }
    });
    Ok(())
}
