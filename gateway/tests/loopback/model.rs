//! Both halves of a link and a whole gateway over a network in memory, which loses, doubles and reorders by a seed, under a clock of its
//! own: what arrives is what was sent, whatever the network does, and what ends is noticed. Only the services are on loopback.

use std::{net::SocketAddr, time::Duration};

use gateway::{Gateway, Shutdown};
use link::{
    carrier::CarrierChoice,
    control::{ToSession, read_message},
    datagram::Datagram,
    dial::DialError,
    error_code::{CloseCode, FLOW_RESET},
    header::DialOutcome,
};
use quinn::{ConnectionError, ReadError, RecvStream, SendStream};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::task::TaskTracker;

use crate::{
    harness::{Home, Peer},
    network::{Conditions, Network, Random, driven},
};

/// Networks that each property is tried on.
const SEEDS: u64 = 12;
/// The most bytes of a flow, each way.
const FLOW_BYTES: u64 = 150_000;
/// A killed gateway's successor refuses the session's next packet, and that comes within a keep-alive; packets are lost.
const NOTICED: Duration = Duration::from_secs(8);

const SESSION: &str = "192.0.2.1:1";
const GATEWAY: &str = "192.0.2.2:7844";

struct World {
    home: Home,
    network: Network,
    tasks: TaskTracker,
}

impl World {
    fn new(seed: u64) -> Self {
        let network = Network::new(seed, Conditions::of_seed(seed));
        Self { home: Home::new(), network, tasks: TaskTracker::new() }
    }

    /// A gateway in place of the one before, which is cut off.
    async fn gateway(&self) -> (Shutdown, JoinHandle<()>) {
        let mut config = self.home.config();
        (config.metrics, config.audit) = (None, None);
        let gateway = Gateway::start_over(&config, self.network.bind(GATEWAY)).await.unwrap();
        let shutdown = Shutdown::default();
        (shutdown.clone(), self.tasks.spawn(gateway.run(shutdown)))
    }

    async fn dial(&self, from: &str) -> Result<link::dial::Link, DialError> {
        let identity = self.home.load("alice");
        let dialer = self.home.dialer(GATEWAY.parse().unwrap(), &identity, CarrierChoice::Udp, &self.tasks);
        dialer.dial_over(self.network.bind(from)).await
    }

    async fn session(&self) -> Peer {
        Peer::greet(self.dial(SESSION).await.unwrap()).await
    }
}

/// Runs `property` on each network, from the same beginning.
async fn on_every_network(property: impl AsyncFn(u64, &World)) {
    for seed in 0..SEEDS {
        let world = World::new(seed);
        driven(property(seed, &world)).await;
    }
}

/// A service that takes one connection, and the session's stream to it.
async fn flow(peer: &Peer) -> (SendStream, RecvStream, TcpStream) {
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (outcome, send, recv) = peer.dial(service.local_addr().unwrap()).await;
    assert_eq!(outcome, DialOutcome::Connected);
    (send, recv, service.accept().await.unwrap().0)
}

/// Carries bytes both ways, one direction finished before the other begins to end.
async fn carried_whole(peer: &Peer, seed: u64) {
    let mut random = Random(seed);
    let (up, down) = (random.bytes(FLOW_BYTES), random.bytes(FLOW_BYTES));
    let (mut send, mut recv, mut socket) = flow(peer).await;
    let session = async {
        send.write_all(&up).await.unwrap();
        send.finish().unwrap();
        recv.read_to_end(usize::MAX).await.unwrap()
    };
    let service = async {
        let mut received = Vec::new();
        socket.read_to_end(&mut received).await.unwrap();
        socket.write_all(&down).await.unwrap();
        socket.shutdown().await.unwrap();
        received
    };
    let (at_session, at_service) = tokio::join!(session, service);
    assert!(at_service == up && at_session == down, "seed {seed}");
}

async fn reset_by_the_service(peer: &Peer) {
    let (_send, mut recv, socket) = flow(peer).await;
    SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
    drop(socket);
    let read = recv.read(&mut [0; 1]).await;
    assert!(matches!(read, Err(ReadError::Reset(code)) if code == FLOW_RESET), "{read:?}");
}

