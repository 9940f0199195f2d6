//! A link of 1 Gbit/s and 50 ms with and without loss: a download and a small request beside it, against kernel BBR on the same link.

use std::{thread, time::Duration};

use anyhow::Result;
use cli::demo::plan;
use tests::emulator::Conditions;

use crate::{
    Effort,
    bulk::{self, Iperf, Way},
    latency::{exchanges, micros},
    report::{Bar, Report},
    stage::Stage,
};

const GROUP: &str = "wan";
const RATE: u64 = 1_000_000_000;
const RTT: Duration = Duration::from_millis(50);
/// Long enough that the start does not count.
const LEAST: Duration = Duration::from_secs(8);

pub(crate) fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    for (name, loss, bar) in [("no loss", 0.0, None), ("0.1 % loss", 0.001, Some(1.2)), ("1 % loss", 0.01, Some(1.5))] {
        let stage = Stage::on_link(Conditions::path(RATE, RTT).with_loss(loss))?;
        let service = plan::SPARE.v4.to_string();
        let _server = bulk::serve(&stage, &stage.lab.cluster, &service)?;
        let iperf = Iperf { flows: 1, way: Way::Down, time: effort.time.max(LEAST), congestion: Some("bbr") };
        let mbits = |(bytes, seconds): (f64, f64)| bytes * 8e-6 / seconds;
        let (mut direct, mut rates, mut p95) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..effort.rounds {
            direct.push(mbits(iperf.run(&stage.lab.host, &service)?));
            let (rate, times) = stage.joined(Some("udp"), || {
                thread::scope(|scope| {
                    let bulk = scope.spawn(|| iperf.run(&stage.lab.host, &service));
                    thread::sleep(Duration::from_secs(2));
                    let times = exchanges(&stage, 60, Duration::from_millis(20));
                    Ok((bulk.join().expect("the bulk thread does not panic")?, times?))
                })
            })?;
            rates.push(mbits(rate));
            p95.push(micros(&times, 0.95) / 1_000.0);
        }
        report.add(GROUP, format!("{name}: direct, kernel BBR"), direct.clone(), "Mbit/s", Bar::None);
        let least = bar.map_or(Bar::AtLeast(800.0), |_| Bar::None);
        report.add(GROUP, format!("{name}: udp"), rates.clone(), "Mbit/s", least);
        if let Some(bar) = bar {
            let ratios = rates.iter().zip(&direct).map(|(rate, direct)| rate / direct).collect();
            report.add(GROUP, format!("{name}: udp, of direct"), ratios, "x", Bar::AtLeast(bar));
        }
        report.add(GROUP, format!("{name}: small request beside it, p95"), p95, "ms", Bar::AtMost(70.0));
    }
    Ok(())
}
