//! Real nameservers on loopback, as many kinds of bad as there are.

use tokio::net::{TcpListener, UdpSocket};

use super::{
    message::tests::{answer, query},
    *,
};

async fn nameserver() -> (UdpSocket, TcpListener, Nameserver) {
    // The same port for both; another test may take the second, so try until both are free.
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = udp.local_addr().unwrap();
        if let Ok(tcp) = TcpListener::bind(address).await {
            return (udp, tcp, Nameserver { addresses: vec![address] });
        }
    }
}

async fn receive(udp: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 4096];
    let (len, from) = udp.recv_from(&mut buffer).await.unwrap();
    buffer.truncate(len);
    (buffer, from)
}

/// Answers one query as a nameserver does whose answer is too large for a datagram.
async fn serve_cut(udp: &UdpSocket) {
    let (received, from) = receive(udp).await;
    let mut cut = answer(&received);
    cut[2] |= 0x02;
    udp.send_to(&cut, from).await.unwrap();
}

async fn serve_tcp(tcp: &TcpListener, size: usize) {
    let (mut stream, _) = tcp.accept().await.unwrap();
    let len = stream.read_u16().await.unwrap();
    let mut asked = vec![0; usize::from(len)];
    stream.read_exact(&mut asked).await.unwrap();
    let mut whole = answer(&asked);
    whole.resize(size.max(whole.len()), 0);
    stream.write_u16(u16::try_from(whole.len()).unwrap()).await.unwrap();
    stream.write_all(&whole).await.unwrap();
}

#[tokio::test]
async fn an_answer_comes_back_as_it_is_and_forged_ones_are_passed_over() {
    let (udp, _tcp, nameserver) = nameserver().await;
    let asked = query(7, "web.shop.svc.cluster.local");
    let serving = async {
        let (received, from) = receive(&udp).await;
        assert_eq!(received, asked);
        udp.send_to(b"nonsense", from).await.unwrap();
        udp.send_to(&answer(&query(7, "other.name")), from).await.unwrap();
        udp.send_to(&answer(&received), from).await.unwrap();
    };
    let (answered, ()) = tokio::join!(nameserver.ask(&asked), serving);
    assert_eq!(answered.ok(), Some(answer(&asked)));
}

#[tokio::test]
async fn a_cut_answer_is_fetched_whole_by_tcp() {
    let (udp, tcp, nameserver) = nameserver().await;
    let asked = query(7, "large.shop");
    let serving = async {
        serve_cut(&udp).await;
        serve_tcp(&tcp, 6_000).await;
    };
    let (answered, ()) = tokio::join!(nameserver.ask(&asked), serving);
    assert_eq!(answered.unwrap().len(), 6_000);
}

#[tokio::test]
async fn a_cut_answer_is_given_as_it_is_when_tcp_is_closed() {
    let (udp, tcp, nameserver) = nameserver().await;
    drop(tcp);
    let asked = query(7, "large.shop");
    let (answered, ()) = tokio::join!(nameserver.ask(&asked), serve_cut(&udp));
    assert!(message::is_cut(&answered.unwrap()));
}

#[tokio::test]
async fn a_large_query_goes_by_tcp_at_once() {
    let (_udp, tcp, nameserver) = nameserver().await;
    let mut asked = query(7, "web.shop");
    asked.resize(4_000, 0);
    let (answered, ()) = tokio::join!(nameserver.ask(&asked), serve_tcp(&tcp, 0));
    assert_eq!(answered.ok(), Some(answer(&asked)));
}

#[tokio::test]
async fn a_lost_query_is_asked_again() {
    let (udp, _tcp, nameserver) = nameserver().await;
    let asked = query(7, "web.shop");
    let serving = async {
        receive(&udp).await;
        let (again, from) = receive(&udp).await;
        udp.send_to(&answer(&again), from).await.unwrap();
    };
    let (answered, ()) = tokio::join!(nameserver.ask(&asked), serving);
    assert!(answered.is_ok());
}

#[tokio::test]
async fn a_nameserver_that_is_not_there_fails_at_once() {
    let (udp, tcp, nameserver) = nameserver().await;
    drop((udp, tcp));
    let started = Instant::now();
    assert!(nameserver.ask(&query(7, "web.shop")).await.is_err());
    assert!(started.elapsed() < TRIES[0]);
}

#[tokio::test]
async fn a_name_is_resolved_and_one_without_an_address_is_named() {
    let localhost = config::Nameserver::Name { host: "localhost".to_owned(), port: 53 };
    let resolved = Nameserver::resolve(&localhost).await.unwrap();
    assert!(resolved.addresses.iter().all(|address| address.ip().is_loopback() && address.port() == 53));
    // Made by hand, for looking such a name up would leave this machine.
    let error = ResolveError { host: "nowhere.invalid".to_owned(), source: io::ErrorKind::NotFound.into() };
    assert!(error.to_string().starts_with("cannot resolve the nameserver nowhere.invalid: correct 'dns'"), "{error}");
}