async fn reset_by_the_session(peer: &Peer) {
    let (mut send, mut recv, mut socket) = flow(peer).await;
    send.reset(FLOW_RESET).unwrap();
    recv.stop(FLOW_RESET).unwrap();
    assert_eq!(socket.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn flows_are_carried_whole_and_resets_arrive() {
    on_every_network(async |seed, world| {
        let _gateway = world.gateway().await;
        let peer = world.session().await;
        tokio::join!(
            carried_whole(&peer, seed),
            carried_whole(&peer, !seed),
            reset_by_the_service(&peer),
            reset_by_the_session(&peer),
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn datagrams_arrive_unchanged_if_they_do() {
    on_every_network(async |seed, world| {
        let _gateway = world.gateway().await;
        let peer = world.session().await;
        let service = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = service.local_addr().unwrap();
        let echo = async {
            let mut buffer = vec![0; 65_536];
            loop {
                let (len, from) = service.recv_from(&mut buffer).await.unwrap();
                service.send_to(&buffer[..len], from).await.unwrap();
            }
        };
        let asked = async {
            // The large ones are streams of their own, and so never lost on the link.
            for (flow, most) in (0..).zip([0, 1, 1_000, 8_000, 60_000]) {
                let payload = Random(seed).bytes(most);
                assert_eq!(echoed(&peer, flow, to, &payload).await, payload, "seed {seed}");
            }
        };
        tokio::select! {
            () = asked => {}
            () = echo => {}
        }
    })
    .await;
}

/// Sends until it comes back.
async fn echoed(peer: &Peer, flow: u32, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    for _ in 0..100 {
        peer.send(Datagram::UdpOut { flow, to, payload }).await;
        let answered = timeout(Duration::from_secs(1), async {
            loop {
                let message = peer.receive().await;
                if let Ok(Datagram::UdpIn { flow: of, payload }) = Datagram::decode(&message)
                    && of == flow
                {
                    return payload.to_vec();
                }
            }
        });
        if let Ok(answer) = answered.await {
            return answer;
        }
    }
    panic!("none of a hundred datagrams came back");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_is_gone_is_noticed_and_the_next_one_serves() {
    on_every_network(async |seed, world| {
        let (_, first) = world.gateway().await;
        let peer = world.session().await;
        let (_send, mut recv, _socket) = flow(&peer).await;
        first.abort();
        let _second = world.gateway().await;
        let since = Instant::now();
        assert!(recv.read(&mut [0; 1]).await.is_err());
        let ended = peer.link.connection.closed().await;
        assert!(matches!(ended, ConnectionError::Reset), "seed {seed}: {ended}");
        assert!(since.elapsed() < NOTICED, "seed {seed}: {:?}", since.elapsed());
        let again = world.session().await;
        carried_whole(&again, seed).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_is_heard_and_refuses_newcomers_while_open_flows_end() {
    on_every_network(async |seed, world| {
        let (shutdown, running) = world.gateway().await;
        let mut peer = world.session().await;
        let (mut send, mut recv, mut socket) = flow(&peer).await;
        shutdown.drain.cancel();
        let told = read_message::<ToSession>(&mut peer.recv).await.unwrap();
        assert!(matches!(told, ToSession::Draining { .. }), "{told:?}");
        let late = world.dial("192.0.2.3:1").await;
        assert!(matches!(late, Err(DialError::Refused { .. })), "seed {seed}: {late:?}");
        send.write_all(b"still here").await.unwrap();
        send.finish().unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).await.unwrap();
        socket.write_all(text.as_bytes()).await.unwrap();
        drop(socket);
        assert_eq!(recv.read_to_end(64).await.unwrap(), b"still here");
        running.await.unwrap();
        // The close is one packet, which may be lost, and nobody is left to say it again.
        let ended = peer.link.connection.closed().await;
        let draining = CloseCode::Draining.wire();
        let is_told = matches!(&ended, ConnectionError::ApplicationClosed(close) if close.error_code == draining);
        assert!(is_told || matches!(ended, ConnectionError::TimedOut), "seed {seed}: {ended}");
    })
    .await;
}
