//! What the gateways of a session's life have said about one rule: each counts from zero, so what a former one counted is added up
//! here; and when there was none. Before: `gateway::mirror`; after: [`super::rules`].

use std::{collections::BTreeMap, time::Duration};

use link::rules::{Loss, MirrorCounts, ReplicaReport, ReplicaState};
use tokio::time::Instant;

use crate::control::mirror_status::{Connections, Hole, ReplicaStatus};

/// Replicas that are remembered; of more, those that are gone are forgotten first.
const MAX_REPLICAS: usize = 256;
/// Holes that are remembered.
const MAX_HOLES: usize = 16;
/// Without a report for this long nothing has changed: the gateway sends one a second while something does.
const RATE_AGE: Duration = Duration::from_millis(2_500);

/// One rule's.
#[derive(Debug, Default)]
pub(super) struct Reports {
    replicas: BTreeMap<String, Replica>,
    holes: Vec<Hole>,
    reported_at: Option<Instant>,
    /// Taps of the last report that have yet to begin.
    is_starting: bool,
}

#[derive(Debug, Default)]
struct Replica {
    /// What is over: of former gateways, and of times before the rule was switched off.
    former: MirrorCounts,
    last: ReplicaReport,
    bytes_per_second: u64,
}

impl Reports {
    /// Whether each replica is known to be copied, or why it is not.
    pub(super) const fn are_settled(&self) -> bool {
        self.reported_at.is_some() && !self.is_starting
    }

    /// A report, with all replicas.
    pub(super) fn take(&mut self, replicas: Vec<ReplicaReport>) {
        let now = Instant::now();
        let elapsed = self.reported_at.replace(now).map(|before| now.duration_since(before));
        self.is_starting =
            replicas.iter().any(|report| matches!(report.state, ReplicaState::Starting | ReplicaState::Silent));
        for report in replicas {
            if self.replicas.len() >= MAX_REPLICAS && !self.replicas.contains_key(&report.name) {
                self.replicas.retain(|_, replica| replica.last.state != ReplicaState::Gone);
                if self.replicas.len() >= MAX_REPLICAS {
                    continue;
                }
            }
            self.replicas.entry(link::printable::printable(&report.name, 512)).or_default().take(report, elapsed);
        }
    }

    /// The rule is switched. What is reported until the gateway has it off belongs to what was before; on, nothing is known at first.
    pub(super) fn switch(&mut self, on: bool) {
        if on {
            self.reported_at = None;
        } else {
            self.find_gateway(crate::control::status::unix_now());
        }
    }

    /// What is counted from here on is counted from zero.
    pub(super) fn end(&mut self) {
        self.reported_at = None;
        for replica in self.replicas.values_mut() {
            replica.end();
        }
        self.find_gateway(crate::control::status::unix_now());
    }

    /// The gateway is gone while the rule is on.
    pub(super) fn lose_gateway(&mut self, now: u64) {
        self.end();
        if self.holes.len() == MAX_HOLES {
            self.holes.remove(0);
        }
        self.holes.push(Hole { since_unix: now, until_unix: None });
    }

    /// A gateway copies, or the rule is off.
    pub(super) fn find_gateway(&mut self, now: u64) {
        if let Some(hole) = self.holes.last_mut() {
            hole.until_unix.get_or_insert(now);
        }
    }

    pub(super) fn nobody_listens(&self) -> bool {
        self.replicas.values().any(|replica| replica.last.nobody_listens && replica.last.state != ReplicaState::Gone)
    }

    pub(super) fn holes(&self) -> Vec<Hole> {
        self.holes.clone()
    }

    pub(super) fn replicas(&self) -> Vec<ReplicaStatus> {
        let is_fresh = self.reported_at.is_some_and(|at| at.elapsed() < RATE_AGE);
        self.replicas.iter().map(|(name, replica)| replica.status(name.clone(), is_fresh)).collect()
    }
}

