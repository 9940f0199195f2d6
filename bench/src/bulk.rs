//! Bulk flows by iperf3, against the same without adit, against bare quinn, and against wireguard-go.

use std::time::Duration;

use anyhow::{Context, Result};
use cli::demo::{namespace::Namespace, plan};
use serde_json::Value;
use tests::process::Process;

use crate::{
    Effort, cpu, quinn_baseline,
    report::{Bar, Report},
    stage::{Stage, median, output},
    wireguard,
};

const GROUP: &str = "bulk";

/// Which way the bytes go, as the developer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
}

impl Way {
    pub(crate) const BOTH: [Self; 2] = [Self::Up, Self::Down];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// One measurement: Gbit/s, and CPU-seconds per GB of session and gateway together.
#[derive(Debug, Clone, Copy)]
struct Measured {
    gbits: f64,
    cpu: f64,
}

/// One `iperf3` run.
#[derive(Debug, Clone)]
pub(crate) struct Iperf {
    pub(crate) flows: usize,
    pub(crate) way: Way,
    pub(crate) time: Duration,
    pub(crate) congestion: Option<&'static str>,
}

impl Iperf {
    /// Bytes that arrived, and the seconds it took.
    pub(crate) fn run(&self, from: &Namespace, to: &str) -> Result<(f64, f64)> {
        let mut command = from.command("iperf3");
        command.args(["-J", "-c", to, "-P", &self.flows.to_string(), "-t", &self.time.as_secs().to_string()]);
        if self.way == Way::Down {
            command.arg("-R");
        }
        if let Some(congestion) = self.congestion {
            command.args(["-C", congestion]);
        }
        let json: Value = serde_json::from_str(&output(&mut command)?)?;
        let sum = &json["end"]["sum_received"];
        let bytes = sum["bytes"].as_f64().context("iperf3 says no bytes")?;
        let seconds = sum["seconds"].as_f64().context("iperf3 says no seconds")?;
        Ok((bytes, seconds))
    }
}

/// Starts an iperf3 server on an address of a namespace.
pub(crate) fn serve(stage: &Stage, namespace: &Namespace, address: &str) -> Result<Process> {
    let server = stage.lab.spawn("iperf3", namespace.command("iperf3").args(["-s", "-B", address]));
    let address = address.to_owned();
    namespace.run(|| {
        tests::wait::until("iperf3 listens", Duration::from_secs(5), || {
            std::net::TcpStream::connect((address.as_str(), 5201)).is_ok()
        });
    });
    Ok(server)
}

pub(crate) fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    let stage = Stage::on_lan()?;
    let service = plan::SPARE.v4.to_string();
    let _server = serve(&stage, &stage.lab.cluster, &service)?;
    for way in Way::BOTH {
        let mut direct = Vec::new();
        let mut bare = Vec::new();
        let mut wireguard = Vec::new();
        let mut measured = [const { Vec::new() }; 4];
        for _ in 0..effort.rounds {
            let iperf = Iperf { flows: 1, way, time: effort.time, congestion: None };
            let (bytes, seconds) = iperf.run(&stage.lab.host, &service)?;
            direct.push(bytes * 8e-9 / seconds);
            bare.push(quinn_baseline::bulk(&stage, way, effort.time)?.cpu_per_gb);
            wireguard.extend(wireguard::bulk(&stage, way, effort.time)?);
            for (index, (carrier, flows)) in [("udp", 1), ("udp", 8), ("tcp", 1), ("tcp", 8)].into_iter().enumerate() {
                let iperf = Iperf { flows, ..iperf.clone() };
                measured[index].push(stage.joined(Some(carrier), || through(&stage, &iperf, &service))?);
            }
        }
        compare(report, way, &direct, &bare, &wireguard, &measured);
    }
    Ok(())
}

fn through(stage: &Stage, iperf: &Iperf, service: &str) -> Result<Measured> {
    let session = stage.session_pid();
    let cpu =
        || Ok::<_, anyhow::Error>((cpu::of_process(session)? + cpu::of_process(stage.gateway.id())?).as_secs_f64());
    let before = cpu()?;
    let (bytes, seconds) = iperf.run(&stage.lab.host, service)?;
    Ok(Measured { gbits: bytes * 8e-9 / seconds, cpu: (cpu()? - before) / (bytes * 1e-9) })
}

fn compare(
    report: &mut Report,
    way: Way,
    direct: &[f64],
    bare: &[f64],
    wireguard: &[f64],
    measured: &[Vec<Measured>; 4],
) {
    let way = way.name();
    let bare_cpu = median(bare.to_vec());
    let ratio =
        |measured: &[Measured], base: &[f64]| measured.iter().zip(base).map(|(m, base)| m.gbits / base).collect();
    let cpu = |measured: &[Measured], base: f64| measured.iter().map(|m| m.cpu / base).collect::<Vec<_>>();
    report.add(GROUP, format!("{way}: direct"), direct.to_vec(), "Gbit/s", Bar::None);
    report.add(GROUP, format!("{way}: bare quinn, CPU"), bare.to_vec(), "s/GB", Bar::None);
    if !wireguard.is_empty() {
        report.add(GROUP, format!("{way}: wireguard-go"), wireguard.to_vec(), "Gbit/s", Bar::None);
        report.add(
            GROUP,
            format!("{way}: udp of wireguard-go"),
            ratio(&measured[0], wireguard),
            "x",
            Bar::AtLeast(2.0),
        );
    }
    for (name, one, eight, least_rate, most_cpu) in [("udp", 0, 1, 0.35, 1.5), ("tcp", 2, 3, 0.42, 1.0)] {
        let (one, eight) = (&measured[one], &measured[eight]);
        report.add(GROUP, format!("{way}: {name}, 1 flow"), one.iter().map(|m| m.gbits).collect(), "Gbit/s", Bar::None);
        report.add(
            GROUP,
            format!("{way}: {name}, 1 flow, of direct"),
            ratio(one, direct),
            "x",
            Bar::AtLeast(least_rate),
        );
        report.add(GROUP, format!("{way}: {name}, 1 flow, CPU"), cpu(one, 1.0), "s/GB", Bar::None);
        report.add(
            GROUP,
            format!("{way}: {name}, 1 flow, CPU of bare quinn"),
            cpu(one, bare_cpu),
            "x",
            Bar::AtMost(most_cpu),
        );
        let of_one = median(cpu(one, 1.0));
        report.add(GROUP, format!("{way}: {name}, 8 flows, CPU of one"), cpu(eight, of_one), "x", Bar::AtMost(1.1));
    }
}
