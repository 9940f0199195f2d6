//! A status in words, aligned: what `adit status` and the end of `adit connect` print. Pure: it returns text.

use std::{fmt::Write, time::Duration};

use tunnel::control::status::{State, Status, unix_now};

use crate::{
    mirror_text,
    output::{BAD, CODE, GOOD, WARN, styled},
    text::{bytes, duration, list, row, whole_seconds},
};

/// What was joined: printed once by `adit connect`.
pub(crate) fn joined(status: &Status) -> String {
    let mut text = String::new();
    row(&mut text, "joined", &format!("{} as {}", gateway(status), status.summary.link.identity));
    row(&mut text, "routes", &list(&status.summary.network.routes));
    row(&mut text, "names", &names(status));
    warnings(&mut text, status);
    row(&mut text, "leave", &styled(CODE, "adit quit"));
    text.truncate(text.trim_end().len());
    text
}

/// The whole status, as `adit status` prints it.
pub(crate) fn full(status: &Status) -> String {
    let (summary, mut text) = (&status.summary, String::new());
    row(&mut text, "state", &state(status));
    if let Some(error) = &summary.error {
        row(&mut text, "error", error);
    }
    warnings(&mut text, status);
    row(&mut text, "gateway", &gateway(status));
    row(&mut text, "identity", &identity(status));
    row(&mut text, "session", &session(status));
    row(&mut text, "routes", &routes(status));
    row(&mut text, "names", &names(status));
    row(&mut text, "lookups", &lookups(status));
    row(&mut text, "flows", &flows(status));
    for rule in &status.mirror {
        mirror_text::counts::rule(&mut text, rule);
    }
    let traffic = &status.traffic;
    row(
        &mut text,
        "traffic",
        &format!("{} to the cluster, {} from it", bytes(traffic.bytes_to_cluster), bytes(traffic.bytes_from_cluster)),
    );
    row(
        &mut text,
        "packets",
        &format!("{} from this machine, {} to it", traffic.packets_from_host, traffic.packets_to_host),
    );
    let drops: Vec<String> = summary.drops.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    row(&mut text, "drops", &if drops.is_empty() { "none".to_owned() } else { styled(WARN, list(drops)) });
    let lost = if status.log_failures > 0 {
        styled(WARN, format!(" ({} lines lost)", status.log_failures))
    } else {
        String::new()
    };
    row(&mut text, "log", &format!("{}{lost}", summary.log_file.display()));
    text.truncate(text.trim_end().len());
    text
}

fn warnings(text: &mut String, status: &Status) {
    for warning in &status.summary.warnings {
        row(text, "warning", &styled(WARN, warning));
    }
}

fn state(status: &Status) -> String {
    let summary = &status.summary;
    let (style, word) = match summary.state {
        State::Connecting => (WARN, "connecting"),
        State::Connected => (GOOD, "connected"),
        State::Reconnecting => (BAD, "reconnecting"),
        State::Leaving => (WARN, "leaving"),
    };
    let since = Duration::from_secs(unix_now().saturating_sub(summary.since_unix));
    let again = match summary.link.reconnects {
        0 => String::new(),
        times => format!(", reconnected {times} times"),
    };
    format!("{} for {}{again} (pid {})", styled(style, word), whole_seconds(since), summary.pid)
}

fn gateway(status: &Status) -> String {
    let link = &status.summary.link;
    let mut text = link.gateway.clone();
    if let Some(carrier) = &link.carrier {
        let _ = write!(text, " over {carrier}");
    }
    if let Some(micros) = link.rtt_micros {
        let _ = write!(text, ", round trip {}", duration(Duration::from_micros(micros)));
    }
    text
}

fn identity(status: &Status) -> String {
    let link = &status.summary.link;
    let ends = link.identity_ends_unix.map(|ends| match ends.checked_sub(unix_now()) {
        Some(left) => format!(", ends in {}", whole_seconds(Duration::from_secs(left))),
        None => styled(BAD, ", ended"),
    });
    format!("{}{}", link.identity, ends.unwrap_or_default())
}

