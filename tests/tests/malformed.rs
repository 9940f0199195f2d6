//! Noise where packets are expected: dropped, counted, and nobody is hurt.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
};

use cli::demo::plan;
use nix::libc;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use socket2::{Domain, Protocol, Socket, Type};
use tests::{
    lab::{Lab, PATIENCE},
    process, wait,
};

#[test]
fn malformed_packets_hurt_nobody() {
    let lab = Lab::new();
    let mut gateway = lab.start_gateway();
    lab.connect();
    lab.host.run(|| {
        let mut random = StdRng::seed_from_u64(1);
        send_broken_packets(&mut random).expect("raw sockets are the host's");
        send_noise_to_the_gateway(&mut random).expect("the gateway listens");
    });
    assert!(gateway.ended().is_none());
    wait::until("the session still works", PATIENCE, || {
        process::output(lab.host.command("curl").args(["-sS", "http://web.shop/"])).status.success()
    });
    wait::until("malformed packets are counted", PATIENCE, || !lab.status().summary.drops.is_empty());
}

/// Packets to a service whose headers and bodies are noise where they may be.
fn send_broken_packets(random: &mut StdRng) -> io::Result<()> {
    let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
    let to = SocketAddr::new(plan::WEB.v4.into(), 0).into();
    for protocol in [libc::IPPROTO_ICMP, libc::IPPROTO_TCP, libc::IPPROTO_UDP, libc::IPPROTO_ESP, libc::IPPROTO_SCTP] {
        for length in [0, 1, 7, 8, 19, 20, 21, 60, 1_400] {
            for fragment in [[0, 0], [0x20, 0], [0x20, 5], [0, 5]].into_iter().cycle().take(20) {
                let id: [u8; 2] = random.random();
                // Version and length of the header, length and checksum (the kernel's), time to live.
                let mut packet = vec![0x45, 0, 0, 0, id[0], id[1], fragment[0], fragment[1], 64, protocol as u8, 0, 0];
                packet.extend([0; 4]);
                packet.extend(plan::WEB.v4.octets());
                packet.extend((0..length).map(|_| random.random::<u8>()));
                raw.send_to(&packet, &to)?;
            }
        }
    }
    Ok(())
}

fn send_noise_to_the_gateway(random: &mut StdRng) -> io::Result<()> {
    let gateway = (plan::UPLINK_GATEWAY.v4, plan::GATEWAY_PORT);
    let mut noise = |length: usize| -> Vec<u8> { (0..length).map(|_| random.random()).collect() };
    let udp = UdpSocket::bind("0.0.0.0:0")?;
    for length in [0, 1, 20, 1_200, 1_400].into_iter().cycle().take(250) {
        udp.send_to(&noise(length), gateway)?;
    }
    for length in [0, 1, 100, 70_000] {
        // It may hang up before all is written.
        let _ = TcpStream::connect(gateway)?.write_all(&noise(length));
    }
    Ok(())
}
