//! [`Names`]: which names belong to the cluster, and what a short one is asked as.
//!
//! Pure. Before: `query`; after: `lookup` (the cluster's) or `ordinary`.
//!
//! The side is decided by the name alone, before anyone is asked, and a denial by the cluster is final. Falling through to the
//! ordinary nameserver would tell it every service that is misspelt or not there yet; asking the cluster first for an ordinary name
//! would tell the gateway where the developer browses. So:
//!
//! | name | asked of | as |
//! |---|---|---|
//! | the cluster's domain, and all under it | cluster | itself |
//! | `<anything>.svc` | cluster | `<anything>.svc.<domain>` |
//! | `<anything>.<namespace>`, the namespace being one of the session's | cluster | `<anything>.<namespace>.svc.<domain>` |
//! | `<service>`, `_port._proto.<service>`, when the session has a default namespace | cluster | `<...>.<default>.svc.<domain>`, then `<...>.<domain>`, as in a pod |
//! | reverse names of addresses in the cluster's routes | cluster | itself |
//! | `<any>.<domain>.<a search domain of this machine>` | nobody: there is no such name | |
//! | all others | ordinary | itself, byte for byte |
//!
//! A single label that cannot be a Kubernetes service (RFC 1035: a letter first) and `localhost` are ordinary. A program that wants a
//! machine of its own network by a bare name still finds it where the resolver file has search domains, since the stub asks
//! `nas.lan` before `nas`; without search domains, give no default namespace.
//!
//! A namespace that is called as one of the internet's top-level domains takes no more of it than it must: `<service>.<namespace>` and
//! `_port._proto.<service>.<namespace>`. With a namespace `dev`, `go.dev` is the cluster's for as long as the session lives, and
//! `pkg.go.dev` is not; pods of a headless service there are reached by `<pod>.<service>.dev.svc`. [`Names::top_level_namespaces`] says
//! which these are.
//!
//! What a stub makes of a short name by this machine's search domains (`web.shop.corp.example`) is an ordinary name: it may well be
//! somebody's host. glibc and musl ask it only after the name itself, unless the resolver file says `ndots:2` or more.

use std::net::IpAddr;

use link::{prefix::Prefix, printable::printable};
use rustc_hash::FxHashMap;
use thiserror::Error;

use super::{
    name::Name,
    query::{Question, is_internet},
};

/// What the names are decided by. [`Default`] has no cluster: all names are ordinary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamesOptions {
    /// The cluster's domain, such as `cluster.local`. Empty: none.
    pub domain: String,
    /// Namespaces for `<service>.<namespace>`.
    pub namespaces: Vec<String>,
    /// The namespace of single labels; without one, single labels are ordinary.
    pub default_namespace: Option<String>,
    /// Prefixes whose reverse names the cluster knows.
    pub routes: Vec<Prefix>,
    /// This machine's own search domains, from its resolver file.
    pub search: Vec<String>,
}

/// The gateway gave a name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NamesError {
    /// A domain that is none, or one that would take names that the whole machine needs.
    #[error(
        "the gateway's domain '{0}' cannot be used: set `domain` in its configuration to the cluster's own, such as cluster.local"
    )]
    Domain(String),
    /// A namespace that is none.
    #[error("the gateway's namespace '{0}' is no Kubernetes name: letters, digits and '-', at most 63")]
    Namespace(String),
}

/// Who is to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Side {
    /// The cluster's nameserver, for these names in turn until one is not denied. Never empty.
    Cluster(Vec<Name>),
    /// The nameserver that the program meant.
    Ordinary,
    /// Nobody: a stub has tried its search list on a name of the cluster.
    Nobody,
}

/// The decision table, ready to be used.
#[derive(Debug, Clone)]
pub struct Names {
    cluster: Option<Cluster>,
    routes: Vec<Prefix>,
    /// The cluster's domain under each of the machine's search domains.
    strays: Vec<Name>,
}

