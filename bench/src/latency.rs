//! One-byte exchanges: back to back, one a millisecond, and beside a bulk flow.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use cli::demo::plan;

use crate::{
    Effort,
    bulk::{self, Iperf, Way},
    quinn_baseline,
    report::{Bar, Report},
    stage::{Stage, median},
};

const GROUP: &str = "latency";
const BACK_TO_BACK: usize = 5_000;
const ONE_A_MILLISECOND: usize = 1_000;
const A_MILLISECOND: Duration = Duration::from_millis(1);

pub(crate) fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    let stage = Stage::on_lan()?;
    let mut back_to_back = Vec::new();
    let mut paced = Vec::new();
    let (mut direct_busy, mut direct_paced) = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        let bare = micros(&quinn_baseline::exchanges(&stage, BACK_TO_BACK, Duration::ZERO)?, 0.5);
        direct_busy.push(micros(&exchanges(&stage, BACK_TO_BACK, Duration::ZERO)?, 0.5));
        let direct = micros(&exchanges(&stage, ONE_A_MILLISECOND, A_MILLISECOND)?, 0.5);
        direct_paced.push(direct);
        let (busy, slow) = stage.joined(Some("udp"), || {
            let busy = exchanges(&stage, BACK_TO_BACK, Duration::ZERO)?;
            Ok((busy, exchanges(&stage, ONE_A_MILLISECOND, A_MILLISECOND)?))
        })?;
        back_to_back.push(micros(&busy, 0.5) / bare);
        paced.push(micros(&slow, 0.5) - direct);
        report.add(GROUP, "bare quinn, back to back", vec![bare], "us", Bar::None);
        report.add(
            GROUP,
            "udp, back to back, p50 / p99",
            vec![micros(&busy, 0.5), micros(&busy, 0.99)],
            "us",
            Bar::None,
        );
    }
    report.add(GROUP, "direct, back to back", direct_busy, "us", Bar::None);
    report.add(GROUP, "direct, one a millisecond", direct_paced, "us", Bar::None);
    report.add(GROUP, "udp, back to back, of bare quinn", back_to_back, "x", Bar::AtMost(3.0));
    report.add(GROUP, "udp, one a millisecond, over direct", paced, "us", Bar::AtMost(150.0));
    beside_bulk(&stage, effort, report)
}

fn beside_bulk(stage: &Stage, effort: Effort, report: &mut Report) -> Result<()> {
    let service = plan::SPARE.v4.to_string();
    let _server = bulk::serve(stage, &stage.lab.cluster, &service)?;
    for carrier in ["udp", "tcp"] {
        for way in Way::BOTH {
            let (mut p95, mut kept) = (Vec::new(), Vec::new());
            for _ in 0..effort.rounds {
                let (times, share) = stage.joined(Some(carrier), || beside(stage, way, effort.time, &service))?;
                p95.push(micros(&times, 0.95) / 1_000.0);
                kept.push(share);
            }
            let name = way.name();
            report.add(GROUP, format!("{carrier}: beside one bulk flow {name}, p95"), p95, "ms", Bar::AtMost(4.0));
            report.add(GROUP, format!("{carrier}: that bulk flow {name}, of alone"), kept, "x", Bar::AtLeast(0.85));
        }
    }
    Ok(())
}

/// Exchanges beside a bulk flow, and what the bulk flow got of its rate alone.
fn beside(stage: &Stage, way: Way, time: Duration, service: &str) -> Result<(Vec<Duration>, f64)> {
    let iperf = Iperf { flows: 1, way, time, congestion: None };
    let rate = |(bytes, seconds): (f64, f64)| bytes / seconds;
    let alone = rate(iperf.run(&stage.lab.host, service)?);
    let gap = Duration::from_millis(5);
    let count = usize::try_from((time.as_millis() / 6).max(50))?;
    let (bulk, times) = thread::scope(|scope| {
        let bulk = scope.spawn(|| iperf.run(&stage.lab.host, service));
        thread::sleep(Duration::from_millis(300));
        let times = exchanges(stage, count, gap);
        (bulk.join().expect("the bulk thread does not panic"), times)
    });
    Ok((times?, rate(bulk?) / alone))
}

/// One-byte exchanges with the echo service on one connection: the time of each.
pub(crate) fn exchanges(stage: &Stage, count: usize, gap: Duration) -> Result<Vec<Duration>> {
    stage.lab.host.run(|| {
        let mut stream = TcpStream::connect(SocketAddr::from((plan::ECHO.v4, plan::ECHO_PORT)))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let began = Instant::now();
            stream.write_all(&[1])?;
            stream.read_exact(&mut [0])?;
            times.push(began.elapsed());
            if !gap.is_zero() {
                thread::sleep(gap);
            }
        }
        Ok(times)
    })
}

/// The quantile of the times, in microseconds.
pub(crate) fn micros(times: &[Duration], quantile: f64) -> f64 {
    let mut times: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e6).collect();
    if quantile == 0.5 {
        return median(times);
    }
    times.sort_by(f64::total_cmp);
    let at = (times.len() as f64 * quantile) as usize;
    times.get(at.min(times.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}
