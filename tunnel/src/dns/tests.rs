//! The resolver between two nameservers that are made of another DNS library.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query as Asked, ResponseCode},
    rr::{Name as OtherName, RData, Record, RecordType, rdata},
};
use proptest::prelude::*;
use tokio::sync::Notify;

use super::*;

const NAMESERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53)), 53);
const UDP: Arrived = Arrived { nameserver: NAMESERVER, transport: Transport::Udp };
const TCP: Arrived = Arrived { nameserver: NAMESERVER, transport: Transport::Tcp };

/// A zone of records by name in small letters, a switch, and what it was asked.
#[derive(Default)]
struct Nameserver {
    records: HashMap<String, Vec<RData>>,
    down: AtomicBool,
    /// Answers wait for it, when set.
    held: Option<Notify>,
    /// Says "no such name" of AAAA when there is no such record.
    wrong_about_aaaa: bool,
    ttl: u32,
    asked: Mutex<Vec<String>>,
    asked_count: AtomicUsize,
}

impl Nameserver {
    fn with(records: impl IntoIterator<Item = (&'static str, RData)>) -> Self {
        let mut nameserver = Self { ttl: 30, ..Self::default() };
        for (name, data) in records {
            nameserver.records.entry(name.into()).or_default().push(data);
        }
        nameserver
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    async fn reply(&self, query: &[u8]) -> Vec<u8> {
        let query = Message::from_vec(query).unwrap();
        let asked = query.queries[0].clone();
        self.asked.lock().unwrap().push(format!("{} {}", asked.name(), asked.query_type()));
        self.asked_count.fetch_add(1, Ordering::SeqCst);
        if let Some(held) = &self.held {
            held.notified().await;
        }
        let mut answer = Message::response(query.metadata.id, OpCode::Query);
        answer.add_query(asked.clone());
        answer.edns = query.edns.is_some().then(Edns::new);
        let soa = rdata::SOA::new(name("ns.cluster.local"), name("x.cluster.local"), 1, 2, 3, 4, 5);
        let soa = Record::from_rdata(name("cluster.local"), 30, RData::SOA(soa));
        match self.records.get(&asked.name().to_lowercase().to_string()) {
            None => {
                answer.metadata.response_code = ResponseCode::NXDomain;
                answer.add_authority(soa);
            }
            Some(records) => {
                let fitting = records.iter().filter(|data| data.record_type() == asked.query_type());
                answer
                    .add_answers(fitting.map(|data| Record::from_rdata(asked.name().clone(), self.ttl, data.clone())));
                if answer.answers.is_empty() {
                    answer.add_authority(soa);
                    if self.wrong_about_aaaa && asked.query_type() == RecordType::AAAA {
                        answer.metadata.response_code = ResponseCode::NXDomain;
                    }
                }
            }
        }
        answer.to_vec().unwrap()
    }
}

impl ClusterUpstream for Arc<Nameserver> {
    fn is_up(&self) -> bool {
        !self.down.load(Ordering::SeqCst)
    }

    async fn ask(&self, query: Vec<u8>) -> Result<Vec<u8>, AskError> {
        Ok(self.reply(&query).await)
    }
}

impl OrdinaryUpstream for Arc<Nameserver> {
    async fn ask(&self, query: Vec<u8>, _arrived: Arrived) -> Result<Vec<u8>, AskError> {
        Ok(self.reply(&query).await)
    }
}

struct Bed {
    resolver: Arc<Resolver<Arc<Nameserver>, Arc<Nameserver>>>,
    cluster: Arc<Nameserver>,
    ordinary: Arc<Nameserver>,
}

fn bed(cluster: Nameserver) -> Bed {
    let names = Names::new(&NamesOptions {
        domain: "cluster.local".into(),
        namespaces: vec!["shop".into()],
        default_namespace: Some("default".into()),
        routes: vec!["10.96.0.0/16".parse().unwrap()],
        search: vec!["corp.example".into()],
    });
    let cluster = Arc::new(cluster);
    let ordinary = Arc::new(Nameserver::with([("example.com.", v4(192, 0, 2, 1))]));
    let resolver = Resolver::new(names.unwrap(), Arc::clone(&cluster), Arc::clone(&ordinary));
    Bed { resolver: Arc::new(resolver), cluster, ordinary }
}

fn shop() -> Nameserver {
    Nameserver::with([
        ("web.shop.svc.cluster.local.", v4(10, 96, 0, 1)),
        ("web.default.svc.cluster.local.", v4(10, 96, 0, 2)),
        ("alias.shop.svc.cluster.local.", alias("web.shop.svc.cluster.local")),
        (
            "_http._tcp.web.shop.svc.cluster.local.",
            RData::SRV(rdata::SRV::new(1, 2, 80, name("web.shop.svc.cluster.local"))),
        ),
        ("1.0.96.10.in-addr.arpa.", RData::PTR(rdata::PTR(name("web.shop.svc.cluster.local")))),
        (
            "odd.shop.svc.cluster.local.",
            RData::Unknown { code: 65_280.into(), rdata: rdata::NULL::with(vec![1, 2, 3]) },
        ),
    ])
}

fn v4(a: u8, b: u8, c: u8, d: u8) -> RData {
    RData::A(rdata::A::new(a, b, c, d))
}

fn name(text: &str) -> OtherName {
    OtherName::from_ascii(format!("{text}.")).unwrap()
}

fn query(text: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Asked::query(name(text), kind));
    message
}

impl Bed {
    async fn ask(&self, query: &Message, arrived: Arrived) -> Message {
        let answer = self.resolver.answer(&query.to_vec().unwrap(), arrived).await.unwrap();
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!(answer.metadata.id, query.metadata.id);
        assert_eq!(answer.queries, query.queries);
        assert_eq!(answer.edns.is_some(), query.edns.is_some());
        if let Some(first) = answer.answers.first() {
            assert_eq!(first.name, *query.queries[0].name(), "the owner is the name that was asked");
        }
        answer
    }

