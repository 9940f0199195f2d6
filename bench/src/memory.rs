//! Ten thousand flows open at once: what each costs, and what they cost a flow that is busy.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use cli::demo::plan;
use tests::{observe::Usage, process::Process, wait};

use crate::{
    bulk::{self, Iperf, Way},
    cpu,
    report::{Bar, Report},
    stage::{self, Stage},
};

const GROUP: &str = "memory";
const REDIS: (Ipv4Addr, u16) = (plan::CACHE.v4, 6379);
const FLOWS: usize = 10_000;
const SHORT_FLOWS: usize = 20_000;
/// What a closed flow leaves is given back within this long: tombstones take 2 s, the gateway's sockets no time.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn measure(report: &mut Report) -> Result<()> {
    let stage = Stage::on_lan()?;
    let service = plan::SPARE.v4.to_string();
    let _server = bulk::serve(&stage, &stage.lab.cluster, &service)?;
    let _redis = serve(&stage);
    stage.joined(Some("udp"), || {
        let alone = cpu_per_gb(&stage, &service)?;
        let idle = stage.usage()?;
        short_flows(&stage)?;
        let flows = open(&stage)?;
        let open = stage.usage()?;
        let beside = cpu_per_gb(&stage, &service)?;
        let flows = ping_on_each(&stage, flows)?;
        drop(flows);
        let per_flow = |now: &Usage, before: &Usage| {
            (now.resident_bytes as f64 - before.resident_bytes as f64) / 1024.0 / FLOWS as f64
        };
        report.add(GROUP, "session, per open flow", vec![per_flow(&open.0, &idle.0)], "KiB", Bar::AtMost(12.0));
        report.add(GROUP, "gateway, per open flow", vec![per_flow(&open.1, &idle.1)], "KiB", Bar::AtMost(6.0));
        report.add(GROUP, "CPU of one busy flow beside them, of alone", vec![beside / alone], "x", Bar::AtMost(1.1));
        wait::until("the flows are closed", PATIENCE, || stage.lab.status().flows.tcp_open == 0);
        std::thread::sleep(Duration::from_secs(3));
        let closed = stage.usage()?;
        let kept = |now: &Usage, before: &Usage| (now.resident_bytes as f64 - before.resident_bytes as f64) / 1048576.0;
        report.add(GROUP, "session, kept after they closed", vec![kept(&closed.0, &idle.0)], "MiB", Bar::None);
        report.add(GROUP, "gateway, kept after they closed", vec![kept(&closed.1, &idle.1)], "MiB", Bar::None);
        Ok(())
    })
}

fn cpu_per_gb(stage: &Stage, service: &str) -> Result<f64> {
    let session = stage.session_pid();
    let cpu =
        || Ok::<_, anyhow::Error>((cpu::of_process(session)? + cpu::of_process(stage.gateway.id())?).as_secs_f64());
    let iperf = Iperf { flows: 1, way: Way::Up, time: Duration::from_secs(4), congestion: None };
    let before = cpu()?;
    let (bytes, _) = iperf.run(&stage.lab.host, service)?;
    Ok((cpu()? - before) / (bytes * 1e-9))
}

fn short_flows(stage: &Stage) -> Result<()> {
    stage.lab.host.run(|| {
        for number in 0..SHORT_FLOWS {
            let mut stream = connect(stage::echo(number))?;
            stream.write_all(&[7])?;
            stream.read_exact(&mut [0]).context("the echo does not answer")?;
        }
        Ok(())
    })
}

/// Redis is a process of its own, so that its descriptors are not counted against this one's.
fn serve(stage: &Stage) -> Process {
    let mut redis = stage.lab.cluster.command("redis-server");
    let address = plan::CACHE.v4.to_string();
    redis.args(["--bind", &address, "--port", "6379", "--maxclients", "12000", "--save", "", "--protected-mode", "no"]);
    let server = stage.lab.spawn("redis", redis.current_dir(stage.lab.directory()));
    stage.lab.cluster.run(|| wait::until("redis listens", PATIENCE, || TcpStream::connect(REDIS).is_ok()));
    server
}

fn open(stage: &Stage) -> Result<Vec<TcpStream>> {
    stage.lab.host.run(|| {
        let open = |_| {
            let mut stream = connect(REDIS.into())?;
            ping(&mut stream)?;
            Ok(stream)
        };
        (0..FLOWS).map(open).collect()
    })
}

fn ping_on_each(stage: &Stage, mut flows: Vec<TcpStream>) -> Result<Vec<TcpStream>> {
    stage.lab.host.run(move || {
        flows.iter_mut().try_for_each(ping)?;
        Ok(flows)
    })
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

fn ping(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).context("redis does not answer")?;
    ensure!(answer == *b"+PONG\r\n", "redis answers {answer:?}");
    Ok(())
}
