//! What is copied: TCP and UDP, both families, over a cable and over loopback, and only what the rules name.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    thread,
};

use cli::demo::{
    namespace::{Namespace, Resolver},
    pattern,
    wiring::Wiring,
};
use link::{
    mirrored::FrameKind,
    rules::{RuleProtocol, Sample},
};
use nix::sys::{
    signal::Signal,
    socket::{setsockopt, sockopt::UdpGsoSegment},
};
use tests::{
    process,
    sockets::{PATIENCE, accept, dial, listen, receive_pattern, reset, send_pattern, udp},
    tap::{Tap, Target, ip, port},
    wait,
};

const PORT: u16 = 8_080;
const OTHER_PORT: u16 = 8_081;
const PART_BYTES: usize = 1 << 19;
const TCP: RuleProtocol = RuleProtocol::Tcp;
const UDP: RuleProtocol = RuleProtocol::Udp;

/// A connection from `client`'s side and its end at a listener in the target.
fn pair(target: &Target, address: &str, port: u16, over_loopback: bool) -> (TcpStream, TcpStream) {
    let listener = listen(&target.target, ip(address), port);
    let from = if over_loopback { &target.target } else { &target.client };
    let near = dial(from, ip(address), port).expect("a connection");
    (near, accept(&listener))
}

/// Sends the pattern through a pair and ends it; the client's address.
fn transfer(pair: (TcpStream, TcpStream), bytes: u64) -> SocketAddr {
    transfer_by(pair, bytes, |near, _| send_pattern(near, bytes).expect("sent"))
}

/// The same, sent by `send`, which is told the client's address.
fn transfer_by(
    (mut near, mut far): (TcpStream, TcpStream),
    bytes: u64,
    send: impl FnOnce(&mut TcpStream, SocketAddr),
) -> SocketAddr {
    let client = near.local_addr().expect("an address");
    let reader = thread::spawn(move || receive_pattern(&mut far).expect("read to its end"));
    send(&mut near, client);
    drop(near);
    let received = reader.join().expect("no panic");
    assert_eq!((received.bytes(), received.first_difference()), (bytes, None), "the target itself");
    client
}

#[test]
fn a_connection_is_copied_byte_for_byte_over_the_cable_and_over_loopback_in_both_families() {
    let target = Target::new();
    let mut tap = Tap::start(&target);
    tap.apply(&[port(PORT, TCP)]);
    let ways = [(Target::ADDRESSES[0], false), (Target::ADDRESSES[1], false), ("127.0.0.1", true), ("::1", true)];
    for (way, (address, over_loopback)) in ways.into_iter().enumerate() {
        let bytes = 40 << 20;
        // As much at once as the ring holds: a busy machine may let the tap wait for longer than all of it takes.
        let client = transfer_by(pair(&target, address, PORT, over_loopback), bytes, |near, client| {
            let mut sent = 0;
            while sent < bytes {
                let part = pattern::slice(sent, PART_BYTES.min(usize::try_from(bytes - sent).expect("40 MiB")));
                near.write_all(&part).expect("sent");
                sent += part.len() as u64;
                tap.wait("a part is copied", |copies| copies.of(client).filter(|one| one.bytes == sent).map(drop));
            }
        });
        let copied = tap.ended(client);
        assert_eq!((copied.bytes, copied.gaps, copied.is_pattern), (bytes, 0, true), "{address}: {copied:?}");
        assert_eq!((copied.end, copied.from_start), (FrameKind::Finished, true), "{address}");
        assert!(copied.largest > 30_000, "GSO frames are copied whole: {copied:?}");
        assert_eq!(tap.copies().flows.len(), way + 1, "each connection once, and the answers not at all");
        let opened = tap.copies().of(client).expect("copied").opened;
        assert_eq!((opened.protocol, opened.server), (TCP, SocketAddr::new(ip(address), PORT)));
    }
    assert_eq!(tap.stats().malformed, 0);
}

