//! [`MarkedSockets`]: asks a program's own nameserver, past the rules that captured the query.
//!
//! Before: `Resolver::answer`. The mark on the sockets is what the rules of `host_network` let through, so a forwarded query cannot come
//! back into the tunnel. Each query has a socket, so a port, and an identifier of its own.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use super::{
    query::{Header, Question},
    stream::{read_message, write_message},
    upstream::{Arrived, AskError, OrdinaryUpstream, Transport},
    wire::{MAX_MESSAGE_BYTES, Reader, flag},
};

/// The ordinary upstream over sockets with a mark; without one for tests and for machines where nothing is captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkedSockets {
    mark: Option<u32>,
}

impl MarkedSockets {
    /// Marks each socket with `mark`, which needs CAP_NET_ADMIN.
    pub const fn new(mark: Option<u32>) -> Self {
        Self { mark }
    }

    fn socket(self, nameserver: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(nameserver), kind.nonblocking(), Some(protocol))?;
        if let Some(mark) = self.mark {
            socket.set_mark(mark)?;
        }
        Ok(socket)
    }

    async fn ask_udp(self, query: &[u8], nameserver: SocketAddr) -> Result<Vec<u8>, AskError> {
        let socket = self.socket(nameserver, Type::DGRAM, Protocol::UDP)?;
        let any: IpAddr = match nameserver {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        socket.bind(&SocketAddr::new(any, 0).into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        // Connected: the kernel takes answers from the nameserver only, and an unreachable port is an error instead of silence.
        socket.connect(nameserver).await?;
        socket.send(query).await?;
        let mut buffer = vec![0; MAX_MESSAGE_BYTES];
        loop {
            let len = socket.recv(&mut buffer).await?;
            // Whatever else comes is a late or forged answer; the true one may still come.
            if answers(&buffer[..len], query) {
                buffer.truncate(len);
                return Ok(buffer);
            }
        }
    }

    async fn ask_tcp(self, query: &[u8], nameserver: SocketAddr) -> Result<Vec<u8>, AskError> {
        let socket = self.socket(nameserver, Type::STREAM, Protocol::TCP)?;
        let mut stream: TcpStream = TcpSocket::from_std_stream(socket.into()).connect(nameserver).await?;
        stream.set_nodelay(true)?;
        write_message(&mut stream, query).await?;
        let answer = read_message(&mut stream).await?.ok_or(AskError::Malformed)?;
        if answers(&answer, query) { Ok(answer) } else { Err(AskError::Malformed) }
    }
}

impl OrdinaryUpstream for MarkedSockets {
    async fn ask(&self, mut query: Vec<u8>, arrived: Arrived) -> Result<Vec<u8>, AskError> {
        let asked = swap_id(&mut query, rand::random()).ok_or(AskError::Malformed)?;
        let mut answer = match arrived.transport {
            Transport::Udp => self.ask_udp(&query, arrived.nameserver).await?,
            Transport::Tcp => self.ask_tcp(&query, arrived.nameserver).await?,
        };
        swap_id(&mut answer, asked).ok_or(AskError::Malformed)?;
        Ok(answer)
    }
}

/// Puts another identifier in and returns the one that was there.
fn swap_id(message: &mut [u8], id: u16) -> Option<u16> {
    let place: &mut [u8; 2] = message.first_chunk_mut()?;
    Some(u16::from_be_bytes(std::mem::replace(place, id.to_be_bytes())))
}

/// Whether `answer` has the query's identifier and, unless it has none at all, its question.
fn answers(answer: &[u8], query: &[u8]) -> bool {
    let read = |message| {
        let mut reader = Reader::at(message, 0);
        let header = Header::read(&mut reader).ok()?;
        let question = if header.questions == 0 { None } else { Some(Question::read(&mut reader).ok()?) };
        Some((header, question))
    };
    let (Some((answer, answered)), Some((query, asked))) = (read(answer), read(query)) else { return false };
    let same = match (answered, asked) {
        (Some(answered), Some(asked)) => answered.is(&asked),
        (None, _) => true,
        (Some(_), None) => false,
    };
    same && answer.id == query.id && answer.flags & flag::RESPONSE != 0
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::{
        super::{
            name::Name,
            query::cluster_query,
            wire::{CLASS_IN, kind},
        },
        *,
    };

    fn query() -> Vec<u8> {
        let name = Name::from_text("example.com").unwrap();
        cluster_query(0x1234, &Question { name, kind: kind::A, class: CLASS_IN }, false, false)
    }

    fn answer_to(query: &[u8]) -> Vec<u8> {
        let mut answer = query.to_vec();
        answer[2] |= 0x80;
        answer
    }

    #[tokio::test]
    async fn a_forged_answer_is_passed_over() {
        let nameserver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let arrived = Arrived { nameserver: nameserver.local_addr().unwrap(), transport: Transport::Udp };
        let serve = async {
            let mut buffer = [0; 512];
            let (len, from) = nameserver.recv_from(&mut buffer).await.unwrap();
            let asked = &buffer[..len];
            let mut wrong_id = answer_to(asked);
            wrong_id[1] ^= 1;
            let mut wrong_question = answer_to(asked);
            wrong_question[13] ^= 1;
            for bytes in [&wrong_id[..], &wrong_question, asked, &[], &answer_to(asked)] {
                nameserver.send_to(bytes, from).await.unwrap();
            }
        };
        let sockets = MarkedSockets::new(None);
        let (answer, ()) = tokio::join!(sockets.ask(query(), arrived), serve);
        assert_eq!(answer.unwrap(), answer_to(&query()));
    }

    #[tokio::test]
    async fn a_query_that_came_by_tcp_goes_by_tcp() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let arrived = Arrived { nameserver: listener.local_addr().unwrap(), transport: Transport::Tcp };
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let asked = read_message(&mut stream).await.unwrap().unwrap();
            write_message(&mut stream, &answer_to(&asked)).await.unwrap();
        };
        let sockets = MarkedSockets::new(None);
        let (answer, ()) = tokio::join!(sockets.ask(query(), arrived), serve);
        assert_eq!(answer.unwrap(), answer_to(&query()));
    }

    #[tokio::test]
    async fn a_closed_port_is_an_error_at_once() {
        let gone = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        for transport in [Transport::Udp, Transport::Tcp] {
            let asked = MarkedSockets::new(None).ask(query(), Arrived { nameserver: gone, transport }).await;
            assert!(matches!(asked, Err(AskError::Io(_))), "{asked:?}");
        }
    }
}
