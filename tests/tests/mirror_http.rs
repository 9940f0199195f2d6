//! Joining in the middle: connections that were open before the rule, and listeners that are stopped and started under load.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use cli::demo::{http::RequestLog, load, plan};
use nix::sys::signal::Signal;
use tests::{
    lab::PATIENCE,
    mirror::{LISTENER, Rig, is_requested, until_requested},
    recorder::Recorder,
    sockets, wait,
};

/// A client's connection to `web-1` that stays open.
struct Kept {
    requests: TcpStream,
    answers: BufReader<TcpStream>,
}

impl Kept {
    fn open(rig: &Rig) -> Self {
        let requests = rig.dial_web();
        let answers = BufReader::new(requests.try_clone().expect("a descriptor"));
        Self { requests, answers }
    }

    fn get(&mut self, path: &str) {
        write!(self.requests, "GET {path} HTTP/1.1\r\nhost: web\r\n\r\n").expect("sent");
        load::answer(&mut self.answers).expect("answered");
    }

    /// A request with a body that the server can check.
    fn post(&mut self, bytes: u64, chunked: bool) {
        let framing = if chunked { "transfer-encoding: chunked".into() } else { format!("content-length: {bytes}") };
        write!(self.requests, "POST /upload HTTP/1.1\r\nhost: web\r\n{framing}\r\n\r\n").expect("sent");
        if chunked {
            let mut body = Vec::new();
            sockets::send_pattern(&mut body, bytes).expect("memory");
            for chunk in body.chunks(30_000) {
                write!(self.requests, "{:x}\r\n", chunk.len()).expect("sent");
                self.requests.write_all(chunk).expect("sent");
                self.requests.write_all(b"\r\n").expect("sent");
            }
            self.requests.write_all(b"0\r\n\r\n").expect("sent");
        } else {
            sockets::send_pattern(&mut self.requests, bytes).expect("sent");
        }
        load::answer(&mut self.answers).expect("answered");
    }
}

#[test]
fn the_next_request_of_an_open_connection_arrives_whole() {
    let rig = Rig::new();
    let log = RequestLog::default();
    let _listener = rig.serve_http(&log);
    let mut kept: Vec<Kept> = (0..8).map(|_| Kept::open(&rig)).collect();
    kept.iter_mut().for_each(|kept| kept.get("/before"));
    rig.mirror("deploy/web 8080:3000");
    for (number, kept) in kept.iter_mut().enumerate() {
        kept.get(&format!("/after/{number}"));
        until_requested(&log, &format!("/after/{number}"));
        kept.post(200_000, number % 2 == 0);
    }
    wait::until("the bodies arrive", PATIENCE, || log.total() == 16);
    assert!(!is_requested(&log, "/before"));
    assert_eq!(log.malformed(), 0);
    let intact = log.requests().iter().filter(|seen| seen.answer == "200 200000 intact").count();
    assert_eq!(intact, 8, "{:?}", log.requests());
    let rule = rig.until("all are counted, on both sides", |rule| {
        let middle: u64 = rule.replicas.iter().map(|replica| replica.connections.from_middle).sum();
        rule.delivery.requests.delivered == 16 && middle == 8
    });
    assert_eq!(rule.delivery.requests.missed, 0, "{rule:?}");
}

#[test]
fn a_client_that_leaves_with_its_answer_does_not_take_the_listeners_away() {
    const REQUESTS: u64 = 50;
    let rig = Rig::new();
    let log = RequestLog::default();
    let _listener = rig.serve_http(&log);
    rig.mirror("deploy/web 8080:3000");
    for number in 0..REQUESTS {
        // The FIN comes right behind the request, and the listener gives up what it is about when it sees one.
        rig.curl(&rig.lab.targets().client, "10.244.1.2", &format!("/{number}"));
    }
    let rule = rig.until("every request is settled", |rule| {
        rule.delivery.requests.delivered + rule.delivery.requests.missed == REQUESTS
    });
    assert_eq!((rule.delivery.requests.missed, log.total()), (0, REQUESTS), "{rule:?}");
}

