//! Whatever a program asks and whatever a nameserver answers, the program gets one answer to its own question or none, and no cluster
//! name is asked of the ordinary nameserver.
//!
//! The input is the query's length (two bytes), the query, and what both nameservers answer to anything.

use std::{cell::RefCell, net::SocketAddr};

use tokio::runtime::{Builder, Runtime};
use tunnel::dns::{Arrived, AskError, ClusterUpstream, Names, NamesOptions, OrdinaryUpstream, Resolver, Transport};

/// The cluster's domain as DNS carries it, in lower case.
const DOMAIN: &[u8] = b"\x07cluster\x05local\x00";

thread_local! {
    static RUNTIME: RefCell<Runtime> =
        RefCell::new(Builder::new_current_thread().enable_time().build().expect("a runtime can be made"));
}

/// One input.
pub fn run(data: &[u8]) {
    let Some((len, rest)) = data.split_first_chunk() else { return };
    let (query, answer) = rest.split_at(usize::from(u16::from_be_bytes(*len)).min(rest.len()));
    for transport in [Transport::Udp, Transport::Tcp] {
        let arrived = Arrived { nameserver: SocketAddr::from(([192, 0, 2, 53], 53)), transport };
        let resolver = Resolver::new(names(), Nameserver(answer.to_vec()), Nameserver(answer.to_vec()));
        let answered = RUNTIME.with_borrow(|runtime| runtime.block_on(resolver.answer(query, arrived)));
        if let Some(answered) = answered {
            check(query, &answered, transport);
        }
    }
}

fn names() -> Names {
    let options = NamesOptions {
        domain: "cluster.local".to_owned(),
        namespaces: vec!["shop".to_owned()],
        default_namespace: Some("shop".to_owned()),
        routes: vec!["10.96.0.0/16".parse().expect("a prefix")],
        search: vec!["example.test".to_owned()],
    };
    Names::new(&options).expect("the names are those of any cluster")
}

fn check(query: &[u8], answer: &[u8], transport: Transport) {
    assert!(answer.len() >= 12, "an answer has a header");
    assert_eq!(answer[..2], query[..2], "an answer has the query's identifier");
    assert!(answer[2] & 0x80 != 0, "an answer says that it is one");
    if transport == Transport::Tcp {
        assert!(answer.len() <= usize::from(u16::MAX), "an answer fits its length");
    }
}

/// Answers anything with the same bytes, under the identifier of the query so that more of them are looked at.
#[derive(Debug)]
struct Nameserver(Vec<u8>);

impl Nameserver {
    fn answer(&self, query: &[u8]) -> Vec<u8> {
        let mut answer = self.0.clone();
        for (to, from) in answer.iter_mut().zip(query.iter().take(2)) {
            *to = *from;
        }
        answer
    }
}

impl ClusterUpstream for Nameserver {
    fn is_up(&self) -> bool {
        true
    }

    async fn ask(&self, query: Vec<u8>) -> Result<Vec<u8>, AskError> {
        Ok(self.answer(&query))
    }
}

impl OrdinaryUpstream for Nameserver {
    async fn ask(&self, query: Vec<u8>, _: Arrived) -> Result<Vec<u8>, AskError> {
        let question = query.get(12..).unwrap_or_default();
        let name = &question[..question.len().min(255)].to_ascii_lowercase();
        let plain = name.len() > DOMAIN.len()
            && name
                .first()
                .is_some_and(|len| name.get(usize::from(*len) + 1..).is_some_and(|rest| rest.starts_with(DOMAIN)));
        assert!(!plain, "a name of the cluster was asked of the ordinary nameserver");
        Ok(self.answer(&query))
    }
}
