//! The world itself, without adit: what every other suite takes for granted.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    process::Command,
    time::Duration,
};

use cli::demo::{
    namespace::Namespace,
    plan,
    targets::{PodLink, Targets},
    world::{Uplink, World},
};

/// More than any answer in a world takes, less than a person waits.
const PATIENCE: Duration = Duration::from_secs(5);
/// After this much silence a connection attempt is held to have been dropped.
const SILENCE: Duration = Duration::from_secs(1);

fn world() -> World {
    tests::machine::require_namespaces();
    World::new(Uplink::Veth).expect("a world")
}

/// What `script` prints in `namespace`; panics with its errors when it fails.
fn shell(namespace: &Namespace, script: &str) -> String {
    let output = namespace.command("bash").args(["-euc", script]).output().expect("bash is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "in {}: {script}: {}\n{errors}", namespace.name(), output.status);
    String::from_utf8(output.stdout).expect("text")
}

fn connect(namespace: &Namespace, address: IpAddr, port: u16, patience: Duration) -> Result<(), ErrorKind> {
    let connected = namespace.run(|| TcpStream::connect_timeout(&SocketAddr::new(address, port), patience));
    connected.map(drop).map_err(|error| error.kind())
}

#[test]
fn the_machine_is_left_alone() {
    let world = world();
    let seen = shell(&world.host, "ls /proc/net/dev_snmp6");
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["lan0", "lo", "up0"]);
    // The test process itself has no more than a loopback device, so nothing of this reached the machine.
    let own = Command::new("ls").arg("/proc/net/dev_snmp6").output().expect("ls").stdout;
    assert_eq!(String::from_utf8(own).expect("text").trim(), "lo");
}

#[test]
fn the_gateway_resolves_and_reaches_services_of_both_families() {
    let world = world();
    assert_eq!(
        shell(&world.gateway, "curl -sS4 http://web.shop.svc.cluster.local/"),
        format!("web.shop greets {}\n", plan::PODS_GATEWAY.v4)
    );
    assert_eq!(
        shell(&world.gateway, "curl -sS6 http://web.shop.svc.cluster.local/"),
        format!("web.shop greets {}\n", plan::PODS_GATEWAY.v6)
    );
    for address in [plan::WEB.both(), plan::PEERS[1].both(), plan::DATABASE.both()].concat() {
        shell(&world.gateway, &format!("ping -c 1 -W 2 {address}"));
    }
}

#[test]
fn the_cluster_nameserver_has_every_record_type() {
    let world = world();
    let dig = |question: &str| shell(&world.gateway, &format!("dig +short {question}"));
    let name = |short: &str| format!("{short}.svc.cluster.local");
    assert_eq!(dig(&name("web.shop")), "10.96.0.20\n");
    assert_eq!(dig(&format!("{} AAAA", name("web.shop"))), "fd00:10:96::20\n");
    assert_eq!(dig(&format!("{} SRV", name("_http._tcp.web.shop"))), "0 100 80 web.shop.svc.cluster.local.\n");
    assert_eq!(dig(&format!("{} TXT", name("info.shop"))), "\"version=1\" \"owner=shop\"\n");
    assert_eq!(dig(&format!("{} MX", name("shop"))), "10 web.shop.svc.cluster.local.\n");
    assert_eq!(dig(&name("alias.shop")), "web.shop.svc.cluster.local.\n10.96.0.20\n");
    assert_eq!(dig("cluster.local SOA").split(' ').next(), Some("ns.cluster.local."));
    assert_eq!(dig("-x 10.96.0.20"), "web.shop.svc.cluster.local.\n");
    assert_eq!(dig("-x fd00:10:96::20"), "web.shop.svc.cluster.local.\n");
    let mut peers: Vec<String> = dig(&name("peers.shop")).lines().map(str::to_owned).collect();
    peers.sort();
    assert_eq!(peers, ["10.244.0.11", "10.244.0.12", "10.244.0.13"]);
}

#[test]
fn a_big_answer_is_truncated_over_udp_and_whole_over_tcp() {
    let world = world();
    let question = "big.shop.svc.cluster.local TXT";
    let truncated = shell(&world.gateway, &format!("dig +ignore {question}"));
    assert!(truncated.contains(" tc "), "{truncated}");
    let whole = shell(&world.gateway, &format!("dig +short {question}"));
    assert_eq!(whole.chars().filter(char::is_ascii_digit).count(), 6_000);
    let over_tcp = world.cluster_questions.below("big.shop.svc.cluster.local").last().expect("asked").over_tcp;
    assert!(over_tcp);
}

#[test]
fn a_name_without_the_type_is_no_data_and_an_unknown_one_does_not_exist() {
    let world = world();
    let status = |question: &str| {
        let answer = shell(&world.gateway, &format!("dig {question}.svc.cluster.local AAAA"));
        let status = answer.split("status: ").nth(1).expect("a status").split(',').next().expect("a comma").to_owned();
        (status, answer.contains("ANSWER: 0"), answer.contains("IN\tSOA"))
    };
    assert_eq!(status("v4only.shop"), ("NOERROR".to_owned(), true, true));
    assert_eq!(status("nobody.shop"), ("NXDOMAIN".to_owned(), true, true));
}