    async fn look_up(&self, text: &str, kind: RecordType) -> (ResponseCode, Vec<RData>) {
        let answer = self.ask(&query(text, kind), UDP).await;
        (answer.metadata.response_code, answer.answers.into_iter().map(|record| record.data).collect())
    }
}

fn alias(text: &str) -> RData {
    RData::CNAME(rdata::CNAME(name(text)))
}

#[tokio::test]
async fn full_and_short_names_are_found() {
    let bed = bed(shop());
    for asked in ["web.shop.svc.cluster.local", "Web.Shop", "web.shop.svc"] {
        let found = (ResponseCode::NoError, vec![v4(10, 96, 0, 1)]);
        assert_eq!(bed.look_up(asked, RecordType::A).await, found, "{asked}");
    }
    assert_eq!(bed.look_up("web", RecordType::A).await, (ResponseCode::NoError, vec![v4(10, 96, 0, 2)]));
    let (code, found) = bed.look_up("alias.shop", RecordType::CNAME).await;
    assert_eq!((code, found), (ResponseCode::NoError, vec![alias("web.shop.svc.cluster.local")]));
    let (_, found) = bed.look_up("_http._tcp.web.shop", RecordType::SRV).await;
    assert!(matches!(&found[0], RData::SRV(srv) if srv.target == name("web.shop.svc.cluster.local")));
    let (_, found) = bed.look_up("1.0.96.10.in-addr.arpa", RecordType::PTR).await;
    assert_eq!(found, [RData::PTR(rdata::PTR(name("web.shop.svc.cluster.local")))]);
    let (_, found) = bed.look_up("odd.shop.svc.cluster.local", RecordType::from(65_280)).await;
    assert!(matches!(&found[0], RData::Unknown { rdata, .. } if rdata.anything == [1, 2, 3]), "an unknown type passes");
    assert!(bed.ordinary.asked().is_empty());
}

#[tokio::test]
async fn each_name_is_asked_on_its_own_side() {
    let bed = bed(shop());
    for asked in ["nosuch", "nosuch.shop", "nosuch.svc", "x.cluster.local", "web.shop.svc.cluster.local.corp.example"] {
        assert_eq!(bed.look_up(asked, RecordType::A).await.0, ResponseCode::NXDomain, "{asked}");
    }
    assert!(bed.ordinary.asked().is_empty());
    let asked_cluster = bed.cluster.asked();
    let (code, found) = bed.look_up("example.com", RecordType::A).await;
    assert_eq!((code, found), (ResponseCode::NoError, vec![v4(192, 0, 2, 1)]));
    assert_eq!(bed.look_up("printer.corp.example", RecordType::A).await.0, ResponseCode::NXDomain);
    assert_eq!(bed.cluster.asked(), asked_cluster);
    assert_eq!(bed.ordinary.asked(), ["example.com. A", "printer.corp.example. A"]);
    assert_eq!(bed.resolver.counters().strays, 1);
}

#[tokio::test]
async fn a_name_without_the_type_exists_all_the_same() {
    for wrong_about_aaaa in [false, true] {
        let bed = bed(Nameserver { wrong_about_aaaa, ..shop() });
        let answer = bed.ask(&query("web.shop", RecordType::AAAA), UDP).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
        assert_eq!(answer.answers, []);
        assert_eq!(answer.authorities[0].record_type(), RecordType::SOA);
        assert_eq!(bed.look_up("web.shop.svc.cluster.local", RecordType::AAAA).await, (ResponseCode::NoError, vec![]));
        assert_eq!(bed.look_up("nosuch.shop", RecordType::AAAA).await.0, ResponseCode::NXDomain);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_are_kept_for_their_ttl_and_told_for_less() {
    let bed = bed(shop());
    let asked = query("web.shop", RecordType::A);
    let told = bed.ask(&asked, UDP).await.answers.iter().map(|record| record.ttl).collect::<Vec<_>>();
    assert_eq!(told, [10]);
    tokio::time::advance(Duration::from_secs(25)).await;
    let told = bed.ask(&asked, UDP).await.answers.iter().map(|record| record.ttl).collect::<Vec<_>>();
    assert_eq!(told, [5]);
    assert_eq!(bed.cluster.asked().len(), 1);
    tokio::time::advance(Duration::from_secs(6)).await;
    bed.ask(&asked, UDP).await;
    assert_eq!(bed.cluster.asked().len(), 2);
    // Another gateway, another cluster: nothing is kept.
    bed.resolver
        .replace_names(Names::new(&NamesOptions { domain: "cluster.local".into(), ..Default::default() }).unwrap());
    bed.look_up("web.shop.svc.cluster.local", RecordType::A).await;
    assert_eq!(bed.cluster.asked().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn equal_queries_are_asked_once_even_if_the_first_gives_up() {
    let bed = bed(Nameserver { held: Some(Notify::new()), ..shop() });
    let asked = query("web.shop", RecordType::A).to_vec().unwrap();
    let until_asked = |count| {
        let cluster = Arc::clone(&bed.cluster);
        async move {
            while cluster.asked_count.load(Ordering::SeqCst) < count {
                tokio::task::yield_now().await;
            }
        }
    };
    let mut first = Box::pin(bed.resolver.answer(&asked, UDP));
    tokio::select! {
        _ = &mut first => panic!("it is held"),
        () = until_asked(1) => {}
    }
    let others = async { tokio::join!(bed.resolver.answer(&asked, UDP), bed.resolver.answer(&asked, TCP)) };
    let drive = async {
        tokio::task::yield_now().await;
        assert_eq!(bed.cluster.asked().len(), 1);
        drop(first);
        until_asked(2).await;
        bed.cluster.held.as_ref().unwrap().notify_one();
    };
    let ((one, two), ()) = tokio::join!(others, drive);
    assert!(one.is_some() && one == two);
    assert_eq!(bed.cluster.asked().len(), 2);
    assert_eq!(bed.resolver.counters().merged, 1);
}

#[tokio::test(start_paused = true)]
async fn a_dead_link_fails_its_own_names_at_once_and_no_others() {
    let bed = bed(shop());
    bed.look_up("web.shop", RecordType::A).await;
    bed.cluster.down.store(true, Ordering::SeqCst);
    let start = Instant::now();
    assert_eq!(bed.look_up("web.shop", RecordType::A).await.0, ResponseCode::ServFail);
    assert_eq!(bed.look_up("example.com", RecordType::A).await.0, ResponseCode::NoError);
    assert_eq!(Instant::now(), start);
    assert_eq!(bed.resolver.counters().link_down, 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_link_ends_in_time_and_leaves_room_for_ordinary_names() {
    let bed = bed(Nameserver { held: Some(Notify::new()), ..shop() });
    let start = Instant::now();
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..MAX_UNDER_WAY {
        let (resolver, asked) = (Arc::clone(&bed.resolver), query(&format!("n{number}.shop"), RecordType::A));
        waiting.spawn(async move { resolver.answer(&asked.to_vec().unwrap(), UDP).await });
    }
    while bed.cluster.asked_count.load(Ordering::SeqCst) < MAX_UNDER_WAY {
        tokio::task::yield_now().await;
    }
    assert_eq!(bed.look_up("web.shop", RecordType::A).await.0, ResponseCode::ServFail, "no room");
    assert_eq!(bed.look_up("example.com", RecordType::A).await.0, ResponseCode::NoError);
    assert_eq!(Instant::now(), start);
    while let Some(answer) = waiting.join_next().await {
        let answer = Message::from_vec(&answer.unwrap().unwrap()).unwrap();
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    }
    assert_eq!(Instant::now() - start, ANSWER_TIME);
    let counters = bed.resolver.counters();
    assert_eq!((counters.over_limit, counters.timed_out), (1, MAX_UNDER_WAY as u64));
}

#[tokio::test]
async fn a_large_answer_is_cut_for_udp_and_whole_over_tcp() {
    let texts = (0..24).map(|number| {
        let text = format!("{number:03}").repeat(84);
        ("big.shop.svc.cluster.local.", RData::TXT(rdata::TXT::new(vec![text])))
    });
    let bed = bed(Nameserver::with(texts));
    let mut asked = query("big.shop", RecordType::TXT);
    let plain = bed.ask(&asked, UDP).await;
    assert!(plain.metadata.truncation && plain.to_vec().unwrap().len() <= 512);
    asked.set_edns(Edns::new());
    asked.edns.as_mut().unwrap().set_max_payload(1232);
    let cut = bed.ask(&asked, UDP).await;
    assert!(cut.metadata.truncation && cut.answers.len() == 4, "{}", cut.answers.len());
    let whole = bed.ask(&asked, TCP).await;
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.answers.len(), 24);
    assert!(whole.to_vec().unwrap().len() > 6000);
    assert_eq!((bed.cluster.asked().len(), bed.resolver.counters().truncated), (1, 2));
}

#[tokio::test]
async fn what_cannot_be_served_is_said() {
    let bed = bed(shop());
    assert_eq!(bed.look_up("web.shop", RecordType::AXFR).await.0, ResponseCode::Refused);
    let mut update = query("web.shop", RecordType::SOA);
    update.metadata.op_code = OpCode::Notify;
    assert_eq!(bed.ask(&update, UDP).await.metadata.response_code, ResponseCode::NotImp);
    assert_eq!(bed.resolver.answer(&[0; 11], UDP).await, None);
    assert_eq!(bed.cluster.asked().len() + bed.ordinary.asked().len(), 0);
}

/// Answers with whatever bytes it was given.
struct Babble(Vec<u8>);

impl ClusterUpstream for Babble {
    fn is_up(&self) -> bool {
        true
    }

    async fn ask(&self, query: Vec<u8>) -> Result<Vec<u8>, AskError> {
        Ok([&query[..2], &self.0].concat())
    }
}

impl OrdinaryUpstream for Babble {
    async fn ask(&self, query: Vec<u8>, _arrived: Arrived) -> Result<Vec<u8>, AskError> {
        Ok([&query[..2], &self.0].concat())
    }
}

fn check_answer(query: &[u8], answer: &[u8]) {
    assert_eq!(answer[..2], query[..2], "identifier");
    assert!(answer[2] & 0x80 != 0 && answer.len() >= 12);
    if let Ok(asked) = Query::read(query) {
        let answered = Question::read(&mut Reader::at(answer, 12)).unwrap();
        assert!(answered.is(&asked.question));
    }
}

proptest! {
    #[test]
    fn any_query_and_any_upstream_give_an_answer_to_the_query(
        start in prop_oneof![Just("web.shop"), Just("web"), Just("example.com"), Just("a.cluster.local")],
        cut in 0usize..60,
        noise: Vec<u8>,
        babble: Vec<u8>,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let names = NamesOptions {
            domain: "cluster.local".into(),
            namespaces: vec!["shop".into()],
            default_namespace: Some("default".into()),
            ..NamesOptions::default()
        };
        let resolver = Resolver::new(Names::new(&names).unwrap(), Babble(babble.clone()), Babble(babble));
        let whole = query(start, RecordType::A).to_vec().unwrap();
        let mut half = whole[..cut.min(whole.len())].to_vec();
        half.extend_from_slice(&noise);
        for query in [whole, half, noise] {
            if let Some(answer) = runtime.block_on(resolver.answer(&query, UDP)) {
                check_answer(&query, &answer);
            }
        }
    }
}