#[test]
fn open_connections_can_be_left_out() {
    let rig = Rig::new();
    let log = RequestLog::default();
    let _listener = rig.serve_http(&log);
    let mut kept = Kept::open(&rig);
    kept.get("/before");
    rig.mirror("deploy/web 8080:3000 --existing skip");
    kept.get("/after");
    let mut new = Kept::open(&rig);
    new.get("/new");
    until_requested(&log, "/new");
    assert!(!is_requested(&log, "/after"));
    rig.until("the old one is counted", |rule| {
        let lost = rule.replicas.iter().flat_map(|replica| replica.lost.get(&link::rules::LossReason::Existing));
        lost.map(|loss| loss.flows).sum::<u64>() == 1
    });
}

#[test]
fn open_connections_can_be_copied_from_wherever_they_are() {
    let rig = Rig::new();
    let port = 9_000;
    let _target = Recorder::tcp(&rig.lab.targets().web_1, (plan::WEB_1.address.v4, port).into());
    let listener = Recorder::tcp(&rig.lab.host, LISTENER);
    let mut stream = rig.dial(plan::WEB_1.address.v4.into(), port);
    stream.write_all(b"before").expect("sent");
    rig.mirror(&format!("deploy/web {port}:3000 --existing raw"));
    stream.write_all(b"after").expect("sent");
    wait::until("the rest arrives", PATIENCE, || {
        listener.recordings().first().is_some_and(|recording| recording.head == b"after")
    });
}

#[test]
fn requests_without_a_listener_are_counted_and_the_next_ones_arrive() {
    let rig = Rig::new();
    let log = RequestLog::default();
    let told = rig.mirror("deploy/web 8080:3000");
    assert!(told.contains("nothing listens on 127.0.0.1:3000 yet"), "{told}");
    let mut kept = Kept::open(&rig);
    (0..5).for_each(|number| kept.get(&format!("/missed/{number}")));
    rig.until("the five are missed", |rule| rule.delivery.requests.missed == 5);
    let _listener = rig.serve_http(&log);
    kept.get("/seen");
    until_requested(&log, "/seen");
    let rule = rig.until("the sixth is delivered", |rule| rule.delivery.requests.delivered == 1);
    assert_eq!(rule.delivery.requests.missed, 5, "{rule:?}");
}

#[test]
fn a_listener_restarted_a_hundred_times_under_load_gets_whole_requests_and_the_rest_is_counted() {
    const CLIENTS: usize = 64;
    const RESTARTS: usize = 100;
    let rig = Rig::new();
    let log = RequestLog::default();
    rig.mirror("deploy/web 8080:3000");
    let (stop, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (mut kept, stop, served) = (Kept::open(&rig), Arc::clone(&stop), Arc::clone(&served));
            thread::spawn(move || {
                let sizes = [0, 200, 5_000, 40_000];
                for round in 0.. {
                    if stop.load(Relaxed) {
                        return;
                    }
                    kept.post(sizes[(client + round) % sizes.len()], round % 3 == 0);
                    served.fetch_add(1, Relaxed);
                    // As clients do: without a pause two cores have time for nothing else.
                    thread::sleep(Duration::from_millis(20));
                }
            })
        })
        .collect();
    for _ in 0..RESTARTS {
        let listener = rig.serve_http(&log);
        let before = log.total();
        wait::until("requests arrive", PATIENCE, || log.total() > before + 20);
        drop(listener);
    }
    stop.store(true, Relaxed);
    clients.into_iter().for_each(|client| client.join().expect("no panic"));
    let served = served.load(Relaxed);
    let rule = rig.until("every request is accounted for", |rule| {
        let requests = rule.delivery.requests;
        requests.in_flight == 0 && requests.delivered + requests.missed >= served
    });
    let lost = rule.replicas.iter().map(|replica| replica.lost.len()).sum::<usize>();
    assert_eq!(lost, 0, "nothing is lost on the way at this rate: {rule:?}");
    let requests = rule.delivery.requests;
    assert_eq!(requests.delivered + requests.missed, served, "{rule:?}");
    assert_eq!(log.malformed(), 0, "a request began in its middle");
    let wrong: Vec<_> = log
        .requests()
        .into_iter()
        .filter(|seen| seen.answer.starts_with("200") && !seen.answer.ends_with("intact"))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(requests.delivered > 2_000, "{rule:?}");
}

