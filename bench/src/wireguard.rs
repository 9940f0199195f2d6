//! wireguard-go between the same two namespaces: the peer that carries packets instead of streams.
//!
//! `make bench` builds it with `go install` into `target/tools`; `wg` is Debian's wireguard-tools.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use cli::demo::plan;
use tests::process::Process;

use crate::{
    bulk::{self, Iperf, Way},
    stage::{Stage, shell},
};

const PORT: u16 = 7901;
const AT_HOST: &str = "192.168.77.2";
const AT_GATEWAY: &str = "192.168.77.1";

/// Gbit/s of one flow through a fresh tunnel; `None` without the program.
pub(crate) fn bulk(stage: &Stage, way: Way, time: Duration) -> Result<Option<f64>> {
    let Ok(program) = PathBuf::from("target/tools/wireguard").canonicalize() else { return Ok(None) };
    let _tunnel = Tunnel::start(stage, &program)?;
    let _server = bulk::serve(stage, &stage.lab.gateway, AT_GATEWAY)?;
    let (bytes, seconds) = Iperf { flows: 1, way, time, congestion: None }
        .run(&stage.lab.host, AT_GATEWAY)
        .context("iperf3 over WireGuard")?;
    Ok(Some(bytes * 8e-9 / seconds))
}

struct Tunnel {
    _ends: [Process; 2],
}

impl Tunnel {
    fn start(stage: &Stage, program: &std::path::Path) -> Result<Self> {
        let lab = &stage.lab;
        let sockets = lab.directory().join("wireguard");
        std::fs::create_dir_all(&sockets)?;
        let start = |name: &str, namespace: &cli::demo::namespace::Namespace| {
            lab.spawn(name, namespace.command(program).args(["-f", name]).env("LOG_LEVEL", "error"))
        };
        let ends = [start("wghost", &lab.host), start("wggateway", &lab.gateway)];
        for name in ["wghost", "wggateway"] {
            tests::wait::until("wireguard-go listens", Duration::from_secs(5), || {
                PathBuf::from(format!("/var/run/wireguard/{name}.sock")).exists()
            });
        }
        let directory = sockets.display();
        let keys = "umask 077; for end in host gateway; do wg genkey > $end.key; wg pubkey < $end.key > $end.pub; done";
        shell(&lab.host, &format!("cd {directory}; {keys}"))?;
        let (host, gateway) = (plan::UPLINK_HOST.v4, plan::UPLINK_GATEWAY.v4);
        shell(
            &lab.gateway,
            &format!(
                "cd {directory}; wg set wggateway listen-port {PORT} private-key gateway.key peer $(cat host.pub) \
                 allowed-ips {AT_HOST}/32 endpoint {host}:{PORT}; ip address add {AT_GATEWAY}/24 dev wggateway; \
                 ip link set wggateway up"
            ),
        )?;
        shell(
            &lab.host,
            &format!(
                "cd {directory}; wg set wghost listen-port {PORT} private-key host.key peer $(cat gateway.pub) \
                 allowed-ips {AT_GATEWAY}/32 endpoint {gateway}:{PORT}; ip address add {AT_HOST}/24 dev wghost; \
                 ip link set wghost up"
            ),
        )?;
        Ok(Self { _ends: ends })
    }
}
