//! Names from the host: the cluster's and ordinary ones, each at its own nameserver and nowhere else.

use std::{
    io::{ErrorKind, Read, Write},
    time::Duration,
};

use cli::demo::plan;
use tests::{lab::Lab, process, sockets::dial, wait};

const PATIENCE: Duration = Duration::from_secs(5);

fn dig(lab: &Lab, question: &str) -> String {
    lab.on_host(&format!("dig +short {question}"))
}

/// The status and the number of answers.
fn status(lab: &Lab, question: &str) -> (String, usize) {
    let text = lab.on_host(&format!("dig {question}"));
    let after = |mark: &str| text.split(mark).nth(1).unwrap_or_else(|| panic!("no {mark} in {text}"));
    let status = after("status: ").split(',').next().expect("a word").to_owned();
    let answers = after("ANSWER: ").split(',').next().expect("a number").parse().expect("a number");
    (status, answers)
}

fn sorted_lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn every_record_type_is_answered() {
    let (lab, _gateway) = Lab::joined();
    let name = |short: &str| format!("{short}.svc.cluster.local");
    assert_eq!(dig(&lab, &name("web.shop")), "10.96.0.20\n");
    assert_eq!(dig(&lab, &format!("{} AAAA", name("web.shop"))), "fd00:10:96::20\n");
    assert_eq!(dig(&lab, &format!("{} SRV", name("_http._tcp.web.shop"))), "0 100 80 web.shop.svc.cluster.local.\n");
    assert_eq!(dig(&lab, &format!("{} TXT", name("info.shop"))), "\"version=1\" \"owner=shop\"\n");
    assert_eq!(dig(&lab, &format!("{} MX", name("shop"))), "10 web.shop.svc.cluster.local.\n");
    assert_eq!(dig(&lab, &format!("{} CNAME", name("alias.shop"))), "web.shop.svc.cluster.local.\n");
    assert_eq!(dig(&lab, &name("alias.shop")), "web.shop.svc.cluster.local.\n10.96.0.20\n");
    assert_eq!(dig(&lab, "cluster.local SOA").split(' ').next(), Some("ns.cluster.local."));
    assert_eq!(dig(&lab, "-x 10.96.0.20"), "web.shop.svc.cluster.local.\n");
    assert_eq!(dig(&lab, "-x fd00:10:96::20"), "web.shop.svc.cluster.local.\n");
    let peers = dig(&lab, &name("peers.shop"));
    assert_eq!(sorted_lines(&peers), ["10.244.0.11", "10.244.0.12", "10.244.0.13"]);
}

#[test]
fn a_big_answer_is_truncated_over_udp_and_whole_over_tcp() {
    let (lab, _gateway) = Lab::joined();
    let name = "big.shop.svc.cluster.local TXT";
    for size in ["+bufsize=512", "+bufsize=1232", "+noedns"] {
        let truncated = lab.on_host(&format!("dig +ignore {size} {name}"));
        let flags = truncated.lines().find(|line| line.contains("flags: qr")).expect("flags");
        assert!(flags.contains(" tc"), "{truncated}");
    }
    for way in ["", "+tcp"] {
        let whole = dig(&lab, &format!("{way} {name}"));
        assert_eq!(whole.chars().filter(char::is_ascii_digit).count(), 6_000, "{way}");
    }
}

#[test]
fn a_name_without_the_type_is_no_data_and_an_unknown_one_does_not_exist() {
    let (lab, _gateway) = Lab::joined();
    for (name, kind, expected) in [
        ("v4only.shop.svc.cluster.local", "AAAA", "NOERROR"),
        ("v6only.shop.svc.cluster.local", "A", "NOERROR"),
        ("nobody.shop.svc.cluster.local", "A", "NXDOMAIN"),
        ("nobody.shop.svc.cluster.local", "AAAA", "NXDOMAIN"),
    ] {
        assert_eq!(status(&lab, &format!("{name} {kind}")), (expected.to_owned(), 0), "{name} {kind}");
    }
    // A short name has to be no data too: musl takes a name that does not exist for gone in both families.
    assert_eq!(status(&lab, "v4only.shop AAAA"), ("NOERROR".to_owned(), 0));
    assert_eq!(status(&lab, "v4only AAAA"), ("NOERROR".to_owned(), 0));
}

#[test]
fn short_names_are_completed_as_in_a_pod_of_the_namespace() {
    let (lab, _gateway) = Lab::joined();
    for (name, address) in [
        ("web", "10.96.0.20"),
        ("web.shop", "10.96.0.20"),
        ("web.shop.svc", "10.96.0.20"),
        ("web.shop.svc.cluster.local", "10.96.0.20"),
        ("web.default", "10.96.0.21"),
        ("peer-1.peers.shop.svc", "10.244.0.12"),
        ("WEB.Shop", "10.96.0.20"),
    ] {
        let answer = dig(&lab, name);
        assert_eq!(answer.lines().last(), Some(address), "{name}");
        let hosts = lab.on_host(&format!("getent ahostsv4 {name}"));
        assert_eq!(hosts.split(' ').next(), Some(address), "{name}");
    }
}

#[test]
fn ordinary_names_resolve_as_before() {
    let (lab, _gateway) = Lab::joined();
    assert_eq!(dig(&lab, "www.example.test"), "203.0.113.80\n");
    assert_eq!(dig(&lab, "+tcp www.example.test AAAA"), "2001:db8:113::80\n");
    assert_eq!(status(&lab, "no-such-name.example.test"), ("NXDOMAIN".to_owned(), 0));
    assert_eq!(lab.on_host("curl -sS4 http://www.example.test/"), "www.example.test greets 192.0.2.10\n");
}

