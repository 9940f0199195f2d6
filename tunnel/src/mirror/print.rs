//! What is told to those who watch a rule with `--print`: requests with their heads, sizes of everything else.
//!
//! Each watcher has a bounded queue; one that reads too slowly loses lines, which are counted. Before: [`super::connection`],
//! [`super::datagrams`]; after: [`super::commands`].

pub(super) mod transcript;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use link::{mirrored::MirrorHeader, printable::printable};
use tokio::sync::mpsc;

use crate::control::mirror_message::{Printed, PrintedEvent};

/// Events that wait for a watcher; with what [`transcript`] may tell, 8 MiB. What comes when they are full is lost to it and counted.
const MAX_WAITING: usize = 512;

/// Those who watch a rule.
#[derive(Debug, Default)]
pub(super) struct Printers {
    any: AtomicBool,
    all: Mutex<Vec<Printer>>,
}

/// A watcher's near end; one is in several rules' [`Printers`].
#[derive(Debug, Clone)]
pub(super) struct Printer {
    events: mpsc::Sender<Printed>,
    lost: Arc<AtomicU64>,
}

/// A watcher's far end.
#[derive(Debug)]
pub(crate) struct Watcher {
    events: mpsc::Receiver<Printed>,
    lost: Arc<AtomicU64>,
}

pub(super) fn channel() -> (Printer, Watcher) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    let lost = Arc::default();
    (Printer { events: sender, lost: Arc::clone(&lost) }, Watcher { events: receiver, lost })
}

impl Watcher {
    /// What has come, at least one event; `None` when the rules are gone. With it, how many were lost before.
    pub(crate) async fn next(&mut self, most: usize) -> Option<(Vec<Printed>, u64)> {
        let mut events = Vec::new();
        if self.events.recv_many(&mut events, most).await == 0 {
            return None;
        }
        Some((events, self.lost.swap(0, Relaxed)))
    }
}

impl Printers {
    pub(super) fn add(&self, printer: Printer) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(printer);
        self.any.store(true, Relaxed);
    }

    /// Forgets those whose far end is gone; says whether any is left.
    pub(super) fn sweep(&self) -> bool {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|printer| !printer.events.is_closed());
        self.any.store(!all.is_empty(), Relaxed);
        !all.is_empty()
    }

    /// Tells those who watch that nothing more comes.
    pub(super) fn clear(&self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.any.store(false, Relaxed);
    }

    pub(super) fn any(&self) -> bool {
        self.any.load(Relaxed)
    }

    /// Tells all of them what a flow has received.
    pub(super) fn tell(&self, rule: u32, flow: &MirrorHeader, event: PrintedEvent) {
        let printed = Printed {
            unix_millis: unix_millis(),
            rule,
            replica: printable(&flow.replica, link::mirrored::MAX_REPLICA_BYTES),
            client: canonical(flow.client),
            event,
        };
        for printer in self.all.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if printer.events.try_send(printed.clone()).is_err() {
                printer.lost.fetch_add(1, Relaxed);
            }
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use link::rules::RuleProtocol;

    use super::*;

    fn flow() -> MirrorHeader {
        MirrorHeader {
            rule: 1,
            protocol: RuleProtocol::Tcp,
            from_start: true,
            client: "[::ffff:10.0.0.1]:7".parse().unwrap(),
            server: "[::ffff:10.0.0.2]:80".parse().unwrap(),
            seen_unix_micros: 0,
            replica: "web-1".to_owned(),
        }
    }

    #[tokio::test]
    async fn a_slow_watcher_loses_lines_which_are_counted() {
        let (printer, mut watcher) = channel();
        let printers = Printers::default();
        printers.add(printer);
        for bytes in 0..MAX_WAITING as u64 + 3 {
            printers.tell(1, &flow(), PrintedEvent::Bytes { bytes });
        }
        let (events, lost) = watcher.next(10_000).await.unwrap();
        assert_eq!((events.len(), lost), (MAX_WAITING, 3));
        assert_eq!(events[0].client, "10.0.0.1:7".parse().unwrap());
        drop(watcher);
        assert!(!printers.sweep() && !printers.any());
    }
}