#[test]
fn what_comes_can_be_shown_without_a_listener() {
    let rig = Rig::new();
    let mut command = rig.mirror_command("deploy/web 8080 --print");
    let mut shown = rig.lab.spawn("print", &mut command);
    wait::until("the rule is on", PATIENCE, || shown.log().contains("on        shop/deploy/web 8080, shown"));
    let mut kept = Kept::open(&rig);
    kept.get("/shown");
    kept.post(5_000, false);
    wait::until("both are shown", PATIENCE, || {
        let log = shown.log();
        log.contains("GET /shown HTTP/1.1") && log.contains("host: web") && log.contains("POST /upload HTTP/1.1")
    });
    assert!(shown.log().contains("4.9 KiB") && shown.log().contains("web-1"), "{}", shown.log());
    shown.signal(Signal::SIGINT);
    assert_eq!(shown.wait(PATIENCE).code(), Some(0), "{}", shown.log());
    assert!(shown.log().contains("the rule is gone") && !shown.log().contains("taken away"), "{}", shown.log());
    assert!(rig.status().mirror.is_empty());
}

#[test]
fn a_shown_rule_that_is_taken_away_ends_its_command() {
    let rig = Rig::new();
    let mut shown = rig.lab.spawn("print", &mut rig.mirror_command("deploy/web 8080 --print"));
    wait::until("the rule is on", PATIENCE, || shown.log().contains("on        shop/deploy/web 8080, shown"));
    rig.mirror("rm 8080");
    assert_eq!(shown.wait(PATIENCE).code(), Some(0), "{}", shown.log());
    assert!(shown.log().contains("the rule was taken away"), "{}", shown.log());
}

#[test]
fn a_killed_reader_takes_its_rule_along() {
    let rig = Rig::new();
    let shown = rig.lab.spawn("print", &mut rig.mirror_command("deploy/web 8080 --print"));
    wait::until("the rule is there", PATIENCE, || rig.status().mirror.len() == 1);
    shown.kill();
    wait::until("the rule is gone", PATIENCE, || rig.status().mirror.is_empty());
}

#[test]
fn a_listener_can_be_told_the_real_client() {
    let rig = Rig::new();
    let listener = Recorder::tcp(&rig.lab.host, LISTENER);
    rig.mirror("deploy/web 8080:3000 --proxy-protocol");
    let mut stream = rig.dial_web();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").expect("sent");
    stream.read_exact(&mut [0; 12]).expect("answered");
    wait::until("the request arrives", PATIENCE, || {
        listener.recordings().first().is_some_and(|recording| recording.head.ends_with(b"\r\n\r\n"))
    });
    let head = listener.recordings().remove(0).head;
    // PROXY protocol, version 2: signature, version and command, family, length, addresses, ports, TLVs.
    assert_eq!(&head[..14], b"\r\n\r\n\0\r\nQUIT\n\x21\x11");
    let client: SocketAddr = stream.local_addr().expect("an address");
    let plan_client = plan::CLIENT.address.v4.octets();
    assert_eq!((&head[16..20], &head[20..24]), (&plan_client[..], &plan::WEB_1.address.v4.octets()[..]));
    assert_eq!(head[24..26], client.port().to_be_bytes());
    assert!(head.windows(5).any(|bytes| bytes == b"web-1"), "the replica is named");
}

#[test]
fn a_tls_connection_is_recognised_and_said() {
    let rig = Rig::new();
    let port = 9_443;
    let _target = Recorder::tcp(&rig.lab.targets().web_1, (plan::WEB_1.address.v4, port).into());
    let _listener = Recorder::tcp(&rig.lab.host, LISTENER);
    rig.mirror(&format!("deploy/web {port}:3000"));
    let script = format!("timeout 2 curl -sk https://{}:{port}/ || true", plan::WEB_1.address.v4);
    tests::process::run(rig.lab.targets().client.command("bash").args(["-c", &script]));
    let rule = rig.until("the notice is there", |rule| !rule.notices.is_empty());
    assert!(rule.notices[0].text.contains("TLS"), "{rule:?}");
    let text = tests::process::run(&mut rig.lab.adit(&["status"]));
    assert!(
        BufReader::new(text.as_bytes()).lines().any(|line| line.is_ok_and(|line| line.starts_with("notice"))),
        "{text}"
    );
}
