//! What a target receives arrives at a program on the host: whole, with its end, over both families and the loopback, and only what the
//! rules name. UDP, HTTP joining, faults, refusals and bulk are in the other `mirror_*.rs`.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr},
    time::{Duration, Instant},
};

use cli::demo::{http::RequestLog, pattern, plan};
use link::rules::ReplicaState;
use tests::{
    lab::PATIENCE,
    mirror::{LISTENER, Rig, SILENT_AFTER, is_requested, until_requested},
    recorder::{End, Recorder},
    sockets::{reset, send_pattern},
    wait,
};
use tunnel::control::mirror_message::Standing;

/// A port of the pods on which a suite listens itself.
const PORT: u16 = 9_000;
const EVERYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT);
const EVERYWHERE_V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), PORT);

/// Descriptors or threads that are no leak of 450 toggles.
const FEW: usize = 4;

/// A rig whose rule leads from a recorder in `web-1` to one on the host.
fn recorded() -> (Rig, Recorder, Recorder) {
    let rig = Rig::new();
    let target = Recorder::tcp(&rig.lab.targets().web_1, EVERYWHERE);
    let listener = Recorder::tcp(&rig.lab.host, LISTENER);
    rig.mirror(&format!("shop/deploy/web {PORT}:3000 --existing raw"));
    (rig, target, listener)
}

#[test]
fn a_request_arrives_byte_for_byte_while_the_pod_answers_it() {
    let rig = Rig::new();
    let listener = Recorder::tcp(&rig.lab.host, LISTENER);
    let told = rig.mirror("shop/deploy/web 8080:3000");
    assert!(told.contains("on        shop/deploy/web 8080 -> 127.0.0.1:3000"), "{told}");
    assert!(told.contains("web-1, web-2") && told.contains("listening on 127.0.0.1:3000"), "{told}");

    let request = b"GET /hello?a=b HTTP/1.1\r\nhost: web\r\nx-any: thing\r\n\r\n";
    let mut stream = rig.dial_web();
    stream.write_all(request).expect("sent");
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).expect("the pod answers");
    assert_eq!(&answer, b"HTTP/1.1 404 No");
    wait::until("the request arrives", PATIENCE, || {
        listener.recordings().first().is_some_and(|recording| recording.head == request)
    });
    let rule = rig.until("the copy is counted", |rule| {
        rule.replicas.iter().map(|replica| replica.bytes).sum::<u64>() == request.len() as u64
    });
    let replica = rule.replicas.iter().find(|replica| replica.connections.all == 1).expect("one replica got it");
    assert_eq!((replica.name.as_str(), replica.connections.open), ("web-1", 1), "{rule:?}");
    assert!(replica.lost.is_empty() && rule.holes.is_empty(), "{rule:?}");
}

#[test]
fn the_clients_fin_and_its_reset_arrive() {
    let (rig, target, listener) = recorded();
    let mut finished = rig.dial(plan::WEB_1.address.v4.into(), PORT);
    send_pattern(&mut finished, 100_000).expect("sent");
    finished.shutdown(Shutdown::Write).expect("half-closed");
    assert_eq!(finished.read(&mut [0]).expect("the pod's own end"), 0);
    wait::until("the FIN arrives", PATIENCE, || listener.ended() == 1);

    let mut broken = rig.dial(plan::WEB_1.address.v4.into(), PORT);
    broken.write_all(b"half a").expect("sent");
    wait::until("the pod has it", PATIENCE, || {
        target.recordings().last().is_some_and(|recording| recording.bytes == 6)
    });
    wait::until("so has the host", PATIENCE, || listener.recordings().last().is_some_and(|last| last.bytes == 6));
    reset(broken);
    wait::until("the reset arrives", PATIENCE, || listener.ended() == 2);
    assert_eq!(listener.recordings(), target.recordings());
    let ends: Vec<_> = listener.recordings().iter().map(|recording| recording.end).collect();
    assert_eq!(ends, [Some(End::Finished), Some(End::Reset)]);
}