#[derive(Debug, Clone)]
struct Cluster {
    domain: Name,
    /// `svc`
    svc: Name,
    /// `svc.<domain>`
    services: Name,
    /// `<default>.svc.<domain>`
    default_services: Option<Name>,
    /// In small letters, and whether there is a top-level domain of that name.
    namespaces: FxHashMap<Box<[u8]>, bool>,
}

/// The longest name, as text: of what cannot be used so much is shown.
const NAME_CHARS: usize = 253;

/// The internet's top-level domains in ASCII, after the Public Suffix List of February 2023. One that is missing costs nothing until a
/// namespace is called like it.
const TOP_LEVEL: &str = include_str!("top_level.txt");

impl Names {
    /// Checks the options and makes the table.
    ///
    /// # Errors
    /// [`NamesError`] names the domain or namespace that cannot be used. A search domain that is none is left out: it is the
    /// machine's own matter.
    pub fn new(options: &NamesOptions) -> Result<Self, NamesError> {
        if options.domain.is_empty() {
            return Ok(Self { cluster: None, routes: options.routes.clone(), strays: Vec::new() });
        }
        let domain_error = || NamesError::Domain(printable(&options.domain, NAME_CHARS));
        let domain = Name::from_text(&options.domain).ok_or_else(domain_error)?;
        let mut taken = TOP_LEVEL.split_ascii_whitespace().chain(["arpa", "localhost"]);
        if taken.any(|taken| options.domain.eq_ignore_ascii_case(taken)) {
            return Err(domain_error());
        }
        let svc = Name::from_text("svc").expect("svc is a name");
        let services = svc.under(&domain).ok_or_else(domain_error)?;
        let namespace = |text: &String| {
            let label = text.to_ascii_lowercase();
            let top_level = TOP_LEVEL.split_ascii_whitespace().any(|domain| domain == label);
            let label = label.into_bytes().into_boxed_slice();
            if is_namespace(&label) {
                Ok((label, top_level))
            } else {
                Err(NamesError::Namespace(printable(text, NAME_CHARS)))
            }
        };
        let mut namespaces = options.namespaces.iter().map(namespace).collect::<Result<FxHashMap<_, _>, _>>()?;
        let default_services = match &options.default_namespace {
            None => None,
            Some(text) => {
                let (label, top_level) = namespace(text)?;
                let under = Name::from_labels([&*label], &services);
                namespaces.insert(label, top_level);
                Some(under.ok_or_else(domain_error)?)
            }
        };
        // A domain of one label under a search domain could be somebody's real name.
        let search = options.search.iter().filter(|_| domain.labels().count() > 1);
        let strays = search.filter_map(|text| domain.under(&Name::from_text(text)?)).collect();
        let cluster = Cluster { domain, svc, services, default_services, namespaces };
        Ok(Self { cluster: Some(cluster), routes: options.routes.clone(), strays })
    }

    /// Namespaces that hide some names of a top-level domain of the internet while the session lives; for a warning.
    pub fn top_level_namespaces(&self) -> Vec<String> {
        let namespaces = self.cluster.iter().flat_map(|cluster| &cluster.namespaces);
        let mut hiding: Vec<String> = namespaces
            .filter(|(_, top_level)| **top_level)
            .map(|(label, _)| String::from_utf8_lossy(label).into_owned())
            .collect();
        hiding.sort_unstable();
        hiding
    }

    /// Decides who is asked.
    pub(super) fn side(&self, question: &Question) -> Side {
        let name = &question.name;
        if self.routes_hold(name) {
            return Side::Cluster(vec![name.clone()]);
        }
        let Some(cluster) = &self.cluster else { return Side::Ordinary };
        if name.is_under(&cluster.domain) {
            return Side::Cluster(vec![name.clone()]);
        }
        if self.strays.iter().any(|stray| name.is_under(stray)) {
            return Side::Nobody;
        }
        match cluster.candidates(name) {
            // Too long with the domain behind it: no such name, and none that others should hear of.
            Some(candidates) if candidates.is_empty() => Side::Nobody,
            Some(candidates) => Side::Cluster(candidates),
            None => Side::Ordinary,
        }
        .for_class(question.class, name)
    }

