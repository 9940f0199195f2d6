//! What the target's client sees with a tap at work, against none in the same round, whatever became of those behind the tap.
//! Before: [`super`]; after: [`super::client`], [`super::traces`].

use std::time::Duration;

use anyhow::Result;

use super::{
    case::Case,
    scene::Scene,
    traces::{Traces, repairs},
};
use crate::{
    Effort,
    latency::micros,
    report::{Bar, Report},
    stage::median,
};

const GROUP: &str = "target";
/// What a busy pod receives; above it the two cores of a small machine are the limit.
const PACED_GBITS: f64 = 4.0;
const EXCHANGES: usize = 1_500;
const A_MILLISECOND: Duration = Duration::from_millis(1);
const NEW_A_SECOND: u32 = 2_000;

/// What a client sees; and what it costs those behind the tap, in CPU-seconds per GB.
#[derive(Debug, Clone, Copy)]
struct Seen {
    paced: f64,
    paced_cpu: f64,
    repairs: f64,
    median: f64,
    p99: f64,
    new_p99: f64,
    new_a_second: f64,
    top: f64,
    top_cpu: f64,
}

impl Seen {
    fn by(scene: &Scene, time: Duration) -> Result<Self> {
        let client = &scene.client;
        let repaired = || Ok::<_, anyhow::Error>(repairs(&client.namespace)? + repairs(scene.target())?);
        let before = repaired()?;
        let (paced, paced_cpu) = rate(scene, Some(PACED_GBITS), time)?;
        let exchanges = client.exchanges(EXCHANGES, A_MILLISECOND)?;
        let new = client.connections(Some(NEW_A_SECOND), time)?;
        let repairs = (repaired()? - before) as f64;
        let most = client.connections(None, time)?;
        let (top, top_cpu) = rate(scene, None, time)?;
        Ok(Self {
            paced,
            paced_cpu,
            repairs,
            median: micros(&exchanges, 0.5),
            p99: micros(&exchanges, 0.99),
            new_p99: micros(&new, 0.99),
            new_a_second: most.len() as f64 / time.as_secs_f64(),
            top,
            top_cpu,
        })
    }
}

/// Gbit/s of a stream, and what tap, gateway and session used for a GB.
fn rate(scene: &Scene, gbits: Option<f64>, time: Duration) -> Result<(f64, f64)> {
    let before: f64 = scene.cpu().iter().sum();
    let carried = scene.client.stream(gbits, time)?;
    let cpu = scene.cpu().iter().sum::<f64>() - before;
    Ok((carried.gbits(), cpu / carried.gigabytes()))
}

/// A look without a tap and one with it.
type Pair = (Seen, Seen);

pub(super) fn measure(effort: Effort, only: Option<&str>, report: &mut Report) -> Result<()> {
    let mut scene = Scene::new()?;
    traces(&mut scene, report)?;
    let cases = Case::ALL.into_iter().filter(|case| only.is_none_or(|only| case.name() == only));
    let mut seen: Vec<(Case, Vec<Pair>)> = cases.map(|case| (case, Vec::new())).collect();
    for _ in 0..effort.rounds {
        for (case, rounds) in &mut seen {
            // The machine drifts within a round: each case has a look without a tap beside it.
            let without = Seen::by(&scene, effort.time)?;
            let with = scene.with(*case, |scene| Seen::by(scene, effort.time))?;
            rounds.push((without, with));
        }
    }
    let of_none = |rounds: &[Pair]| median(rounds.iter().map(|(without, with)| with.top / without.top).collect());
    let whole = seen.iter().find(|(case, _)| *case == Case::Whole).map_or(f64::NAN, |(_, rounds)| of_none(rounds));
    none(report, &seen);
    for (case, rounds) in &seen {
        compare(report, *case, rounds);
        if matches!(case, Case::ListenerStopped | Case::SessionStopped) {
            let name = format!("{}: top rate, of the whole way's", case.name());
            report.add(GROUP, name, vec![of_none(rounds) / whole], "x", Bar::AtLeast(1.0));
        }
    }
    if only.is_none() { small_frames(&mut scene, effort, report) } else { Ok(()) }
}