#[test]
fn ipv6_and_the_loopback_are_copied_once() {
    let rig = Rig::new();
    let pods = rig.lab.targets();
    let _targets = [Recorder::tcp(&pods.web_1, EVERYWHERE), Recorder::tcp(&pods.web_1, EVERYWHERE_V6)];
    let listener = Recorder::tcp(&rig.lab.host, "[::1]:3000".parse().expect("an address"));
    rig.mirror(&format!("deploy/web {PORT}:[::1]:3000"));
    let addresses = [IpAddr::V6(plan::WEB_1.address.v6), Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    for (number, address) in addresses.into_iter().enumerate() {
        let from = if address.is_loopback() { &pods.web_1 } else { &pods.client };
        let mut stream = tests::sockets::dial(from, address, PORT).expect("the pod listens");
        write!(stream, "over {address}").expect("sent");
        stream.shutdown(Shutdown::Write).expect("half-closed");
        assert_eq!(stream.read(&mut [0]).expect("the pod's own end"), 0);
        wait::until(format!("it arrives over {address}"), PATIENCE, || listener.ended() == number + 1);
        let recordings = listener.recordings();
        assert_eq!(String::from_utf8_lossy(&recordings[number].head), format!("over {address}"));
    }
}

#[test]
fn off_is_silent_after_a_tenth_of_a_second_and_on_is_on_again() {
    let rig = Rig::new();
    let log = RequestLog::default();
    let _listener = rig.serve_http(&log);
    rig.mirror("deploy/web 8080:3000");
    let client = &rig.lab.targets().client;
    let ask = |path: &str| rig.curl(client, "10.244.1.2", path);
    ask("/first");
    until_requested(&log, "/first");
    for round in 0..5 {
        rig.mirror("off 8080");
        let returned = Instant::now();
        assert_eq!(rig.rule().standing, Standing::Off);
        let mut number = 0;
        while returned.elapsed() < Duration::from_millis(600) {
            ask(&format!("/off/{round}/{number}"));
            number += 1;
        }
        let late: Vec<_> = log.requests().into_iter().filter(|seen| seen.at > returned + SILENT_AFTER).collect();
        assert!(late.is_empty(), "{number} requests, {late:?}");
        rig.mirror("on 8080");
        ask(&format!("/on/{round}"));
        until_requested(&log, &format!("/on/{round}"));
    }
    rig.until("what came while it was on is counted, whenever it was", |rule| {
        rule.replicas.iter().map(|replica| replica.connections.all).sum::<u64>() == 6
    });
    rig.mirror("rm 8080");
    ask("/removed");
    assert!(rig.status().mirror.is_empty());
    assert!(!is_requested(&log, "/removed"));
}

#[test]
fn two_targets_and_ports_are_kept_apart() {
    let rig = Rig::new();
    let pods = rig.lab.targets();
    let _targets = Recorder::tcp(&pods.web_1, EVERYWHERE);
    let at = |port: u16| SocketAddr::new(LISTENER.ip(), port);
    let listeners = [3000, 3001, 3002].map(|port| Recorder::tcp(&rig.lab.host, at(port)));
    rig.mirror(&format!("shop/deploy/web 8080:3000 {PORT}:3001"));
    rig.mirror("shop/deploy/api 8080:3002");
    let of = [(plan::WEB_1, plan::POD_HTTP_PORT), (plan::WEB_1, PORT), (plan::API_1, plan::POD_HTTP_PORT)];
    for (number, (pod, port)) in of.into_iter().enumerate() {
        let mut stream = rig.dial(pod.address.v4.into(), port);
        write!(stream, "GET /{number} HTTP/1.0\r\n\r\n").expect("sent");
        wait::until(format!("request {number} arrives"), PATIENCE, || {
            listeners[number].recordings().len() == 1 && listeners[number].recordings()[0].bytes > 0
        });
    }
    let seen: Vec<usize> = listeners.iter().map(|listener| listener.recordings().len()).collect();
    assert_eq!(seen, [1, 1, 1]);
    let listed = rig.mirror("list");
    assert_eq!(listed.lines().count(), 4, "{listed}");
    let json: serde_json::Value = serde_json::from_str(&rig.mirror("list -o json")).expect("JSON");
    assert_eq!(json[2]["target"], "shop/deploy/api");
    rig.mirror("rm shop/deploy/web");
    assert_eq!(rig.rule().rule.target, "shop/deploy/api");
}

#[test]
fn one_replica_can_be_asked_for() {
    let rig = Rig::new();
    let log = RequestLog::default();
    let _listener = rig.serve_http(&log);
    rig.mirror("deploy/web 8080:3000 --replica web-2");
    let client = &rig.lab.targets().client;
    rig.curl(client, "10.244.1.2", "/to-web-1");
    rig.curl(client, "10.244.2.2", "/to-web-2");
    until_requested(&log, "/to-web-2");
    assert!(!is_requested(&log, "/to-web-1"));
    let names: Vec<_> = rig.rule().replicas.into_iter().map(|replica| replica.name).collect();
    assert_eq!(names, ["web-2"]);
}

#[test]
fn a_replica_that_comes_is_copied_and_one_that_goes_is_told() {
    let rig = Rig::new();
    let log = RequestLog::default();
    let _listener = rig.serve_http(&log);
    let pods = rig.lab.targets();
    pods.withdraw(plan::WEB_2).expect("withdrawn");
    rig.mirror("deploy/web 8080:3000");
    pods.publish(plan::WEB_2).expect("published");
    let mut number = 0;
    wait::until("a request to web-2 arrives", PATIENCE, || {
        number += 1;
        rig.curl(&pods.client, "10.244.2.2", &format!("/come/{number}"));
        log.requests().iter().any(|seen| seen.line.contains("/come/"))
    });
    pods.withdraw(plan::WEB_2).expect("withdrawn");
    rig.until("web-2 is gone", |rule| {
        rule.replicas.iter().all(|replica| replica.name != "web-2" || replica.state == ReplicaState::Gone)
    });
    wait::until("its tap has ended", PATIENCE, || rig.taps(&pods.web_2).is_empty());
    rig.curl(&pods.client, "10.244.1.2", "/still");
    until_requested(&log, "/still");
}

#[test]
fn a_sample_is_a_share_of_whole_connections() {
    const CONNECTIONS: usize = 400;
    let (rig, target, listener) = {
        let rig = Rig::new();
        let target = Recorder::tcp(&rig.lab.targets().web_1, EVERYWHERE);
        let listener = Recorder::tcp(&rig.lab.host, LISTENER);
        rig.mirror(&format!("deploy/web {PORT}:3000 --sample 25% --existing raw"));
        (rig, target, listener)
    };
    for _ in 0..CONNECTIONS {
        let mut stream = rig.dial(plan::WEB_1.address.v4.into(), PORT);
        send_pattern(&mut stream, 10_000).expect("sent");
        stream.shutdown(Shutdown::Write).expect("half-closed");
        assert_eq!(stream.read(&mut [0]).expect("the pod's own end"), 0);
    }
    assert_eq!(target.ended(), CONNECTIONS);
    let rule = rig.until("every connection is counted", |rule| {
        let replica = rule.replicas.iter().find(|replica| replica.name == "web-1");
        replica.is_some_and(|replica| {
            let left_out = replica.lost.get(&link::rules::LossReason::Sample).map_or(0, |loss| loss.flows);
            replica.connections.all + left_out == CONNECTIONS as u64
        })
    });
    let copied = rule.replicas.iter().map(|replica| replica.connections.all).sum::<u64>();
    // Six standard deviations of a fair draw around 100.
    assert!((48..=152).contains(&copied), "{copied}");
    wait::until("all copies have ended", PATIENCE, || listener.ended() as u64 == copied);
    assert!(listener.recordings().iter().all(|recording| recording.bytes == 10_000));
}

#[test]
fn a_rate_bounds_the_copy_and_what_is_left_out_is_counted() {
    const BYTES: u64 = 20_000_000;
    let rig = Rig::new();
    let target = Recorder::tcp(&rig.lab.targets().web_1, EVERYWHERE);
    let listener = Recorder::tcp(&rig.lab.host, LISTENER);
    rig.mirror(&format!("deploy/web {PORT}:3000 --max-rate 1MB/s --existing raw"));
    let began = Instant::now();
    let mut stream = rig.dial(plan::WEB_1.address.v4.into(), PORT);
    send_pattern(&mut stream, BYTES).expect("sent");
    stream.shutdown(Shutdown::Write).expect("half-closed");
    wait::until("the pod has it all", PATIENCE, || target.ended() == 1);
    assert_eq!(target.recordings()[0].bytes, BYTES);
    let rule = rig.until("every byte is counted", |rule| {
        let of = |replica: &tunnel::control::mirror_status::ReplicaStatus| {
            replica.bytes + replica.lost.values().map(|loss| loss.bytes).sum::<u64>()
        };
        rule.replicas.iter().map(of).sum::<u64>() == BYTES
    });
    let copied: u64 = rule.replicas.iter().map(|replica| replica.bytes).sum();
    let seconds = began.elapsed().as_secs_f64();
    assert!(copied as f64 <= 1e6 * (seconds + 2.0), "{copied} bytes in {seconds} s");
    let got: u64 = listener.recordings().iter().map(|recording| recording.bytes).sum();
    let first = listener.recordings().first().map(|recording| recording.head.clone()).unwrap_or_default();
    assert!(got <= copied && pattern::slice(0, first.len()) == first, "{got} of {copied}");
}

#[test]
fn a_thousand_toggles_leave_everything_flat() {
    let mut rig = Rig::new();
    let log = RequestLog::default();
    let _listener = rig.serve_http(&log);
    rig.mirror("deploy/web 8080:3000");
    let gateway = rig.gateway.take().expect("it runs");
    let pids = [rig.status().summary.pid, gateway.id()];
    let usage = |pid| tests::observe::Usage::of(pid).expect("it runs");
    let toggle = |times: usize| {
        for _ in 0..times {
            rig.mirror("off 8080");
            rig.mirror("on 8080");
        }
    };
    // What is compared is a rule at work in every pod, before and after.
    let at_work = || {
        rig.until("one tap each is at work", |rule| {
            rule.replicas.len() == 2 && rule.replicas.iter().all(|replica| replica.state == ReplicaState::Tapped)
        });
    };
    // What is unused goes back to the kernel a second after it was freed; so the least of many looks is what is held.
    let resident = |pid| usage(pid).resident_bytes;
    toggle(30);
    let looks: Vec<_> = (0..20).map(|_| (toggle(1), pids.map(resident)).1).collect();
    at_work();
    let before = pids.map(usage);
    toggle(450);
    let path = "/after";
    rig.curl(&rig.lab.targets().client, "10.244.1.2", path);
    until_requested(&log, path);
    at_work();
    wait::until("one tap each is left", PATIENCE, || {
        let pods = rig.lab.targets();
        [&pods.web_1, &pods.web_2].into_iter().all(|pod| rig.taps(pod).len() == 1)
    });
    for (index, before) in before.into_iter().enumerate() {
        // A runtime keeps some threads at hand for calls that wait for files; a leak would be hundreds.
        wait::until("descriptors and threads are as before", PATIENCE, || {
            let after = usage(pids[index]);
            after.files <= before.files + FEW && after.threads <= before.threads + FEW as u64
        });
        let early = looks.iter().map(|look| look[index]).min().expect("20 looks");
        wait::until("no more than 4 MiB more is held", PATIENCE, || resident(pids[index]) < early + (4 << 20));
    }
}
