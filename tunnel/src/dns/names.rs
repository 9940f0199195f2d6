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

mod options;
mod reverse;
#[cfg(test)]
mod tests;

use link::prefix::Prefix;
use rustc_hash::FxHashMap;

pub use self::options::{NamesError, NamesOptions};
use self::{
    options::{checked_namespace, is_service},
    reverse::reverse_prefix,
};
use super::{
    name::Name,
    query::{Question, is_internet},
};

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
        let domain_error = || options.wrong_domain();
        let domain = options.checked_domain()?;
        let svc = Name::from_text("svc").expect("svc is a name");
        let services = svc.under(&domain).ok_or_else(domain_error)?;
        let mut namespaces =
            options.namespaces.iter().map(|text| checked_namespace(text)).collect::<Result<FxHashMap<_, _>, _>>()?;
        let default_services = match &options.default_namespace {
            None => None,
            Some(text) => {
                let (label, top_level) = checked_namespace(text)?;
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
