//! [`Balance`]: what the target read, against what the listener read and what the status shows as lost.
//! Before: [`mod@super::copy`], [`mod@super::flows`]; after: [`super::scene`].

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tunnel::control::mirror_status::RuleStatus;

use super::scene::Scene;

/// For the copy to come to rest.
const PATIENCE: Duration = Duration::from_secs(40);
/// Reports come once a second: nothing new for this long is the end.
const QUIET: Duration = Duration::from_millis(2_500);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Bytes.
#[derive(Debug, Clone)]
pub(super) struct Balance {
    target: u64,
    listener: u64,
    shown: Shown,
}

/// Bytes that the status shows as not copied or not delivered, by reason.
pub(super) type Shown = Vec<(String, u64)>;

impl Balance {
    pub(super) fn lost_percent(&self) -> f64 {
        100.0 * (self.target as f64 - self.listener as f64) / self.target as f64
    }

    /// What was lost and not shown, or shown and not lost.
    pub(super) fn wrong_percent(&self) -> f64 {
        100.0 * (self.target as f64 - self.listener as f64 - sum(&self.shown) as f64).abs() / self.target as f64
    }

    /// What is shown as lost, by reason, as parts of what the target read.
    pub(super) fn shown_percent(&self) -> impl Iterator<Item = (&str, f64)> {
        self.shown.iter().map(|(reason, bytes)| (reason.as_str(), 100.0 * *bytes as f64 / self.target as f64))
    }
}

/// Waits until the listener reads nothing more.
pub(super) fn drained(scene: &Scene) {
    let (began, mut last, mut same) = (Instant::now(), None, 0);
    while same < 3 && began.elapsed() < PATIENCE {
        thread::sleep(LOOK_EVERY);
        let now = scene.listener_counts().ok().map(|counts| (counts.bytes, counts.open));
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
}

/// Waits until all is accounted for, or nothing moves any more.
pub(super) fn settled(scene: &Scene, target: u64) -> Result<Balance> {
    let began = Instant::now();
    let (mut last, mut moved) = ((0, Shown::new()), began);
    loop {
        let now = (scene.listener_counts()?.bytes, shown(&scene.rule()?));
        if now != last {
            (last, moved) = (now, Instant::now());
        }
        let (listener, shown) = &last;
        if listener + sum(shown) == target || moved.elapsed() > QUIET {
            return Ok(Balance { target, listener: *listener, shown: shown.clone() });
        }
        ensure!(began.elapsed() < PATIENCE, "the copy does not come to rest: {:?}", scene.rule()?);
        thread::sleep(LOOK_EVERY);
    }
}

fn sum(shown: &Shown) -> u64 {
    shown.iter().map(|(_, bytes)| bytes).sum()
}

fn shown(rule: &RuleStatus) -> Shown {
    let lost = rule.replicas.iter().flat_map(|replica| &replica.lost);
    let lost = lost.map(|(reason, loss)| (format!("{reason:?}").to_lowercase(), loss.bytes));
    let delivery = &rule.delivery;
    let here = [
        ("listener lag", delivery.listener_lag),
        ("not delivered", delivery.not_delivered),
        ("not joined", delivery.not_joined),
        ("switched off", delivery.switched_off),
        ("source gone", delivery.source_gone),
    ];
    let here = here.into_iter().map(|(reason, loss)| (reason.to_owned(), loss.bytes));
    lost.chain(here).filter(|(_, bytes)| *bytes > 0).collect()
}