    /// Whether the name is the reverse of addresses that are all within one route.
    fn routes_hold(&self, name: &Name) -> bool {
        let Some(prefix) = reverse_prefix(name) else { return false };
        self.routes.iter().any(|route| route.bits() <= prefix.bits() && route.contains(prefix.address()))
    }
}

impl Side {
    /// Short names are of the internet's class; in another, the name as it stands is asked, of the same side.
    fn for_class(self, class: u16, name: &Name) -> Self {
        match self {
            Self::Cluster(_) if !is_internet(class) => Self::Cluster(vec![name.clone()]),
            Self::Cluster(_) | Self::Ordinary | Self::Nobody => self,
        }
    }
}

impl Cluster {
    /// What a short name is asked as; `None` when it is no short name.
    fn candidates(&self, name: &Name) -> Option<Vec<Name>> {
        let labels: Vec<&[u8]> = name.labels().collect();
        if labels.len() > 1 && name.is_under(&self.svc) {
            return Some(name.under(&self.domain).into_iter().collect());
        }
        // `_port._proto` of a service record does not count.
        let service = labels.iter().position(|label| !label.starts_with(b"_"))?;
        let in_namespace = || Some(name.under(&self.services).into_iter().collect());
        match &labels[service..] {
            [inner @ .., service, namespace] => match self.namespaces.get(&*namespace.to_ascii_lowercase()) {
                Some(false) => in_namespace(),
                Some(true) if inner.is_empty() && is_service(service) => in_namespace(),
                Some(true) | None => None,
            },
            [service] if is_service(service) && !service.eq_ignore_ascii_case(b"localhost") => {
                let default = self.default_services.as_ref()?;
                Some([default, &self.domain].into_iter().filter_map(|suffix| name.under(suffix)).collect())
            }
            _ => None,
        }
    }
}

/// An RFC 1035 label, as Kubernetes wants for a service: a letter, then letters, digits and hyphens, no hyphen last.
fn is_service(label: &[u8]) -> bool {
    label.first().is_some_and(u8::is_ascii_alphabetic) && is_namespace(label)
}

/// An RFC 1123 label, as Kubernetes wants for a namespace.
fn is_namespace(label: &[u8]) -> bool {
    let inside = label.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    let ends = label.first().is_some_and(|byte| *byte != b'-') && label.last().is_some_and(|byte| *byte != b'-');
    inside && ends && label.len() <= 63
}

/// The addresses that a name under `in-addr.arpa` or `ip6.arpa` is about; labels in front of the numbers (`_dns-sd`) do not count.
fn reverse_prefix(name: &Name) -> Option<Prefix> {
    let mut labels: Vec<&[u8]> = name.labels().collect();
    if !labels.pop()?.eq_ignore_ascii_case(b"arpa") {
        return None;
    }
    let family = labels.pop()?;
    if family.eq_ignore_ascii_case(b"in-addr") {
        let mut octets = [0u8; 4];
        let numbers = labels.iter().rev().map_while(|label| std::str::from_utf8(label).ok()?.parse::<u8>().ok());
        let count = octets.iter_mut().zip(numbers).map(|(octet, number)| *octet = number).count();
        return Prefix::new(IpAddr::from(octets), u8::try_from(count * 8).ok()?);
    }
    if !family.eq_ignore_ascii_case(b"ip6") {
        return None;
    }
    let mut address = 0u128;
    let mut bits = 0u8;
    let nibble = |label: &&[u8]| if let [digit] = label { char::from(*digit).to_digit(16) } else { None };
    for digit in labels.iter().rev().map_while(nibble).take(32) {
        bits += 4;
        address |= u128::from(digit) << (128 - bits);
    }
    Prefix::new(IpAddr::from(address.to_be_bytes()), bits)
}

#[cfg(test)]
mod tests {
    use super::*;
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
}
