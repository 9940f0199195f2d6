//! Whether the copy is whole at each rate, whether all that it lacks is shown, and what it costs.
//! Before: [`super`]; after: [`super::client`], [`super::balance`].

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::Result;

use super::{
    balance::{Balance, drained, settled},
    client::Pace,
    counts::Counts,
    scene::Scene,
};
use crate::{
    Effort,
    report::{Bar, Report},
};

/// Of single streams.
const GROUP: &str = "copy";
/// For zero loss at 3 Gbit/s.
const LONG: Duration = Duration::from_secs(10);
const STOPPED: Duration = Duration::from_secs(5);
const TEN_GIB: u64 = 10 << 30;
/// Up to here what is lost is shown to the byte.
const EXACT_GBITS: f64 = 4.0;

/// What was mirrored.
pub(super) struct Copied {
    balance: Balance,
    /// Of tap, gateway and session, in seconds for a GB that the target read.
    cpu: [f64; 3],
}

pub(super) fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    let mut scene = Scene::new()?;
    let mut highest = 0.0;
    for gbits in [1.0, 2.0, 3.0, 4.0, 5.0] {
        let (time, bar) =
            if gbits == 3.0 { (effort.time.max(LONG), Bar::AtMost(0.0)) } else { (effort.time, Bar::None) };
        if rate(&mut scene, Some(gbits), Effort { time, ..effort }, bar, report)? {
            highest = gbits;
        }
    }
    report.add(GROUP, "highest rate without a loss", vec![highest], "Gbit/s", Bar::AtLeast(3.0));
    rate(&mut scene, None, effort, Bar::None, report)?;
    stopped_tap(&mut scene, Some(EXACT_GBITS), effort, report)?;
    stopped_tap(&mut scene, None, effort, report)
}

/// One stream of 10 GiB at 3 Gbit/s.
pub(super) fn large(report: &mut Report) -> Result<()> {
    let mut scene = Scene::new()?;
    let (is_equal, copied) = scene.mirrored(&[], |scene| {
        let before = scene.target_counts()?.bytes;
        let copied = copied(scene, || {
            scene.client.numbered(1, 1, &Pace::new(Some(3.0)), |_| TEN_GIB)?;
            Ok(scene.target_counts()?.bytes - before)
        })?;
        Ok((equal(&scene.target_counts()?, &scene.listener_counts()?, 1) == 1, copied))
    })?;
    let name = "10 GiB in one connection at 3 Gbit/s";
    report.add(GROUP, format!("{name}: equal"), vec![f64::from(u8::from(is_equal))], "", Bar::AtLeast(1.0));
    tell(GROUP, name, Some(3.0), &[copied], Bar::AtMost(0.0), report);
    Ok(())
}

/// How many connections of `count` have the same bytes at the listener as at the target.
pub(super) fn equal(target: &Counts, listener: &Counts, count: u32) -> usize {
    let is_equal = |number: &u32| {
        let read = target.numbered.get(number);
        read.is_some() && read == listener.numbered.get(number)
    };
    (0..count).filter(is_equal).count()
}

/// Measures one rate; whether nothing was lost in any round.
fn rate(scene: &mut Scene, gbits: Option<f64>, effort: Effort, bar: Bar, report: &mut Report) -> Result<bool> {
    let one = |scene: &Scene| copied(scene, || Ok(scene.client.stream(gbits, effort.time)?.bytes));
    let rounds = (0..effort.rounds).map(|_| scene.mirrored(&[], one)).collect::<Result<Vec<_>>>()?;
    let name = name(gbits);
    tell(GROUP, &name, gbits, &rounds, bar, report);
    Ok(rounds.iter().all(|round| round.balance.lost_percent() == 0.0))
}

/// The tap stopped for 5 s in the middle of a stream.
fn stopped_tap(scene: &mut Scene, gbits: Option<f64>, effort: Effort, report: &mut Report) -> Result<()> {
    let during = |scene: &Scene| {
        thread::scope(|inner| {
            let stream = inner.spawn(|| scene.client.stream(gbits, STOPPED + Duration::from_secs(2)));
            thread::sleep(Duration::from_secs(1));
            scene.tap().stop();
            thread::sleep(STOPPED);
            scene.tap().go_on();
            stream.join().expect("the client does not panic")
        })
    };
    let one = |scene: &Scene| copied(scene, || Ok(during(scene)?.bytes));
    let rounds = (0..effort.rounds).map(|_| scene.mirrored(&[], one)).collect::<Result<Vec<_>>>()?;
    tell(GROUP, &format!("{}, tap stopped for 5 s", name(gbits)), gbits, &rounds, Bar::None, report);
    Ok(())
}

/// Adds what became of all rounds, and what it cost.
pub(super) fn tell(
    group: &'static str,
    name: &str,
    gbits: Option<f64>,
    rounds: &[Copied],
    lost: Bar,
    report: &mut Report,
) {
    let each = |figure: fn(&Balance) -> f64| rounds.iter().map(|round| figure(&round.balance)).collect::<Vec<_>>();
    let most_wrong = if gbits.is_some_and(|gbits| gbits <= EXACT_GBITS) { 0.0 } else { 0.1 };
    report.add(group, format!("{name}: lost"), each(Balance::lost_percent), "%", lost);
    let wrong = each(Balance::wrong_percent);
    report.add(group, format!("{name}: lost and not shown"), wrong, "%", Bar::AtMost(most_wrong));
    for (reason, percent) in by_reason(rounds) {
        report.add(group, format!("{name}: shown as {reason}"), percent, "%", Bar::None);
    }
    for (who, of) in ["tap", "gateway", "session"].into_iter().enumerate() {
        let each = rounds.iter().map(|round| round.cpu[who]).collect();
        report.add(group, format!("{name}: CPU of the {of}"), each, "s/GB", Bar::None);
    }
}

fn by_reason(rounds: &[Copied]) -> BTreeMap<String, Vec<f64>> {
    let mut all = BTreeMap::new();
    for (number, round) in rounds.iter().enumerate() {
        for (reason, percent) in round.balance.shown_percent() {
            all.entry(reason.to_owned()).or_insert_with(|| vec![0.0; rounds.len()])[number] = percent;
        }
    }
    all
}

/// Lets the target read something, and waits for the copy.
pub(super) fn copied(scene: &Scene, stream: impl FnOnce() -> Result<u64>) -> Result<Copied> {
    let before = scene.cpu();
    let target = stream()?;
    drained(scene);
    let after = scene.cpu();
    let gigabytes = target as f64 * 1e-9;
    let cpu = std::array::from_fn(|who| (after[who] - before[who]) / gigabytes);
    Ok(Copied { balance: settled(scene, target)?, cpu })
}

fn name(gbits: Option<f64>) -> String {
    gbits.map_or_else(|| "top rate".to_owned(), |gbits| format!("{gbits} Gbit/s"))
}