#[test]
fn small_segments_keep_their_bounds_and_a_reset_is_a_reset() {
    let target = Target::new();
    let mut tap = Tap::start(&target);
    tap.apply(&[port(PORT, TCP)]);
    let (mut near, mut far) = pair(&target, Target::ADDRESSES[0], PORT, false);
    let client = near.local_addr().expect("an address");
    for message in [&b"one"[..], b"twotwo", b"three"] {
        near.write_all(message).expect("sent");
        let mut received = vec![0; message.len()];
        far.read_exact(&mut received).expect("received");
    }
    tap.wait("all three", |copies| copies.of(client).filter(|flow| flow.content == b"onetwotwothree").map(|_| ()));
    reset(near);
    assert_eq!(tap.ended(client).end, FrameKind::Reset);
}

#[test]
fn other_ports_never_reach_the_tap_and_cost_nothing() {
    let target = Target::new();
    let mut tap = Tap::start(&target);
    tap.apply(&[port(PORT, TCP), port(PORT, UDP)]);
    let before = tap.stats();
    for address in Target::ADDRESSES {
        transfer(pair(&target, address, OTHER_PORT, false), 8 << 20);
        let receiver = listen_udp(&target, address, OTHER_PORT);
        let sender = udp(&target.client, ip(address), OTHER_PORT);
        sender.send(&pattern::slice(0, 1_000)).expect("sent");
        assert_eq!(receiver.recv(&mut [0; 2_000]).expect("received"), 1_000);
    }
    let after = tap.stats();
    assert_eq!((after.frames, after.ring_drops), (before.frames, 0), "{after:?}");
    assert!(tap.copies().flows.is_empty());
}

#[test]
fn rules_are_switched_under_way_and_nothing_comes_of_a_port_that_is_off() {
    let target = Target::new();
    let mut tap = Tap::start(&target);
    let (mut near, mut far) = pair(&target, Target::ADDRESSES[0], PORT, false);
    let client = near.local_addr().expect("an address");
    let mut exchange = |message: &[u8]| {
        near.write_all(message).expect("sent");
        far.read_exact(&mut vec![0; message.len()]).expect("received");
    };
    exchange(b"before");
    for round in 1..=100 {
        tap.apply(&[port(PORT, TCP)]);
        exchange(b"on");
        tap.wait("a copy from the middle", |copies| {
            let flow = copies.flows.get(round - 1).filter(|flow| flow.content == b"on")?;
            assert!(!flow.opened.from_start);
            Some(())
        });
        tap.apply(&[]);
        assert_eq!(tap.ended(client).end, FrameKind::Gone);
        exchange(b"off");
    }
    tap.apply(&[port(OTHER_PORT, TCP)]);
    exchange(b"other");
    assert_eq!(tap.copies().flows.len(), 100);
}

#[test]
fn an_interface_that_comes_later_is_looked_at() {
    let target = Target::new();
    let mut tap = Tap::start(&target);
    tap.apply(&[port(PORT, TCP)]);
    let (address, client) = ("10.98.0.2", "10.98.0.1");
    let [near, far] = [&target.client, &target.target].map(|namespace| Wiring::open(namespace).expect("netlink"));
    near.add_veth("later", &target.target, "later").expect("a cable");
    for (end, address) in [(&near, client), (&far, address)] {
        end.set_up("later").expect("up");
        end.add_address("later", ip(address), 24).expect("an address");
    }
    let bytes = 1 << 20;
    // The tap hears of it as soon as its turn comes.
    wait::until("a connection is copied from its start", PATIENCE, || {
        let copied = tap.ended(transfer(pair(&target, address, PORT, false), bytes));
        copied.from_start && (copied.bytes, copied.gaps, copied.is_pattern) == (bytes, 0, true)
    });
}

#[test]
fn what_comes_through_a_bridge_is_copied_once() {
    let target = Target::new();
    let mut tap = Tap::start(&target);
    tap.apply(&[port(PORT, TCP)]);
    // The cable's end keeps its addresses, as ports of bridges may.
    let script = "ip link add br0 type bridge && ip link set br0 up && ip link set eth0 master br0 \
                  && ip address add 10.99.0.3/24 dev br0 && ip route del 10.99.0.0/24 dev eth0";
    process::run(target.target.command("sh").args(["-euc", script]));
    let bytes = 4 << 20;
    let copied = tap.ended(transfer(pair(&target, "10.99.0.3", PORT, false), bytes));
    assert_eq!((copied.bytes, copied.gaps, copied.is_pattern), (bytes, 0, true), "{copied:?}");
    let before = tap.stats().frames;
    let payload = [0; 100];
    let receiver = listen_udp(&target, "10.99.0.3", PORT);
    tap.apply(&[port(PORT, UDP)]);
    let sender = udp(&target.client, ip("10.99.0.3"), PORT);
    for _ in 0..10 {
        sender.send(&payload).expect("sent");
        receiver.recv(&mut [0; 200]).expect("received");
    }
    assert_eq!(tap.stats().frames, before + 10);
}

