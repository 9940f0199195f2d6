//! DNS queries through a session's streams.

use gateway::config::Nameserver;
use link::{
    error_code::{DNS_FAILED, STREAM_MALFORMED},
    header::StreamHeader,
};
use quinn::{ReadToEndError, VarInt};
use tokio::net::UdpSocket;

use crate::harness::{Lab, Peer};

const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\0\0\0\0\0\0\x03web\x04shop\0\0\x01\0\x01";

async fn ask(peer: &Peer, query: &[u8]) -> Result<Vec<u8>, VarInt> {
    let (mut send, mut recv) = peer.open(StreamHeader::Dns).await;
    // Fails when the gateway has refused the query by then, which the answer says.
    let _ = send.write_all(query).await;
    let _ = send.finish();
    recv.read_to_end(65_535).await.map_err(|error| {
        let ReadToEndError::Read(quinn::ReadError::Reset(code)) = error else { panic!("{error}") };
        code
    })
}

#[tokio::test]
async fn a_query_is_answered_by_the_clusters_nameserver_as_it_is() {
    let nameserver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = nameserver.local_addr().unwrap();
    let lab = Lab::with(|config| config.cluster.nameserver = Nameserver::Address(address)).await;
    let peer = lab.connect("alice").await;
    let serving = async {
        let mut buffer = [0; 512];
        let (len, from) = nameserver.recv_from(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..len], QUERY);
        buffer[2] |= 0x80;
        nameserver.send_to(&buffer[..len], from).await.unwrap();
    };
    let (answer, ()) = tokio::join!(ask(&peer, QUERY), serving);
    let answer = answer.unwrap();
    assert_eq!((answer.len(), answer[2]), (QUERY.len(), 0x81));
    assert_eq!(lab.metric("dns_queries_total{outcome=\"answered\"}").await, 1);
}

#[tokio::test]
async fn a_query_without_an_answer_and_one_that_is_none_are_told_apart() {
    let lab = Lab::start().await;
    let peer = lab.connect("alice").await;
    assert_eq!(ask(&peer, QUERY).await, Err(DNS_FAILED));
    for junk in [&b""[..], b"short", &QUERY[..20], &[0xff; 300]] {
        assert_eq!(ask(&peer, junk).await, Err(STREAM_MALFORMED));
    }
    assert_eq!(ask(&peer, &vec![0; 70_000]).await, Err(STREAM_MALFORMED));
    assert_eq!(lab.metric("dns_queries_total{outcome=\"malformed\"}").await, 5);
}
