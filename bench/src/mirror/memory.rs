//! What each process holds at most while listeners take nothing under full load. Before: [`super`]; after: [`super::client`].

use std::{thread, time::Duration};

use anyhow::Result;

use super::scene::Scene;
use crate::{
    Effort,
    report::{Bar, Report},
};

const GROUP: &str = "flows";
const STREAMS: usize = 8;
const NEW_A_SECOND: u32 = 500;
const LOOK_EVERY: Duration = Duration::from_millis(100);
const MIB: f64 = 1_048_576.0;
/// The rings, which are the tap's from its first rule on, and what it may have beside them.
const TAP_MIB: f64 = 64.0 + 16.0;
const ABOVE_IDLE_MIB: f64 = 48.0;

pub(super) fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    let mut scene = Scene::new()?;
    let (most, above) = scene.mirrored(&[], |scene| {
        let before = resident(scene);
        let most = under_load(scene, effort.time.max(Duration::from_secs(5)))?;
        let above: [f64; 3] = std::array::from_fn(|who| most[who] - before[who]);
        Ok((most, above))
    })?;
    let ([tap, ..], [_, gateway, session]) = (most, above);
    let name = "listener stopped under full load";
    report.add(GROUP, format!("{name}: the tap holds"), vec![tap], "MiB", Bar::AtMost(TAP_MIB));
    for (who, grown) in [("gateway", gateway), ("session", session)] {
        report.add(GROUP, format!("{name}: {who}, above idle"), vec![grown], "MiB", Bar::AtMost(ABOVE_IDLE_MIB));
    }
    Ok(())
}

/// The most that tap, gateway and session held while streams and new connections went to the target.
fn under_load(scene: &Scene, time: Duration) -> Result<[f64; 3]> {
    scene.listener().stop();
    let most = thread::scope(|inner| {
        let streams: Vec<_> = (0..STREAMS).map(|_| inner.spawn(|| scene.client.stream(None, time))).collect();
        let new = inner.spawn(|| scene.client.connections(Some(NEW_A_SECOND), time));
        let mut most = resident(scene);
        while streams.iter().any(|stream| !stream.is_finished()) {
            thread::sleep(LOOK_EVERY);
            let now = resident(scene);
            most = std::array::from_fn(|who| f64::max(most[who], now[who]));
        }
        for stream in streams {
            stream.join().expect("a client does not panic")?;
        }
        new.join().expect("a client does not panic")?;
        Ok(most)
    });
    scene.listener().go_on();
    most
}

fn resident(scene: &Scene) -> [f64; 3] {
    scene.usage().map(|usage| usage.map_or(f64::NAN, |usage| usage.resident_bytes as f64 / MIB))
}
