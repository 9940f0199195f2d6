//! The life of one replica's tap: started when a rule wants it, told what to copy, watched, started again when it dies, ended when nobody
//! wants it or its replica is gone. Before: [`super::targets`]; after: [`super::tap_process`], [`super::reader`].

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use link::{
    control::{ControlError, write_message},
    printable::printable,
    rules::ReplicaState,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    process::{Child, ChildStderr},
    sync::watch,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    reader::{self, TapEnd},
    tap::{SILENT_AFTER, Tap},
    tap_process::{RunningTap, StartTap},
    wanted::Wanted,
};
use crate::{
    metrics::Metrics,
    tap::protocol::{ALIVE_EVERY, ToTap},
};

/// Before a tap that died is started again,
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// doubled up to this: what keeps a tap from running is rarely repaired in less.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// A tap that ran for so long was not kept from running.
const GOOD_RUN: Duration = Duration::from_secs(10);
/// A tap whose stream has ended ends by itself; after this it is killed.
const ENDING_TIMEOUT: Duration = Duration::from_secs(1);
/// What a tap says on its standard error, a line.
const LINE_BYTES: usize = 1 << 10;
/// Characters of a tap's reason that a session is told: what a person reads.
const REASON_CHARS: usize = 400;

/// Keeps a tap running until it is over.
pub(super) async fn supervise(tap: Arc<Tap>, start: Arc<dyn StartTap>, metrics: Arc<Metrics>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let started = Instant::now();
        tap.begin();
        metrics.mirror_tap_starts.inc();
        metrics.mirror_taps.inc();
        let reason = tokio::select! {
            reason = run(&tap, start.as_ref(), &metrics) => Some(reason),
            () = tap.over.cancelled() => None,
        };
        metrics.mirror_taps.dec();
        let Some(reason) = reason else { break };
        tracing::warn!(reason, "a tap ended: it is started again");
        tracing::debug!(replica = tap.replica.name, "tap ended");
        tap.fanout().lose_tap(Instant::now());
        tap.set(ReplicaState::Failed { reason });
        pause = if started.elapsed() > GOOD_RUN { FIRST_PAUSE } else { pause };
        tokio::select! {
            () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            () = tap.over.cancelled() => break,
        }
    }
    tap.fanout().leave(Instant::now());
    tap.set(ReplicaState::Gone);
}

/// Starts the tap's process and serves it; why it ended.
async fn run(tap: &Tap, start: &dyn StartTap, metrics: &Metrics) -> String {
    let RunningTap { stream, mut process } = match start.start(&tap.replica.place) {
        Ok(running) => running,
        Err(error) => return format!("the tap's process cannot be started: {error}"),
    };
    let (mut from, to) = stream.into_split();
    let mut errors = process.as_mut().and_then(|process| process.stderr.take());
    let mut last = String::new();
    let end = tokio::select! {
        // First what it says, so that a tap is not taken for silent because the gateway was stopped.
        biased;
        end = reader::read(tap, &mut from, metrics) => end,
        error = tell(tap.wanted.subscribe(), to) => match error {
            ControlError::Io(error) => error.into(),
            ControlError::TooLarge(_) | ControlError::Malformed(_) => unreachable!("the ports of a tap fit a message"),
        },
        never = watch_silence(tap) => match never {},
        never = log(errors.as_mut(), &mut last) => match never {},
    };
    drop(from);
    let status = ended(process, errors, &mut last).await;
    match end {
        TapEnd::Ended | TapEnd::Io(_) if !last.is_empty() => last,
        TapEnd::Ended | TapEnd::Io(_) => format!("the tap ended{status}"),
        // It goes to every session that mirrors the target.
        TapEnd::Nonsense(_) | TapEnd::Failed(_) | TapEnd::Version(_) => printable(&end.to_string(), REASON_CHARS),
    }
}

/// Tells the tap what is wanted whenever that changes, and that the gateway is there.
async fn tell(mut wanted: watch::Receiver<Wanted>, mut to: impl AsyncWrite + Unpin) -> ControlError {
    let mut alive = interval(ALIVE_EVERY);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    wanted.mark_changed();
    loop {
        let message = tokio::select! {
            biased;
            // The sender lives as long as the tap does.
            Ok(()) = wanted.changed() => {
                let Wanted { generation, ports } = wanted.borrow_and_update().clone();
                ToTap::Rules { generation, ports }
            }
            _ = alive.tick() => ToTap::Alive,
        };
        if let Err(error) = write_message(&mut to, &message).await {
            return error;
        }
    }
}

async fn watch_silence(tap: &Tap) -> Infallible {
    let mut look = interval(SILENT_AFTER / 3);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if tap.note_silence(Instant::now()) {
            tracing::warn!("a tap says nothing: what it loses meanwhile is known when it does again");
        }
    }
}

/// Logs what the tap says on its standard error; `last` is the last line. It never ends: what the tap said on its stream is read first.
async fn log(errors: Option<&mut ChildStderr>, last: &mut String) -> Infallible {
    if let Some(errors) = errors {
        log_lines(errors, last).await;
    }
    std::future::pending().await
}

async fn log_lines(errors: &mut (impl AsyncRead + Unpin), last: &mut String) {
    let mut line = Vec::new();
    let mut buffer = [0; LINE_BYTES];
    while let Ok(read @ 1..) = errors.read(&mut buffer).await {
        for byte in &buffer[..read] {
            if *byte != b'\n' && line.len() < LINE_BYTES {
                line.push(*byte);
            } else {
                *last = said(&line);
                line.clear();
            }
        }
    }
    if !line.is_empty() {
        *last = said(&line);
    }
}

fn said(line: &[u8]) -> String {
    let text = printable(&String::from_utf8_lossy(line), LINE_BYTES).to_string();
    tracing::info!("tap: {text}");
    text
}

/// Gives the process its time to end, and reads the rest of what it said; how it ended.
async fn ended(process: Option<Child>, errors: Option<ChildStderr>, last: &mut String) -> String {
    let Some(mut process) = process else { return String::new() };
    let rest = async {
        if let Some(mut errors) = errors {
            log_lines(&mut errors, last).await;
        }
        process.wait().await
    };
    match timeout(ENDING_TIMEOUT, rest).await {
        Ok(Ok(status)) => format!(": {status}"),
        Ok(Err(_)) => String::new(),
        // Killed when dropped.
        Err(_) => ", and its process did not".to_owned(),
    }
}
