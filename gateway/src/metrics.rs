//! What the gateway counts, as Prometheus sees it. Counters are looked up once, when made, so that counting is one addition.

mod labels;

use std::marker::PhantomData;

use link::rules::{Loss, LossReason};
use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

pub(crate) use self::labels::{Arrival, Dial, Dns, Dropped, Echo, RefusedStream, Reload};
use self::labels::{Label, Unmirrored};

/// One counter for each value of a label.
#[derive(Debug)]
pub(crate) struct Counts<L> {
    counters: Vec<Counter>,
    label: PhantomData<L>,
}

impl<L: Label> Counts<L> {
    pub(crate) fn count(&self, value: L) {
        self.add(value, 1);
    }

    pub(crate) fn add(&self, value: L, count: u64) {
        self.counters[value.index()].inc_by(count);
    }
}

/// A gauge that is one higher while this lives, and a counter of how many have ended.
#[derive(Debug)]
pub(crate) struct Held {
    open: Gauge,
    ended: Counter,
}

impl Held {
    pub(crate) fn new(open: &Gauge, ended: &Counter) -> Self {
        open.inc();
        Self { open: open.clone(), ended: ended.clone() }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.open.dec();
        self.ended.inc();
    }
}

/// Everything that is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) sessions: Gauge,
    pub(crate) ended_sessions: Counter,
    pub(crate) arrivals: Counts<Arrival>,
    pub(crate) ended_flows: Counter,
    pub(crate) tcp_flows: Gauge,
    pub(crate) dials: Counts<Dial>,
    pub(crate) refused_streams: Counts<RefusedStream>,
    pub(crate) bytes_to_cluster: Counter,
    pub(crate) bytes_to_session: Counter,
    pub(crate) udp_flows: Gauge,
    pub(crate) datagrams_to_cluster: Counter,
    pub(crate) datagrams_to_session: Counter,
    pub(crate) dropped: Counts<Dropped>,
    pub(crate) dns: Counts<Dns>,
    pub(crate) echoes: Counts<Echo>,
    pub(crate) reloads: Counts<Reload>,
    pub(crate) lost_audit_lines: Counter,
    pub(crate) mirror_rules: Gauge,
    pub(crate) mirror_taps: Gauge,
    pub(crate) mirror_tap_starts: Counter,
    pub(crate) mirror_tap_frames: Counter,
    pub(crate) mirror_ring_drops: Counter,
    pub(crate) mirrored_flows: Gauge,
    pub(crate) ended_mirrored_flows: Counter,
    pub(crate) mirrored_bytes: Counter,
    pub(crate) mirrored_datagrams: Counter,
    unmirrored_flows: Counts<Unmirrored>,
    unmirrored_bytes: Counts<Unmirrored>,
    unmirrored_datagrams: Counts<Unmirrored>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("adit_gateway");
        let r = &mut registry;
        Self {
            sessions: gauge(r, "sessions", "Sessions connected"),
            ended_sessions: counter(r, "ended_sessions", "Sessions that ended"),
            arrivals: counts(r, "arrivals", "Peers that proved a certificate, by what became of them"),
            ended_flows: counter(r, "ended_flows", "TCP and UDP flows that ended"),
            tcp_flows: gauge(r, "tcp_flows", "TCP flows connected to the cluster"),
            dials: counts(r, "dials", "TCP dials, by how they ended"),
            refused_streams: counts(r, "refused_streams", "Streams refused before they were anything"),
            bytes_to_cluster: counter(r, "tcp_bytes_to_cluster", "TCP payload from sessions to the cluster"),
            bytes_to_session: counter(r, "tcp_bytes_to_sessions", "TCP payload from the cluster to sessions"),
            udp_flows: gauge(r, "udp_flows", "UDP flows with a socket"),
            datagrams_to_cluster: counter(r, "datagrams_to_cluster", "UDP payloads from sessions to the cluster"),
            datagrams_to_session: counter(r, "datagrams_to_sessions", "UDP payloads from the cluster to sessions"),
            dropped: counts(r, "dropped_datagrams", "Datagrams that went no further, by reason"),
            dns: counts(r, "dns_queries", "DNS queries, by what became of them"),
            echoes: counts(r, "echoes", "Echo requests, by what became of them; the rest had no answer"),
            reloads: counts(r, "reloads", "Configurations read again, by what became of them"),
            lost_audit_lines: counter(r, "lost_audit_lines", "Lines of the audit that could not be written"),
            mirror_rules: gauge(r, "mirror_rules", "Mirror rules that are on"),
            mirror_taps: gauge(r, "mirror_taps", "Taps that run"),
            mirror_tap_starts: counter(
                r,
                "mirror_tap_starts",
                "Taps that were started, again after they died included",
            ),
            mirror_tap_frames: counter(r, "mirror_tap_frames", "Frames that taps read from their rings"),
            mirror_ring_drops: counter(r, "mirror_ring_drops", "Frames that found no room in a tap's ring"),
            mirrored_flows: gauge(r, "mirrored_flows", "Connections and UDP flows that are copied to a session"),
            ended_mirrored_flows: counter(r, "ended_mirrored_flows", "Connections and UDP flows whose copy ended"),
            mirrored_bytes: counter(r, "mirrored_bytes", "Payload copied to sessions"),
            mirrored_datagrams: counter(r, "mirrored_datagrams", "UDP payloads copied to sessions"),
            unmirrored_flows: counts(r, "unmirrored_flows", "Flows that were not copied to a session, by reason"),
            unmirrored_bytes: counts(r, "unmirrored_bytes", "Payload that was not copied to a session, by reason"),
            unmirrored_datagrams: counts(r, "unmirrored_datagrams", "UDP payloads that were not copied, by reason"),
            registry,
        }
    }

    /// Counts what was not copied to a session.
    pub(crate) fn lose_mirrored(&self, reason: LossReason, loss: Loss) {
        let reason = Unmirrored::from(reason);
        self.unmirrored_flows.add(reason, loss.flows);
        self.unmirrored_bytes.add(reason, loss.bytes);
        self.unmirrored_datagrams.add(reason, loss.datagrams);
    }

    /// The exposition text.
    pub(crate) fn render(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("a string takes any text");
        out
    }
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

fn counts<L: Label>(registry: &mut Registry, name: &str, help: &str) -> Counts<L> {
    let family = Family::<[(&'static str, &'static str); 1], Counter>::default();
    registry.register(name, help, family.clone());
    let counters = L::ALL.iter().map(|value| family.get_or_create_owned(&[(L::NAME, value.text())])).collect();
    Counts { counters, label: PhantomData }
}

#[cfg(test)]
mod tests {
    use link::header::DialOutcome;

    use super::*;

    #[test]
    fn what_is_counted_is_rendered_with_its_label_and_zero_is_shown() {
        let metrics = Metrics::new();
        metrics.dials.count(Dial::from(DialOutcome::Refused));
        let held = Held::new(&metrics.sessions, &metrics.ended_sessions);
        let text = metrics.render();
        assert!(text.contains("adit_gateway_dials_total{outcome=\"refused\"} 1\n"), "{text}");
        assert!(text.contains("adit_gateway_dials_total{outcome=\"connected\"} 0\n"), "{text}");
        assert!(text.contains("adit_gateway_sessions 1\n"), "{text}");
        drop(held);
        assert!(metrics.render().contains("adit_gateway_sessions 0\n"));
    }
}
