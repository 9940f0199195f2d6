//! The names of the plan as zone files.
//!
//! Cluster names are laid out as Kubernetes does it: `service.namespace.svc.domain`, `SRV` for named ports, `PTR` for
//! service addresses. TTLs are a cluster's 5 seconds.
//! Next in the flow: [`super::nameserver`], which answers from these.

use std::{fmt::Write, net::IpAddr};

use hickory_proto::rr::Name;

use super::plan;

/// A zone: its origin and its records as a master file.
#[derive(Debug, Clone)]
pub struct Zone {
    /// The zone's own name, absolute.
    pub origin: String,
    /// Records, RFC 1035 section 5.
    pub records: String,
}

/// Strings and bytes of `big.shop`'s TXT record: 6,000 bytes, more than any UDP answer carries.
pub const BIG_TXT: (usize, usize) = (24, 250);

/// `cluster.local` and the reverse zones of its addresses.
pub fn cluster() -> Vec<Zone> {
    let named = named_services();
    let mut zones = vec![Zone { origin: format!("{}.", plan::CLUSTER_DOMAIN), records: cluster_records(&named) }];
    let reverse = named.iter().map(|(name, address)| (Name::from(*address).to_string(), name));
    let lines: Vec<String> =
        reverse.map(|(arpa, name)| format!("{arpa} 5 IN PTR {name}.svc.{}.\n", plan::CLUSTER_DOMAIN)).collect();
    for origin in ["96.10.in-addr.arpa.", "244.10.in-addr.arpa.", "0.1.0.0.0.0.d.f.ip6.arpa."] {
        let mut records = start_of_authority(origin);
        records.extend(lines.iter().filter(|line| line.contains(&format!(".{origin} "))).cloned());
        zones.push(Zone { origin: origin.to_owned(), records });
    }
    zones
}

/// `example.test`, the ordinary world.
pub fn ordinary() -> Vec<Zone> {
    let origin = "example.test.";
    let mut records = start_of_authority(origin);
    for address in plan::ORDINARY_WEB.both() {
        push_address(&mut records, "www.example.test.", address);
        push_address(&mut records, origin, address);
    }
    records.push_str("example.test. 5 IN MX 10 www.example.test.\n");
    vec![Zone { origin: origin.to_owned(), records }, Zone { origin: ".".to_owned(), records: start_of_authority(".") }]
}

/// Names below `svc.cluster.local`, with each address they have.
fn named_services() -> Vec<(String, IpAddr)> {
    let mut named = Vec::new();
    let mut add = |name: &str, addresses: &[IpAddr]| {
        named.extend(addresses.iter().map(|address| (name.to_owned(), *address)));
    };
    add("dns.kube-system", &plan::CLUSTER_DNS.both());
    add("web.shop", &plan::WEB.both());
    add("web.default", &plan::WEB_DEFAULT.both());
    add("v4only.shop", &[plan::V4_ONLY.into()]);
    add("v6only.shop", &[plan::V6_ONLY.into()]);
    add("echo.shop", &plan::ECHO.both());
    add("db.shop", &plan::DATABASE.both());
    add("cache.shop", &plan::CACHE.both());
    add("spare.shop", &plan::SPARE.both());
    for (number, peer) in plan::PEERS.into_iter().enumerate() {
        add(&format!("peer-{number}.peers.shop"), &peer.both());
    }
    named
}

fn cluster_records(named: &[(String, IpAddr)]) -> String {
    let domain = plan::CLUSTER_DOMAIN;
    let mut records = start_of_authority(&format!("{domain}."));
    for (name, address) in named {
        push_address(&mut records, &format!("{name}.svc.{domain}."), *address);
    }
    for address in plan::PEERS.into_iter().flat_map(plan::Dual::both) {
        push_address(&mut records, &format!("peers.shop.svc.{domain}."), address);
    }
    let (strings, bytes) = BIG_TXT;
    let big = vec![format!("\"{}\"", "0123456789".repeat(bytes / 10)); strings].join(" ");
    let more = [
        ("_http._tcp.web.shop", format!("SRV 0 100 80 web.shop.svc.{domain}.")),
        ("alias.shop", format!("CNAME web.shop.svc.{domain}.")),
        ("outside.shop", "CNAME www.example.test.".to_owned()),
        ("info.shop", "TXT \"version=1\" \"owner=shop\"".to_owned()),
        ("big.shop", format!("TXT {big}")),
        ("shop", format!("MX 10 web.shop.svc.{domain}.")),
    ];
    for (name, record) in more {
        writeln!(records, "{name}.svc.{domain}. 5 IN {record}").expect("a String takes all");
    }
    records
}

fn push_address(records: &mut String, name: &str, address: IpAddr) {
    let kind = if address.is_ipv4() { "A" } else { "AAAA" };
    writeln!(records, "{name} 5 IN {kind} {address}").expect("a String takes all");
}

fn start_of_authority(origin: &str) -> String {
    let child = if origin == "." { "" } else { origin };
    format!("{origin} 5 IN SOA ns.{child} hostmaster.{child} 1 7200 1800 86400 5\n")
}
