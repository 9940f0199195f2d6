//! Sockets in a namespace, and the pattern over them.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use cli::demo::{
    namespace::Namespace,
    pattern::{self, Checker},
    plan,
};
use socket2::SockRef;

/// How long a socket may do nothing before its test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A connection from `namespace`; gives up after [`PATIENCE`], at connecting and at every read and write.
pub fn dial(namespace: &Namespace, address: IpAddr, port: u16) -> io::Result<TcpStream> {
    dial_within(namespace, address, port, PATIENCE)
}

/// The same with a patience of its own for connecting.
pub fn dial_within(namespace: &Namespace, address: IpAddr, port: u16, patience: Duration) -> io::Result<TcpStream> {
    let stream = namespace.run(|| TcpStream::connect_timeout(&SocketAddr::new(address, port), patience))?;
    patient(&stream)?;
    Ok(stream)
}

/// A connection to the cluster's echo.
#[track_caller]
pub fn echo_stream(host: &Namespace) -> TcpStream {
    dial(host, plan::ECHO.v4.into(), plan::ECHO_PORT).expect("a connection")
}

/// Whether what is sent comes back.
pub fn echoes(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 5];
    stream.write_all(b"hello").is_ok() && stream.read_exact(&mut answer).is_ok() && answer == *b"hello"
}

/// Why a connection failed, and how soon.
#[track_caller]
pub fn dial_error(namespace: &Namespace, address: IpAddr, port: u16) -> (io::Error, Duration) {
    let began = Instant::now();
    match dial(namespace, address, port) {
        Ok(_) => panic!("{address}:{port} accepted a connection"),
        Err(error) => (error, began.elapsed()),
    }
}

/// A listener in `namespace`, on a port that is free when `port` is 0.
#[track_caller]
pub fn listen(namespace: &Namespace, address: IpAddr, port: u16) -> TcpListener {
    namespace.run(|| TcpListener::bind((address, port))).expect("the address is the namespace's own")
}

/// The next connection, with [`PATIENCE`].
#[track_caller]
pub fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().expect("a connection");
    patient(&stream).expect("set");
    stream
}

fn patient(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)
}

/// A UDP socket in `namespace` that is connected to `address`.
#[track_caller]
pub fn udp(namespace: &Namespace, address: IpAddr, port: u16) -> UdpSocket {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = namespace.run(|| UdpSocket::bind(any)).expect("a socket");
    socket.connect((address, port)).expect("a route");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    socket
}

/// Writes the first `bytes` of the pattern.
pub fn send_pattern(stream: &mut impl Write, bytes: u64) -> io::Result<()> {
    const CHUNK_BYTES: u64 = 256 * 1024;
    let mut sent = 0;
    while sent < bytes {
        let chunk = pattern::slice(sent, usize::try_from((bytes - sent).min(CHUNK_BYTES)).expect("a chunk is small"));
        stream.write_all(&chunk)?;
        sent += chunk.len() as u64;
    }
    Ok(())
}

/// Reads to the end and says whether it was the pattern.
pub fn receive_pattern(stream: &mut impl Read) -> io::Result<Checker> {
    let mut checker = Checker::default();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(checker),
            read => checker.feed(&buffer[..read]),
        }
    }
}

/// Ends a connection with a reset.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket lingers as it is told");
    drop(stream);
}