impl Replica {
    fn take(&mut self, report: ReplicaReport, elapsed: Option<Duration>) {
        if report.counts.total < self.last.counts.total || report.counts.bytes < self.last.counts.bytes {
            self.end();
        }
        let bytes = report.counts.bytes - self.last.counts.bytes;
        let micros = elapsed.map_or(1_000_000, |elapsed| elapsed.as_micros().max(1));
        let rate = u128::from(bytes) * 1_000_000 / micros;
        self.bytes_per_second = u64::try_from(rate).unwrap_or(u64::MAX);
        self.last = report;
    }

    fn end(&mut self) {
        let counts = std::mem::take(&mut self.last.counts);
        self.former = sum(&self.former, &counts);
        self.bytes_per_second = 0;
    }

    fn status(&self, name: String, is_fresh: bool) -> ReplicaStatus {
        let all = sum(&self.former, &self.last.counts);
        ReplicaStatus {
            name,
            state: printable(&self.last.state),
            nobody_listens: self.last.nobody_listens,
            connections: Connections { open: self.last.counts.open, all: all.total, from_middle: all.from_middle },
            bytes: all.bytes,
            datagrams: all.datagrams,
            bytes_per_second: if is_fresh { self.bytes_per_second } else { 0 },
            lost: all.lost,
        }
    }
}

fn printable(state: &ReplicaState) -> ReplicaState {
    match state {
        ReplicaState::Failed { reason } => ReplicaState::Failed { reason: link::printable::printable(reason, 400) },
        ReplicaState::Starting
        | ReplicaState::Tapped
        | ReplicaState::Silent
        | ReplicaState::Gone
        | ReplicaState::Unknown => state.clone(),
    }
}

/// All numbers are a gateway's word, so they may be anything.
fn sum(one: &MirrorCounts, other: &MirrorCounts) -> MirrorCounts {
    let mut lost = one.lost.clone();
    for (reason, loss) in &other.lost {
        let sum = lost.entry(*reason).or_default();
        *sum = Loss {
            flows: sum.flows.saturating_add(loss.flows),
            bytes: sum.bytes.saturating_add(loss.bytes),
            datagrams: sum.datagrams.saturating_add(loss.datagrams),
        };
    }
    MirrorCounts {
        open: other.open,
        total: one.total.saturating_add(other.total),
        from_middle: one.from_middle.saturating_add(other.from_middle),
        bytes: one.bytes.saturating_add(other.bytes),
        datagrams: one.datagrams.saturating_add(other.datagrams),
        lost,
    }
}

#[cfg(test)]
mod tests {
    use link::rules::LossReason;

    use super::*;

    fn report(total: u64, bytes: u64) -> ReplicaReport {
        let lost = [(LossReason::Lag, Loss { bytes, ..Loss::default() })].into();
        let counts = MirrorCounts { open: 1, total, bytes, lost, ..MirrorCounts::default() };
        ReplicaReport { name: "web-1".to_owned(), state: ReplicaState::Tapped, nobody_listens: false, counts }
    }

    #[tokio::test(start_paused = true)]
    async fn what_several_gateways_count_adds_up() {
        let mut reports = Reports::default();
        reports.take(vec![report(3, 1_000)]);
        tokio::time::advance(Duration::from_secs(1)).await;
        reports.take(vec![report(4, 3_000)]);
        assert_eq!(reports.replicas()[0].bytes_per_second, 2_000);
        reports.lose_gateway(100);
        assert_eq!((reports.replicas()[0].connections.open, reports.replicas()[0].bytes), (0, 3_000));
        reports.find_gateway(107);
        reports.take(vec![report(5, 9_000)]);
        let replica = &reports.replicas()[0];
        assert_eq!((replica.connections.all, replica.bytes, replica.lost[&LossReason::Lag].bytes), (9, 12_000, 12_000));
        // A gateway that begins anew without a word.
        reports.take(vec![report(1, 10)]);
        assert_eq!(reports.replicas()[0].bytes, 12_010);
        assert_eq!(reports.holes(), [Hole { since_unix: 100, until_unix: Some(107) }]);
        tokio::time::advance(RATE_AGE).await;
        assert_eq!(reports.replicas()[0].bytes_per_second, 0);
    }
}
