//! Short connections: connect, one byte, its echo, close; fifty at a time.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::LocalSet,
};

use crate::{
    Effort,
    report::{Bar, Report},
    stage::{self, Stage},
};

const GROUP: &str = "connections";
const AT_ONCE: usize = 50;
/// Few enough that three rounds leave most ports out of TIME-WAIT: a search for a free one would be what is measured.
const COUNT: usize = 8_000;
/// None of so many may fail.
const COUNT_ALL: usize = 100_000;
/// Longer than a lost SYN takes to be sent again; one that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    let stage = Stage::on_lan()?;
    let (mut direct, mut ratios) = (Vec::new(), [Vec::new(), Vec::new()]);
    for _ in 0..effort.rounds {
        let (baseline, _) = rate(&stage, COUNT)?;
        direct.push(baseline);
        for (ratios, carrier) in ratios.iter_mut().zip(["udp", "tcp"]) {
            ratios.push(stage.joined(Some(carrier), || rate(&stage, COUNT))?.0 / baseline);
        }
    }
    report.add(GROUP, "direct", direct, "/s", Bar::None);
    let [udp, tcp] = ratios;
    report.add(GROUP, "udp, of direct", udp, "x", Bar::AtLeast(0.45));
    report.add(GROUP, "tcp, of direct", tcp, "x", Bar::None);
    let (_, failed) = stage.joined(Some("udp"), || rate(&stage, COUNT_ALL))?;
    report.add(GROUP, "udp, failed of 100,000", vec![failed as f64], "", Bar::AtMost(0.0));
    Ok(())
}

/// Connections a second, and how many failed.
fn rate(stage: &Stage, count: usize) -> Result<(f64, usize)> {
    stage.lab.host.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (left, failed) = (Arc::new(AtomicUsize::new(count)), Arc::new(AtomicUsize::new(0)));
        let began = Instant::now();
        LocalSet::new().block_on(&runtime, async {
            let workers: Vec<_> =
                (0..AT_ONCE).map(|_| tokio::task::spawn_local(work(Arc::clone(&left), Arc::clone(&failed)))).collect();
            for worker in workers {
                worker.await.expect("a worker does not panic");
            }
        });
        Ok((count as f64 / began.elapsed().as_secs_f64(), failed.load(Ordering::Relaxed)))
    })
}

async fn work(left: Arc<AtomicUsize>, failed: Arc<AtomicUsize>) {
    while let Ok(number) = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
        if !matches!(tokio::time::timeout(PATIENCE, exchange(number)).await, Ok(Ok(()))) {
            failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn exchange(number: usize) -> io::Result<()> {
    let mut stream = TcpStream::connect(stage::echo(number)).await?;
    stream.write_all(&[1]).await?;
    stream.read_exact(&mut [0]).await?;
    stream.shutdown().await?;
    match stream.read(&mut [0]).await? {
        0 => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
