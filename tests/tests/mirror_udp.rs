//! UDP datagrams of a target arrive as they are: every size, and many of them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use cli::demo::plan;
use tests::{
    lab::PATIENCE,
    mirror::{LISTENER, Rig},
    recorder::Recorder,
    sockets, wait,
};

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
