//! UDP datagrams of a target arrive as they are: every size, and many of them.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use cli::demo::plan;
use tests::{
    lab::PATIENCE,
    mirror::{LISTENER, Rig},
    recorder::Recorder,
    sockets, wait,
};
use tunnel::control::mirror_status::RuleStatus;

const PORT: u16 = 5_300;
const EVERYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT);

fn recorded() -> (Rig, Recorder, Recorder) {
    let rig = Rig::new();
    let target = Recorder::udp(&rig.lab.targets().web_1, EVERYWHERE);
    let listener = Recorder::udp(&rig.lab.host, LISTENER);
    rig.mirror(&format!("deploy/web {PORT}:3000 --udp"));
    (rig, target, listener)
}

#[test]
fn datagrams_of_every_size_arrive_whole() {
    let (rig, target, listener) = recorded();
    let socket = sockets::udp(&rig.lab.targets().client, plan::WEB_1.address.v4.into(), PORT);
    let sizes = [0, 1, 100, 1_472, 1_473, 9_000, 32_768, 64_999, 65_000];
    for (number, size) in sizes.into_iter().enumerate() {
        let sent: Vec<u8> = (0..size).map(|at| (at * 31 + number) as u8).collect();
        socket.send(&sent).expect("sent");
        wait::until(format!("{size} bytes are at the pod"), PATIENCE, || target.datagram_count() == number + 1);
        wait::until(format!("{size} bytes arrive"), PATIENCE, || listener.datagram_count() == number + 1);
        assert!(listener.datagrams()[number] == sent, "{size} bytes");
    }
    let sent = sizes.len() as u64;
    let of_web_1 = |rule: &RuleStatus| rule.replicas.iter().find(|replica| replica.name == "web-1").cloned();
    let rule = rig.until("all are counted", |rule| {
        let copied = of_web_1(rule).map(|replica| replica.datagrams);
        (rule.delivery.datagrams, copied) == (sent, Some(sent))
    });
    let replica = of_web_1(&rule).expect("there");
    assert_eq!((replica.connections.all, replica.lost.len()), (1, 0), "{rule:?}");
    assert_eq!((replica.bytes, rule.delivery.bytes), (sizes.iter().sum::<usize>() as u64, replica.bytes), "{rule:?}");
}

#[test]
fn each_flow_keeps_a_port_of_its_own() {
    let (rig, _target, listener) = recorded();
    let sockets = [0, 1].map(|_| sockets::udp(&rig.lab.targets().client, plan::WEB_1.address.v4.into(), PORT));
    for (round, socket) in [0, 1, 0, 1].into_iter().map(|number| &sockets[number]).enumerate() {
        socket.send(format!("datagram {round}").as_bytes()).expect("sent");
        wait::until(format!("datagram {round} arrives"), PATIENCE, || listener.datagram_count() == round + 1);
    }
    let rule = rig.until("two flows are counted", |rule| {
        rule.replicas.iter().map(|replica| replica.connections.all).sum::<u64>() == 2
    });
    assert_eq!(rule.delivery.datagrams, 4, "{rule:?}");
}

/// A machine that other suites keep busy may hold up a tap for longer than its ring lasts. Such a loss is told, and then it is tried again.
const ATTEMPTS: usize = 3;

#[test]
fn twenty_thousand_a_second_are_none_too_many() {
    assert!((0..ATTEMPTS).any(|_| all_of_twenty_thousand_a_second_arrive()));
}

/// Whether all arrive; those that do not are told.
fn all_of_twenty_thousand_a_second_arrive() -> bool {
    const A_SECOND: u32 = 20_000;
    const DATAGRAMS: u32 = 3 * A_SECOND;
    let (rig, target, listener) = recorded();
    let socket = sockets::udp(&rig.lab.targets().client, plan::WEB_1.address.v4.into(), PORT);
    let began = Instant::now();
    for number in 0..DATAGRAMS {
        let mut datagram = [0; 200];
        datagram[..4].copy_from_slice(&number.to_be_bytes());
        socket.send(&datagram).expect("sent");
        // The rate's own pauses, one in 20 datagrams: shorter ones cost more than they are.
        if number % 20 == 19 {
            let due = Duration::from_secs(1) * (number + 1) / A_SECOND;
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
    wait::until("the pod has all", PATIENCE, || target.datagram_count() == DATAGRAMS as usize);
    let lost = |rule: &RuleStatus| -> u64 {
        rule.replicas.iter().flat_map(|replica| replica.lost.values()).map(|loss| loss.datagrams).sum()
    };
    let rule = rig.until("all are accounted for", |rule| {
        let copied: u64 = rule.replicas.iter().map(|replica| replica.datagrams).sum();
        copied + lost(rule) == u64::from(DATAGRAMS)
    });
    let copied = u64::from(DATAGRAMS) - lost(&rule);
    wait::until(format!("all that was copied arrives: {rule:?}"), PATIENCE, || {
        listener.datagram_count() as u64 == copied
    });
    let numbers = listener.datagrams().iter().map(|datagram| datagram[..4].to_vec()).collect::<Vec<_>>();
    assert!(numbers.is_sorted(), "in their order");
    lost(&rule) == 0
}
