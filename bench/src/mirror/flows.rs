//! Many connections: whole, equal, at once, new; datagrams; and how soon a byte is there.
//! Before: [`super`]; after: [`super::client`], [`super::balance`].

use std::time::Duration;

use anyhow::Result;
use tests::wait;

use super::{
    balance::drained,
    client::Pace,
    copy::{copied, equal, tell},
    counts::Counts,
    scene::Scene,
};
use crate::{
    Effort,
    latency::micros,
    report::{Bar, Report},
};

const GROUP: &str = "flows";
const PATIENCE: Duration = Duration::from_secs(20);
const CONNECTIONS: u32 = 10_000;
const AT_ONCE: usize = 64;
const LARGEST: f64 = 4_194_304.0;
const DATAGRAMS_A_SECOND: u32 = 20_000;
const NEW_A_SECOND: u32 = 5_000;
const OPEN: usize = 5_000;
const MESSAGES: usize = 1_000;

pub(super) fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    let mut scene = Scene::new()?;
    latency(&mut scene, effort, report)?;
    datagrams(&mut scene, effort, report)?;
    new(&mut scene, effort, report)?;
    open(&mut scene, report)?;
    equal_connections(&mut scene, report)
}

/// From the byte at the target to the byte at the listener.
fn latency(scene: &mut Scene, effort: Effort, report: &mut Report) -> Result<()> {
    let (mut median, mut p99) = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        let times = scene.mirrored(&[], |scene| {
            let before = scene.target_counts()?.times.len();
            scene.client.timed(MESSAGES, Duration::from_millis(1))?;
            let all = |counts: Result<Counts>| counts.is_ok_and(|counts| counts.times.len() == MESSAGES);
            wait::until("the listener has them all", PATIENCE, || all(scene.listener_counts()));
            let target = scene.target_counts()?.times.split_off(before);
            let pairs = target.into_iter().zip(scene.listener_counts()?.times);
            Ok(pairs.map(|(target, copy)| Duration::from_nanos(copy.saturating_sub(target))).collect::<Vec<_>>())
        })?;
        median.push(micros(&times, 0.5) / 1_000.0);
        p99.push(micros(&times, 0.99) / 1_000.0);
    }
    report.add(GROUP, "target to listener, median", median, "ms", Bar::AtMost(0.5));
    report.add(GROUP, "target to listener, p99", p99, "ms", Bar::AtMost(1.5));
    Ok(())
}

fn datagrams(scene: &mut Scene, effort: Effort, report: &mut Report) -> Result<()> {
    let (mut lost, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        let (missing, used) = scene.mirrored(&["--udp"], |scene| {
            let (before, used) = (scene.target_counts()?.datagrams, scene.cpu());
            let sent = scene.client.datagrams(DATAGRAMS_A_SECOND, effort.time.max(Duration::from_secs(4)))?;
            let mut last = 0;
            wait::until("the datagrams arrive, or none do any more", PATIENCE, || {
                std::thread::sleep(Duration::from_millis(300));
                let now = scene.listener_counts().map_or(0, |counts| counts.datagrams);
                let is_over = now == sent || now == last;
                last = now;
                is_over
            });
            let read = scene.target_counts()?.datagrams - before;
            let used = scene.cpu().iter().sum::<f64>() - used.iter().sum::<f64>();
            Ok((read as f64 - last as f64, 1e6 * used / sent as f64))
        })?;
        lost.push(missing);
        cpu.push(used);
    }
    report.add(GROUP, "20,000 datagrams a second of 200 bytes: lost", lost, "", Bar::AtMost(0.0));
    report.add(GROUP, "20,000 datagrams a second: CPU of adit for one", cpu, "us", Bar::None);
    Ok(())
}

fn new(scene: &mut Scene, effort: Effort, report: &mut Report) -> Result<()> {
    let (mut not_whole, mut rate, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        let time = effort.time.max(Duration::from_secs(4));
        let (missing, made, used) = scene.mirrored(&[], |scene| {
            let used = scene.cpu();
            let made = scene.client.connections(Some(NEW_A_SECOND), time)?.len() as u64;
            drained(scene);
            let used = scene.cpu().iter().sum::<f64>() - used.iter().sum::<f64>();
            Ok((made - scene.listener_counts()?.requests, made, used))
        })?;
        not_whole.push(missing as f64);
        rate.push(made as f64 / time.as_secs_f64());
        cpu.push(1e6 * used / made as f64);
    }
    report.add(GROUP, "5,000 new connections a second: not whole", not_whole, "", Bar::AtMost(0.0));
    report.add(GROUP, "5,000 new connections a second: made", rate, "/s", Bar::None);
    report.add(GROUP, "5,000 new connections a second: CPU of adit for one", cpu, "us", Bar::None);
    Ok(())
}

fn open(scene: &mut Scene, report: &mut Report) -> Result<()> {
    let open = scene.mirrored(&[], |scene| {
        let open = scene.client.open(OPEN)?;
        drained(scene);
        let copies = scene.listener_counts()?.open;
        drop(open);
        Ok(copies)
    })?;
    report.add(GROUP, "copies of 5,000 connections open at once", vec![open as f64], "", Bar::AtLeast(OPEN as f64));
    Ok(())
}

/// Most are small, a few of each hundred are megabytes.
fn size(number: u32) -> u64 {
    // A walk through all residues, so that sizes come in no order.
    let share = f64::from(number.wrapping_mul(7_919) % CONNECTIONS) / f64::from(CONNECTIONS - 1);
    (LARGEST * share.powi(4)) as u64
}

fn equal_connections(scene: &mut Scene, report: &mut Report) -> Result<()> {
    let (equal, copied) = scene.mirrored(&[], |scene| {
        let before = scene.target_counts()?.bytes;
        let copied = copied(scene, || {
            scene.client.numbered(CONNECTIONS, AT_ONCE, &Pace::new(Some(2.0)), size)?;
            Ok(scene.target_counts()?.bytes - before)
        })?;
        Ok((equal(&scene.target_counts()?, &scene.listener_counts()?, CONNECTIONS), copied))
    })?;
    let name = "10,000 connections of 0 B to 4 MiB at 2 Gbit/s";
    let different = CONNECTIONS as usize - equal;
    report.add(GROUP, format!("{name}: not equal"), vec![different as f64], "", Bar::AtMost(0.0));
    tell(GROUP, name, Some(2.0), &[copied], Bar::AtMost(0.0), report);
    Ok(())
}
