//! TCP and UDP echoes, a sink that says what it got, and ports that drop everything.
//!
//! Next in the flow: [`super::services`].

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};

use super::{pattern::Checker, services::Supervisor};

/// Bytes read at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// Asked of the kernel for the UDP echo, so that a burst is not lost while the one thread is elsewhere.
const UDP_RECEIVE_BYTES: usize = 4 * 1024 * 1024;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Sends back every byte, until the peer has finished; then finishes too.
pub fn tcp(supervisor: &Supervisor, address: SocketAddr) -> io::Result<()> {
    accept_each(supervisor, address, |stream| async move {
        let (mut reader, mut writer) = stream.into_split();
        // A reset by either end is the peer's affair.
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    })
}

/// Reads until the peer has finished, then answers one line: how many bytes came and whether they were the pattern.
pub fn sink(supervisor: &Supervisor, address: SocketAddr) -> io::Result<()> {
    accept_each(supervisor, address, |stream| async move {
        let _ = answer_with_report(stream).await;
    })
}

async fn answer_with_report(mut stream: TcpStream) -> io::Result<()> {
    let mut checker = Checker::default();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        checker.feed(&buffer[..read]);
    }
    stream.write_all(format!("{}\n", checker.report()).as_bytes()).await?;
    stream.shutdown().await
}

/// Sends back every datagram.
pub fn udp(supervisor: &Supervisor, address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    // Root may pass the machine's limit; an ordinary user gets the limit.
    socket.set_recv_buffer_size(UDP_RECEIVE_BYTES)?;
    socket.bind(&address.into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    supervisor.spawn(async move {
        let mut buffer = vec![0; BUFFER_BYTES];
        // Errors are ICMP's news about an earlier answer: nothing to do with the next datagram.
        loop {
            if let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let _ = socket.send_to(&buffer[..length], from).await;
            }
        }
    });
    Ok(())
}

/// Holds a TCP and a UDP port whose sockets drop every packet before it is looked at, as a packet filter would.
pub fn filtered(supervisor: &Supervisor, address: SocketAddr) -> io::Result<()> {
    // `ret #0`: keep no byte of any packet.
    let drop_all = [SockFilter::new(0x06, 0, 0, 0)];
    let udp = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    let tcp = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    for socket in [&udp, &tcp] {
        socket.attach_filter(&drop_all)?;
        socket.bind(&address.into())?;
    }
    tcp.listen(1)?;
    supervisor.spawn(async move {
        let _held = (udp, tcp);
        std::future::pending::<()>().await;
    });
    Ok(())
}

/// Listens on `address` and runs `serve` for each connection.
pub fn accept_each<F: Future<Output = ()> + Send + 'static>(
    supervisor: &Supervisor,
    address: SocketAddr,
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // So that the wildcards of both families may listen on one port.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from_std(socket.into())?;
    let connections = supervisor.clone();
    supervisor.spawn(async move {
        // An error here is a connection that was reset before it was accepted; only running out of files would repeat.
        while let Ok((stream, _)) = listener.accept().await {
            // Small answers must not wait for acknowledgements; it fails only on a dead connection.
            let _ = stream.set_nodelay(true);
            connections.spawn(serve(stream));
        }
    });
    Ok(())
}

/// The same server on several addresses.
pub fn on_each(
    addresses: impl IntoIterator<Item = IpAddr>,
    port: u16,
    mut start: impl FnMut(SocketAddr) -> io::Result<()>,
) -> io::Result<()> {
    addresses.into_iter().try_for_each(|address| start(SocketAddr::new(address, port)))
}