#[test]
fn ordinary_names_are_the_office_nameservers_and_every_question_is_logged() {
    let world = world();
    assert_eq!(
        shell(&world.host, "curl -sS4 http://www.example.test/"),
        format!("www.example.test greets {}\n", plan::OFFICE_HOST.v4)
    );
    shell(&world.host, "dig web.shop.svc.cluster.local | grep NXDOMAIN");
    let leaked = world.ordinary_questions.below("cluster.local");
    assert_eq!(leaked.len(), 1, "{leaked:?}");
    assert_eq!(leaked[0].name, "web.shop.svc.cluster.local.");
    assert!(world.cluster_questions.questions().is_empty());
}

#[test]
fn each_way_to_fail_looks_different_from_the_gateway() {
    let world = world();
    let from_gateway = |address: IpAddr, port| connect(&world.gateway, address, port, PATIENCE);
    let dropped = |address: IpAddr, port| {
        assert_eq!(connect(&world.gateway, address, port, SILENCE), Err(ErrorKind::TimedOut), "{address}:{port}");
    };
    for address in plan::WEB.both() {
        assert!(from_gateway(address, plan::HTTP_PORT).is_ok());
        assert_eq!(from_gateway(address, plan::CLOSED_PORT), Err(ErrorKind::ConnectionRefused));
        dropped(address, plan::FILTERED_PORT);
    }
    for address in plan::UNREACHABLE.both() {
        assert_eq!(from_gateway(address, 80), Err(ErrorKind::HostUnreachable));
    }
    for address in plan::PROHIBITED.both() {
        assert_eq!(from_gateway(address, 80), Err(ErrorKind::PermissionDenied));
    }
    for address in plan::UNROUTED.both() {
        assert_eq!(from_gateway(address, 80), Err(ErrorKind::NetworkUnreachable));
    }
    assert_eq!(from_gateway(plan::ABSENT_POD.v4.into(), 80), Err(ErrorKind::HostUnreachable));
    dropped(plan::BLACK_HOLE.v4.into(), 80);
}

#[test]
fn the_udp_echo_returns_datagrams_of_any_size() {
    let world = world();
    for address in plan::ECHO.both() {
        let socket = world.gateway.run(|| {
            let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any)?;
            socket.connect(SocketAddr::new(address, plan::ECHO_PORT))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            std::io::Result::Ok(socket)
        });
        let socket = socket.expect("a socket");
        let mut answer = vec![0; 70_000];
        for length in [0, 1, 1_400, 8_000, 65_000] {
            let sent = vec![length as u8; length];
            socket.send(&sent).expect("sent");
            let received = socket.recv(&mut answer).expect("an echo");
            assert_eq!(answer[..received], sent, "{address} {length}");
        }
    }
}

#[test]
fn bulk_transfers_are_checked_against_the_pattern() {
    let world = world();
    let download = "curl -sS http://10.96.0.20/bytes/20000000";
    let upload = "curl -sS -X POST -H 'Expect:' --data-binary @- http://10.96.0.20/upload";
    assert_eq!(shell(&world.gateway, &format!("{download} | {upload}")), "20000000 intact\n");
    assert_eq!(shell(&world.gateway, &format!("{download} | tail -c +2 | {upload}")), "19999999 differs at 0\n");
}

#[test]
fn worlds_live_side_by_side() {
    let worlds = [world(), world()];
    for world in &worlds {
        assert!(connect(&world.gateway, plan::WEB.v4.into(), plan::HTTP_PORT, PATIENCE).is_ok());
    }
}

#[test]
fn pods_are_reached_by_the_gateway_and_by_each_other() {
    let world = world();
    let targets = Targets::new(&world, PodLink::Veth).expect("pods");
    for pod in [plan::WEB_1, plan::WEB_2, plan::API_1] {
        for (address, client) in pod.address.both().into_iter().zip(plan::CLIENT.address.both()) {
            let url = match address {
                IpAddr::V4(v4) => format!("http://{v4}:{}/", plan::POD_HTTP_PORT),
                IpAddr::V6(v6) => format!("http://[{v6}]:{}/", plan::POD_HTTP_PORT),
            };
            let greeting = format!("{} greets {client}\n", pod.name);
            assert_eq!(shell(&targets.client, &format!("curl -sS '{url}'")), greeting);
            assert!(shell(&world.gateway, &format!("curl -sS '{url}'")).starts_with(pod.name));
        }
    }
}

#[test]
fn the_gateway_alone_finds_the_namespace_of_a_pod_at_its_path() {
    let world = world();
    let targets = Targets::new(&world, PodLink::Veth).expect("pods");
    let enter = format!("nsenter --net={} ls /proc/net/dev_snmp6", targets.path(plan::WEB_2).display());
    assert!(shell(&world.gateway, &enter).contains("web-2"));
    let fails = |namespace: &Namespace| {
        let output = namespace.command("bash").args(["-c", &enter]).output().expect("bash is installed");
        !output.status.success()
    };
    assert!(fails(&world.host));
    targets.withdraw(plan::WEB_2).expect("withdrawn");
    assert!(fails(&world.gateway));
    assert!(!targets.path(plan::WEB_2).exists());
    targets.publish(plan::WEB_2).expect("published");
    assert!(shell(&world.gateway, &enter).contains("web-2"));
}