fn traces(scene: &mut Scene, report: &mut Report) -> Result<()> {
    let before = Traces::of(scene)?;
    let during = scene.with(Case::Whole, Traces::of)?;
    let after = Traces::of(scene)?;
    let differences = before.difference(&during) + before.difference(&after);
    let name = "lines that differ in ip, nft, ss and the processes";
    report.add(GROUP, name, vec![differences as f64], "", Bar::AtMost(0.0));
    Ok(())
}

/// What is compared with: where it moves much, something else ran on the machine.
fn none(report: &mut Report, seen: &[(Case, Vec<Pair>)]) {
    let each =
        |figure: fn(&Seen) -> f64| seen.iter().flat_map(|(_, rounds)| rounds).map(|(none, _)| figure(none)).collect();
    let mut add = |what: &str, values, unit| report.add(GROUP, format!("none: {what}"), values, unit, Bar::None);
    add("at 4 Gbit/s", each(|none| none.paced), "Gbit/s");
    add("top rate", each(|none| none.top), "Gbit/s");
    add("median of an exchange", each(|none| none.median), "us");
    add("p99 of an exchange", each(|none| none.p99), "us");
    add("p99 of 2,000 new a second", each(|none| none.new_p99), "us");
    add("most new a second", each(|none| none.new_a_second), "/s");
}

fn compare(report: &mut Report, case: Case, rounds: &[Pair]) {
    let name = case.name();
    let each = |figure: fn(&Seen, &Seen) -> f64| rounds.iter().map(|(without, with)| figure(without, with)).collect();
    let mut add = |what: &str, values, unit, bar| report.add(GROUP, format!("{name}: {what}"), values, unit, bar);
    add("at 4 Gbit/s, of none", each(|without, with| with.paced / without.paced), "x", Bar::AtLeast(0.99));
    add("at 4 Gbit/s, CPU of adit", each(|_, with| with.paced_cpu), "s/GB", Bar::None);
    add("top rate, of none", each(|without, with| with.top / without.top), "x", case.top_bar());
    add("top rate", each(|_, with| with.top), "Gbit/s", Bar::None);
    add("top rate, CPU of adit", each(|_, with| with.top_cpu), "s/GB", Bar::None);
    add("median of an exchange, over none", each(|without, with| with.median - without.median), "us", Bar::AtMost(5.0));
    add("p99 of an exchange, of none", each(|without, with| with.p99 / without.p99), "x", Bar::AtMost(1.1));
    let new_p99 = each(|without, with| with.new_p99 / without.new_p99);
    add("p99 of 2,000 new a second, of none", new_p99, "x", Bar::AtMost(1.5));
    add("most new a second, of none", each(|without, with| with.new_a_second / without.new_a_second), "x", Bar::None);
    let repairs = each(|without, with| with.repairs - without.repairs);
    add("retransmissions and resets, over none", repairs, "", Bar::AtMost(0.0));
}

/// The top rate with frames as a card without offloads makes them.
fn small_frames(scene: &mut Scene, effort: Effort, report: &mut Report) -> Result<()> {
    scene.offloads(false)?;
    let (mut of_none, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        let (without, _) = rate(scene, None, effort.time)?;
        let (with, used) = scene.with(Case::Elsewhere, |scene| rate(scene, None, effort.time))?;
        of_none.push(with / without);
        cpu.push(used);
    }
    scene.offloads(true)?;
    let name = "tap alone: top rate in frames of 1,500 bytes";
    report.add(GROUP, format!("{name}, of none"), of_none, "x", Bar::AtLeast(0.55));
    report.add(GROUP, format!("{name}, CPU of adit"), cpu, "s/GB", Bar::None);
    Ok(())
}
