//! The decision table, name by name.

use super::{options::TOP_LEVEL, *};
use crate::dns::wire::CLASS_IN;

fn names() -> Names {
    Names::new(&NamesOptions {
        domain: "cluster.local".into(),
        namespaces: vec!["payments".into(), "shop".into(), "default".into(), "dev".into()],
        default_namespace: Some("default".into()),
        routes: vec!["10.96.0.0/16".parse().unwrap(), "fd00:10::/32".parse().unwrap()],
        search: vec!["corp.example".into(), "not a name".repeat(40)],
    })
    .unwrap()
}

fn side(text: &str) -> Side {
    let name = if text == "." { Name::root() } else { Name::from_text(text).unwrap() };
    names().side(&Question { name, kind: 1, class: CLASS_IN })
}

fn cluster(candidates: &[&str]) -> Side {
    Side::Cluster(candidates.iter().map(|text| Name::from_text(text).unwrap()).collect())
}

#[test]
fn names_of_the_cluster_are_asked_there() {
    for (asked, candidates) in [
        ("cluster.local", &["cluster.local"][..]),
        ("web.shop.svc.Cluster.LOCAL.", &["web.shop.svc.Cluster.LOCAL"]),
        ("nosuch.cluster.local", &["nosuch.cluster.local"]),
        ("web.shop.svc", &["web.shop.svc.cluster.local"]),
        ("db-0.db.shop.SVC", &["db-0.db.shop.SVC.cluster.local"]),
        ("web.Shop", &["web.Shop.svc.cluster.local"]),
        ("_http._tcp.web.shop", &["_http._tcp.web.shop.svc.cluster.local"]),
        ("db-0.db.Payments", &["db-0.db.Payments.svc.cluster.local"]),
        ("a.b.c.default", &["a.b.c.default.svc.cluster.local"]),
        ("web", &["web.default.svc.cluster.local", "web.cluster.local"]),
        ("_http._tcp.web", &["_http._tcp.web.default.svc.cluster.local", "_http._tcp.web.cluster.local"]),
        ("10.0.96.10.in-addr.arpa", &["10.0.96.10.in-addr.arpa"]),
        ("96.10.in-addr.arpa", &["96.10.in-addr.arpa"]),
        ("lb._dns-sd._udp.0.0.96.10.in-addr.arpa", &["lb._dns-sd._udp.0.0.96.10.in-addr.arpa"]),
        ("7.0.1.0.0.0.0.d.f.ip6.arpa", &["7.0.1.0.0.0.0.d.f.ip6.arpa"]),
    ] {
        assert_eq!(side(asked), cluster(candidates), "{asked}");
    }
}

#[test]
fn ordinary_names_are_not() {
    for asked in [
        ".",
        "example.com",
        "pkg.go.dev",
        "www.shop.example",
        "www.example.shop",
        "_http._tcp.www.example.shop",
        "web.corp.example",
        "xcluster.local",
        "cluster.local.example",
        "printer.local",
        "localhost",
        "9p",
        "my_host",
        "_http._tcp",
        "web.nosuchns",
        "-x.shop",
        "10.in-addr.arpa",
        "in-addr.arpa",
        "ip6.arpa",
        "1.1.168.192.in-addr.arpa",
        "d.f.ip6.arpa",
        "7.1.1.0.0.0.0.d.f.ip6.arpa",
    ] {
        assert_eq!(side(asked), Side::Ordinary, "{asked}");
    }
}

#[test]
fn a_search_list_tried_on_a_cluster_name_reaches_nobody() {
    assert_eq!(side("web.shop.svc.cluster.local.corp.example"), Side::Nobody);
}

#[test]
fn a_short_name_that_gets_too_long_reaches_nobody() {
    let long = format!("{}.svc", ["abcdefghijklmnopqrstuvwxyz"; 9].join("."));
    assert_eq!(side(&long), Side::Nobody);
}

#[test]
fn without_a_default_namespace_single_labels_are_ordinary() {
    let options = NamesOptions { domain: "cluster.local".into(), ..NamesOptions::default() };
    let question = Question { name: Name::from_text("web").unwrap(), kind: 1, class: CLASS_IN };
    assert_eq!(Names::new(&options).unwrap().side(&question), Side::Ordinary);
    assert_eq!(Names::new(&NamesOptions::default()).unwrap().side(&question), Side::Ordinary);
}

#[test]
fn namespaces_called_as_a_top_level_domain_are_told() {
    assert_eq!(names().top_level_namespaces(), ["dev", "shop"]);
    assert!(TOP_LEVEL.split_ascii_whitespace().is_sorted());
}

#[test]
fn what_the_gateway_calls_its_domain_is_checked() {
    for domain in [".", "..", "com", "io", "a..b", "arpa", &"x".repeat(64)] {
        let options = NamesOptions { domain: domain.into(), ..NamesOptions::default() };
        let error = Names::new(&options).unwrap_err();
        assert!(error.to_string().contains(&format!("'{domain}'")), "{error}");
    }
    let options = NamesOptions { domain: "k8s".into(), namespaces: vec!["a.b".into()], ..NamesOptions::default() };
    assert_eq!(Names::new(&options).unwrap_err(), NamesError::Namespace("a.b".into()));
    let options = NamesOptions { domain: "\x1b[2J..".into(), ..NamesOptions::default() };
    assert_eq!(Names::new(&options).unwrap_err(), NamesError::Domain("[2J..".into()));
}