#[test]
fn no_question_goes_to_the_wrong_nameserver() {
    let (lab, _gateway) = Lab::joined();
    let cluster_names =
        ["web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local", "nobody.shop.svc.cluster.local", "db.shop"];
    for name in cluster_names {
        for kind in ["A", "AAAA"] {
            status(&lab, &format!("{name} {kind}"));
        }
    }
    dig(&lab, "-x 10.96.0.20");
    dig(&lab, "-x 10.244.0.11");
    dig(&lab, "-x fd00:10:96::20");
    for name in ["www.example.test", "example.test", "no-such-name.example.test"] {
        status(&lab, name);
    }
    dig(&lab, "-x 203.0.113.80");

    let at_office = lab.ordinary_questions.questions();
    let ordinary = |name: &str| name.ends_with("example.test.") || name == "80.113.0.203.in-addr.arpa.";
    assert!(at_office.iter().all(|question| ordinary(&question.name)), "leaked: {at_office:?}");
    let in_cluster = lab.cluster_questions.questions();
    assert!(in_cluster.iter().all(|question| !ordinary(&question.name)), "leaked: {in_cluster:?}");
    assert!(!at_office.is_empty() && !in_cluster.is_empty());
}

#[test]
fn an_answer_is_asked_for_once_while_it_lives() {
    let (lab, _gateway) = Lab::joined();
    for name in ["web.shop.svc.cluster.local", "nobody.shop.svc.cluster.local"] {
        for _ in 0..10 {
            status(&lab, name);
        }
        let asked = lab.cluster_questions.below(name).len();
        // The records live 5 seconds; ten questions may take a little longer on a busy machine.
        assert!((1..=3).contains(&asked), "{name} was asked for {asked} times");
    }
    let lives = |answer: String| -> u32 {
        let line = answer.lines().find(|line| line.starts_with("web.")).expect("an answer").to_owned();
        line.split_whitespace().nth(1).expect("a TTL").parse().expect("a number")
    };
    let first = lives(lab.on_host("dig +noall +answer web.shop.svc.cluster.local"));
    assert!(first <= 5, "{first}");
}

#[test]
fn many_at_once_are_all_answered() {
    let (lab, _gateway) = Lab::joined();
    let script = "for n in $(seq 50); do dig +short web.shop & dig +short www.example.test & done; wait";
    let text = lab.on_host(script);
    assert_eq!(text.matches("10.96.0.20").count(), 50, "{text}");
    assert_eq!(text.matches("203.0.113.80").count(), 50, "{text}");
    let asked = lab.cluster_questions.below("web.shop.svc.cluster.local").len();
    assert!(asked <= 10, "{asked} questions to the cluster for one name");
}

#[test]
fn one_tcp_connection_carries_many_questions() {
    let (lab, _gateway) = Lab::joined();
    let text = lab.on_host("dig +short +tcp +keepopen web.shop.svc.cluster.local www.example.test echo.shop");
    assert_eq!(text, "10.96.0.20\n203.0.113.80\n10.96.0.24\n");
}

#[test]
fn names_resolve_as_before_after_leaving() {
    let (lab, _gateway) = Lab::joined();
    assert_eq!(dig(&lab, "web.shop"), "10.96.0.20\n");
    process::run(&mut lab.adit(&["quit"]));
    lab.ordinary_questions.clear();
    assert_eq!(status(&lab, "web.shop.svc.cluster.local"), ("NXDOMAIN".to_owned(), 0));
    assert_eq!(dig(&lab, "www.example.test"), "203.0.113.80\n");
    wait::until("the office is asked again", PATIENCE, || lab.ordinary_questions.questions().len() == 2);
}

#[test]
fn nameservers_of_both_families_are_captured() {
    for nameservers in [&[plan::NAMESERVER.v6.into()][..], &plan::NAMESERVER.both()] {
        let lab = Lab::new();
        lab.set_nameservers(nameservers);
        let (lab, _gateway) = lab.join();
        for nameserver in nameservers {
            for way in ["", "+tcp"] {
                assert_eq!(dig(&lab, &format!("@{nameserver} {way} web.shop.svc.cluster.local")), "10.96.0.20\n");
                assert_eq!(dig(&lab, &format!("@{nameserver} {way} www.example.test")), "203.0.113.80\n");
            }
        }
        let leaked = lab.ordinary_questions.below("cluster.local");
        assert!(leaked.is_empty(), "{leaked:?}");
    }
}

#[test]
fn malformed_questions_are_answered_or_dropped_and_hurt_nobody() {
    let (lab, _gateway) = Lab::joined();
    let socket = tests::sockets::udp(&lab.host, plan::NAMESERVER.v4.into(), 53);
    let header = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let endless_name = [header.as_slice(), &[0xc0, 12, 0, 1, 0, 1]].concat();
    let cut_label = [header.as_slice(), &[63, b'a']].concat();
    for message in [&[][..], &[0], &header[..5], &header, &endless_name, &cut_label, &[0xff; 512]] {
        socket.send(message).expect("sent");
    }
    assert_eq!(dig(&lab, "web.shop"), "10.96.0.20\n");
    assert_eq!(dig(&lab, "www.example.test"), "203.0.113.80\n");
}

#[test]
fn a_connection_that_does_not_speak_dns_is_reset() {
    let (lab, _gateway) = Lab::joined();
    let mut stream = dial(&lab.host, plan::NAMESERVER.v4.into(), 53).expect("a connection");
    stream.write_all(&[0, 1, 1]).expect("sent");
    let error = stream.read(&mut [0; 16]).expect_err("not an orderly end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
}