fn listen_udp(target: &Target, address: &str, port: u16) -> UdpSocket {
    let socket = target.target.run(|| UdpSocket::bind((ip(address), port))).expect("the target's own address");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    socket
}

#[test]
fn datagrams_of_every_size_are_copied_also_those_that_come_in_fragments() {
    let target = Target::new();
    let mut tap = Tap::start(&target);
    tap.apply(&[port(PORT, UDP)]);
    let sizes = [0, 1, 200, 1_400, 1_472, 1_473, 3_000, 9_000, 65_000];
    for address in Target::ADDRESSES {
        let receiver = listen_udp(&target, address, PORT);
        let sender = udp(&target.client, ip(address), PORT);
        let client = sender.local_addr().expect("an address");
        for size in sizes {
            sender.send(&pattern::slice(0, size)).expect("sent");
            assert_eq!(receiver.recv(&mut vec![0; 70_000]).expect("received"), size, "{address}");
        }
        tap.wait("every datagram", |copies| {
            let flow = copies.of(client).filter(|flow| flow.datagrams.len() == sizes.len())?;
            assert_eq!(flow.datagrams, sizes.map(|size| (size, true)), "{address}");
            assert!(flow.gaps.is_empty() && flow.opened.protocol == UDP);
            Some(())
        });
    }
    assert_eq!(tap.copies().flows.len(), 2);
}

#[test]
fn datagrams_that_are_sent_as_one_frame_are_copied_as_the_target_reads_them() {
    let target = Target::new();
    let mut tap = Tap::start(&target);
    tap.apply(&[port(PORT, UDP), port(PORT, TCP)]);
    let [v4, v6] = Target::ADDRESSES;
    for (address, over_loopback) in [(v4, false), (v6, false), ("127.0.0.1", true)] {
        let receiver = listen_udp(&target, address, PORT);
        let sender = udp(if over_loopback { &target.target } else { &target.client }, ip(address), PORT);
        let client = sender.local_addr().expect("an address");
        let mut sizes = Vec::new();
        for (bytes, each) in [(60_000_usize, 1_400_i32), (1_000, 300), (900, 300), (100, 300), (12_800, 200)] {
            setsockopt(&sender, UdpGsoSegment, &each).expect("the kernel can");
            sender.send(&pattern::slice(0, bytes)).expect("sent");
            let each = usize::try_from(each).expect("positive");
            let read: Vec<usize> =
                (0..bytes.div_ceil(each)).map(|_| receiver.recv(&mut [0; 70_000]).expect("received")).collect();
            assert_eq!((read.iter().sum::<usize>(), read[0]), (bytes, bytes.min(each)));
            sizes.extend(read);
        }
        tap.wait("every datagram", |copies| {
            let flow = copies.of(client).filter(|flow| flow.datagrams.len() >= sizes.len())?;
            assert_eq!(flow.datagrams.iter().map(|(len, _)| *len).collect::<Vec<_>>(), sizes, "{address}");
            Some(())
        });
    }
}