fn session(status: &Status) -> String {
    let (summary, link) = (&status.summary, &status.summary.link);
    let mut parts = vec![format!("adit {}", summary.version)];
    parts.extend(link.session.map(|number| format!("number {number} at the gateway")));
    parts.extend(link.gateway_version.as_ref().map(|version| format!("gateway {version}")));
    parts.extend(link.protocol.as_ref().map(|version| format!("protocol {version}")));
    list(parts)
}

fn routes(status: &Status) -> String {
    let network = &status.summary.network;
    match &network.device {
        Some(device) => format!("{} through {device}", list(&network.routes)),
        None => list(&network.routes),
    }
}

fn names(status: &Status) -> String {
    let dns = &status.summary.dns;
    if dns.domain.is_empty() {
        return "none of the cluster".to_owned();
    }
    if dns.nameservers.is_empty() {
        return "no nameserver of this machine is captured: only addresses work".to_owned();
    }
    format!("*.{}, short names in namespace {}", dns.domain, status.summary.namespace)
}

fn lookups(status: &Status) -> String {
    let (dns, numbers) = (&status.summary.dns, &status.dns_queries);
    let failures = format!("{} failed", numbers.failures);
    format!(
        "{} in all: {} cluster, {} ordinary, {} cached, {}; nameservers {}",
        numbers.queries,
        numbers.cluster,
        numbers.ordinary,
        numbers.cache_hits,
        if numbers.failures > 0 { styled(WARN, failures) } else { failures },
        list(&dns.nameservers),
    )
}

fn flows(status: &Status) -> String {
    let flows = &status.flows;
    let prohibited = if flows.prohibited == 0 {
        String::new()
    } else {
        let words = "not permitted by the gateway: ask whoever runs it for `reach` in an [[allow]]";
        styled(WARN, format!("; {} {words}", flows.prohibited))
    };
    format!(
        "tcp {} open, {} held, {} refused of {}; udp {} open of {}; {} pings{prohibited}",
        flows.tcp_open,
        flows.tcp_held,
        flows.tcp_refused,
        flows.tcp_total,
        flows.udp_open,
        flows.udp_total,
        flows.echoes
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        let mut status = Status::default();
        let summary = &mut status.summary;
        (summary.state, summary.since_unix, summary.pid) = (State::Connected, unix_now(), 42);
        summary.namespace = "shop".to_owned();
        summary.link.gateway = "gateway.example.com:7844".to_owned();
        summary.link.identity = "alice".to_owned();
        (summary.link.carrier, summary.link.rtt_micros) = (Some("udp".to_owned()), Some(850));
        summary.network.routes = vec!["10.96.0.0/16".parse().unwrap(), "fd00:96::/112".parse().unwrap()];
        summary.dns.domain = "cluster.local".to_owned();
        summary.dns.nameservers = vec!["192.0.2.53:53".parse().unwrap()];
        status
    }

    #[test]
    fn what_was_joined_is_four_lines() {
        let text = anstream::adapter::strip_str(&joined(&status())).to_string();
        let expected = "joined    gateway.example.com:7844 over udp, round trip 850 us as alice\n\
                        routes    10.96.0.0/16, fd00:96::/112\n\
                        names     *.cluster.local, short names in namespace shop\n\
                        leave     adit quit";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_the_gateway_does_not_permit_is_counted_with_what_to_ask_for() {
        let mut status = status();
        assert!(!full(&status).contains("not permitted"));
        status.flows.prohibited = 17;
        assert!(full(&status).contains("; 17 not permitted by the gateway: ask"), "{}", full(&status));
    }

    #[test]
    fn a_warning_is_shown_where_it_is_seen() {
        let mut status = status();
        status.summary.warnings.push("nameserver 127.0.0.53: it is a resolver on this machine".to_owned());
        for text in [joined(&status), full(&status)] {
            assert!(
                anstream::adapter::strip_str(&text).to_string().contains("warning   nameserver 127.0.0.53"),
                "{text}"
            );
        }
    }

    #[test]
    fn drops_and_lost_log_lines_are_shown() {
        let mut status = status();
        status.summary.drops.insert("fragment_overlap".to_owned(), 3);
        status.log_failures = 2;
        let text = anstream::adapter::strip_str(&full(&status)).to_string();
        assert!(text.contains("drops     fragment_overlap 3\n") && text.contains("(2 lines lost)"), "{text}");
    }
}