#[test]
fn what_the_target_only_forwards_is_not_copied() {
    let target = Target::new();
    let mut tap = Tap::start(&target);
    tap.apply(&[port(PORT, TCP), port(PORT, UDP)]);
    // Behind the target is another machine, to which it is the way.
    let behind = Namespace::new("behind", target.directory(), &Resolver::default()).expect("a namespace");
    let (near, far) = ("10.97.0.1", "10.97.0.2");
    let ends = [&target.target, &behind].map(|namespace| Wiring::open(namespace).expect("netlink"));
    ends[0].add_veth("inner", &behind, "inner").expect("a cable");
    for (end, address) in ends.iter().zip([near, far]) {
        end.set_up("inner").expect("up");
        end.add_address("inner", ip(address), 24).expect("an address");
    }
    target.target.run(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("the namespace's own"));
    let route = |namespace: &Namespace, to: &str, via: &str| {
        process::run(namespace.command("ip").args(["route", "add", to, "via", via]));
    };
    route(&target.client, "10.97.0.0/24", Target::ADDRESSES[0]);
    route(&behind, "10.99.0.0/24", near);
    let bytes = 1 << 20;
    let listener = listen(&behind, ip(far), PORT);
    let near_end = dial(&target.client, ip(far), PORT).expect("a connection");
    transfer((near_end, accept(&listener)), bytes);
    let sender = udp(&target.client, ip(far), PORT);
    sender.send(&[0; 3_000]).expect("sent");
    // The target's own addresses are copied, on whichever side they are.
    for address in [near, Target::ADDRESSES[0]] {
        let copied = tap.ended(transfer(pair(&target, address, PORT, false), bytes));
        assert_eq!((copied.bytes, copied.gaps), (bytes, 0), "{address}");
    }
    assert_eq!(tap.copies().flows.len(), 2, "{:?}", tap.copies().flows);
    assert!(tap.stats().for_others > 3);
}

#[test]
fn interfaces_that_come_and_go_all_the_time_do_not_end_the_tap() {
    let target = Target::new();
    let mut tap = Tap::start(&target);
    tap.apply(&[port(PORT, TCP)]);
    let script = "i=0; while [ $i -lt 300 ]; do ip link add d$i type veth peer name e$i; ip addr add 10.96.0.1/32 dev d$i; \
                  ip link del d$i; i=$((i + 1)); done";
    tap.signal(Signal::SIGSTOP);
    process::run(target.target.command("sh").args(["-ec", script]));
    tap.signal(Signal::SIGCONT);
    process::run(target.target.command("sh").args(["-ec", script]));
    let copied = tap.ended(transfer(pair(&target, Target::ADDRESSES[0], PORT, false), 1_000));
    assert_eq!((copied.bytes, copied.gaps), (1_000, 0));
}

#[test]
fn more_ports_than_a_filter_has_room_for_are_looked_for_all_the_same() {
    let target = Target::new();
    let mut tap = Tap::start(&target);
    // What kernels before Linux 6.8 give.
    target.target.run(|| fs::write("/proc/sys/net/core/optmem_max", "20480").expect("the namespace's own"));
    let ports: Vec<u16> = (0..1_000).map(|n| 10_000 + 11 * n).collect();
    for round in 0..3 {
        let rules: Vec<_> = ports.iter().skip(round).map(|&number| port(number, TCP)).collect();
        tap.apply(&rules);
    }
    for (number, is_copied) in [(ports[3], true), (ports[3] + 1, false), (ports[999], true), (ports[0], false)] {
        let flows = tap.copies().flows.len();
        let client = transfer(pair(&target, Target::ADDRESSES[0], number, false), 10_000);
        if is_copied {
            assert_eq!(tap.ended(client).bytes, 10_000);
        }
        assert_eq!(tap.copies().flows.len(), flows + usize::from(is_copied), "{number}");
    }
}

#[test]
fn a_sample_takes_whole_connections_and_counts_the_others() {
    const CONNECTIONS: u64 = 200;
    let target = Target::new();
    let mut tap = Tap::start(&target);
    let mut rule = port(PORT, TCP);
    rule.sample = Sample::millionths(300_000);
    tap.apply(&[rule]);
    let bytes = 10_000;
    for _ in 0..CONNECTIONS {
        transfer(pair(&target, Target::ADDRESSES[0], PORT, false), bytes);
    }
    let stats = tap.stats();
    let left_out = stats.ports[0].left_out;
    let copies = tap.copies();
    let copied = copies.flows.len() as u64;
    assert!((20..110).contains(&copied), "{copied} of {CONNECTIONS}");
    assert_eq!(left_out.flows + copied, CONNECTIONS, "{left_out:?}");
    assert_eq!(left_out.bytes, (CONNECTIONS - copied) * bytes, "{left_out:?}");
    for flow in &copies.flows {
        assert!(rule.sample.takes(flow.opened.sample_number));
        assert_eq!((flow.bytes, flow.is_pattern(), flow.gaps.len()), (bytes, true, 0));
    }
}
