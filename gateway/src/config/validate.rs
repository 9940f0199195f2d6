//! From the form to what holds: addresses parsed, routes apart from each other, every target with a place ([`super::target`]).

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use link::prefix::{NotAPrefix, Prefix};
use thiserror::Error;
use toml::Spanned;

use super::{
    Cluster, Config, Limits, Nameserver, ProviderKind, Target, allow,
    raw::{self, Misplaced},
    target::{self, CONTAINER_CHARS, MOST_REPLICAS},
};
use crate::policy::{NotAMirror, NotAReach};

/// What is wrong with a value, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Problem {
    /// Not TOML, or a key or type that the form does not have.
    #[error("{0}")]
    Form(String),
    /// A required key is not there.
    #[error("`{field}` is missing: add {example}")]
    Missing {
        /// The key.
        field: String,
        /// A line that would do.
        example: &'static str,
    },
    /// Not an address and a port.
    #[error("'{0}' is no address with a port: write it like 0.0.0.0:7844 or [::]:7844")]
    Address(String),
    /// The metrics would take the link's own port.
    #[error("the metrics cannot share {0} with the link: use another port")]
    MetricsAddress(SocketAddr),
    /// Relative, so it would depend on where the gateway is started.
    #[error("'{0}' is no absolute path: begin it with /")]
    Path(String),
    /// Not a provider of this build.
    #[error("there is no provider '{0}' in this build: use \"linux\"")]
    Provider(String),
    /// Not a domain.
    #[error("'{0}' is no domain: write it like cluster.local, lower case, without dots at its ends")]
    Domain(String),
    /// Not a nameserver.
    #[error("'{0}' is no nameserver: write it like 10.96.0.10:53 or kube-dns.kube-system:53")]
    Nameserver(String),
    /// Not a prefix.
    #[error(transparent)]
    Prefix(#[from] NotAPrefix),
    /// A whole address family.
    #[error(
        "{0} is every address there is, and no session takes it: name the cluster's own prefixes, like 10.96.0.0/16"
    )]
    DefaultRoute(Prefix),
    /// Nothing to reach.
    #[error("no routes, so nothing could be reached: name the cluster's prefixes, like [\"10.96.0.0/16\"]")]
    NoRoutes,
    /// Two routes share addresses.
    #[error("{route} overlaps with {other}, which is in the list already: remove the narrower one")]
    Overlap {
        /// The later route.
        route: Prefix,
        /// The earlier one.
        other: Prefix,
    },
    /// Not a namespace's name.
    #[error("'{0}' is no name of a namespace: use lower-case letters, digits and '-'")]
    Namespace(String),
    /// Not `namespace/kind/name`.
    #[error("'{0}' is no target: write it like shop/deploy/web")]
    TargetName(String),
    /// Two targets with one name.
    #[error("there is a target '{0}' already: give all of its namespaces in one netns list")]
    TargetTwice(String),
    /// A target without a place.
    #[error("the target '{0}' has no replica: add netns = [\"/run/netns/NAME\"], pid = [PID] or container = [\"ID\"]")]
    NoReplica(String),
    /// More replicas than a target may have.
    #[error("{0} replicas, and a target has at most {MOST_REPLICAS}: make it several targets")]
    Replicas(usize),
    /// Neither a process nor a file with one.
    #[error("{0} is no process: write its number, like 1234, or the path of a file that has it, like \"/run/web.pid\"")]
    Pid(String),
    /// Not a container's id.
    #[error("'{0}' is no container: write the beginning of its id, {least} to {most} of 0-9 and a-f, like \"4f1d9c02a7be\"", least = CONTAINER_CHARS.start(), most = CONTAINER_CHARS.end())]
    Container(String),
    /// The same replica again.
    #[error("{0} is in the list already: remove one of the two")]
    ReplicaTwice(String),
    /// Not a name that an identity can have, nor a pattern of any.
    #[error(
        "'{0}' is no identity: write its name, or a pattern like ci-* or *; letters, digits, '@', '.', '_', '-' and '*'"
    )]
    IdentityPattern(String),
    /// An entry that opens nothing.
    #[error(
        "this [[allow]] allows nothing: add reach = [\"10.96.0.0/16\"] or mirror = [\"shop/*\"]; an empty list says that nothing is meant"
    )]
    AllowsNothing,
    /// Not what may be reached.
    #[error(transparent)]
    Reach(#[from] NotAReach),
    /// Not what may be mirrored.
    #[error(transparent)]
    Mirror(#[from] NotAMirror),
    /// A limit out of bounds.
    #[error("{value} is out of bounds: use {least} to {most}")]
    Limit {
        /// What was written.
        value: i64,
        /// The least possible.
        least: i64,
        /// The most possible.
        most: i64,
    },
}

pub(super) type Checked<T> = Result<T, Misplaced>;

pub(super) fn at<T>(value: &Spanned<T>, problem: Problem) -> Misplaced {
    (value.span(), problem)
}

pub(super) fn config(file: raw::File, path: &Path) -> Checked<Config> {
    let listen = address(&file.listen)?;
    let metrics = file.metrics.as_ref().map(|text| metrics_address(text, listen)).transpose()?;
    let state_dir = absolute(&file.state_dir)?;
    let audit = file.audit.as_ref().map(absolute).transpose()?;
    let targets = target::targets(&file.targets)?;
    let cluster = cluster(&file.cluster, &targets)?;
    let allows = allow::allows(&file.allows)?;
    Ok(Config {
        path: path.to_owned(),
        listen,
        metrics,
        state_dir,
        audit,
        cluster,
        targets,
        allows,
        limits: limits(&file.limits)?,
    })
}

fn address(text: &Spanned<String>) -> Checked<SocketAddr> {
    text.get_ref().parse().map_err(|_| at(text, Problem::Address(text.get_ref().clone())))
}

fn metrics_address(text: &Spanned<String>, listen: SocketAddr) -> Checked<SocketAddr> {
    let metrics = address(text)?;
    let shares_address = metrics.ip() == listen.ip() || listen.ip().is_unspecified() || metrics.ip().is_unspecified();
    if shares_address && metrics.port() == listen.port() && listen.port() != 0 {
        return Err(at(text, Problem::MetricsAddress(metrics)));
    }
    Ok(metrics)
}

pub(super) fn absolute(text: &Spanned<String>) -> Checked<PathBuf> {
    let path = Path::new(text.get_ref());
    if path.is_absolute() { Ok(path.to_owned()) } else { Err(at(text, Problem::Path(text.get_ref().clone()))) }
}

fn cluster(cluster: &raw::Cluster, targets: &[Target]) -> Checked<Cluster> {
    let provider = match cluster.provider.get_ref().as_str() {
        "linux" => ProviderKind::Linux,
        other => return Err(at(&cluster.provider, Problem::Provider(other.to_owned()))),
    };
    let domain = cluster.domain.get_ref();
    if !is_domain(domain) || domain.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(at(&cluster.domain, Problem::Domain(domain.clone())));
    }
    let dns = cluster.dns.get_ref();
    let nameserver = Nameserver::parse(dns).ok_or_else(|| at(&cluster.dns, Problem::Nameserver(dns.clone())))?;
    let mut namespaces: BTreeSet<String> =
        targets.iter().filter_map(|target| target.name.split('/').next()).map(str::to_owned).collect();
    for namespace in &cluster.namespaces {
        let name = namespace.get_ref();
        if !is_label(name) {
            return Err(at(namespace, Problem::Namespace(name.clone())));
        }
        namespaces.insert(name.clone());
    }
    Ok(Cluster {
        provider,
        domain: domain.clone(),
        nameserver,
        routes: routes(&cluster.routes)?,
        namespaces: namespaces.into_iter().collect(),
    })
}

fn routes(list: &Spanned<Vec<Spanned<String>>>) -> Checked<Vec<Prefix>> {
    let mut routes: Vec<Prefix> = Vec::new();
    for text in list.get_ref() {
        let route: Prefix = text.get_ref().parse().map_err(|error| at(text, Problem::Prefix(error)))?;
        if route.bits() == 0 {
            return Err(at(text, Problem::DefaultRoute(route)));
        }
        if let Some(other) = routes.iter().find(|other| other.overlaps(&route)) {
            return Err(at(text, Problem::Overlap { route, other: *other }));
        }
        routes.push(route);
    }
    if routes.is_empty() { Err(at(list, Problem::NoRoutes)) } else { Ok(routes) }
}

fn limits(raw: &raw::Limits) -> Checked<Limits> {
    let mut limits = Limits::default();
    let large = 1 << 20;
    set(&raw.sessions, 1, 65_536, |value| limits.sessions = value)?;
    set(&raw.sessions_per_identity, 1, 65_536, |value| limits.sessions_per_identity = value)?;
    set(&raw.streams, 1, large, |value| limits.streams = value)?;
    set(&raw.dials_per_second, 1, u32::from(u16::MAX) * 16, |value| limits.dials_per_second = value)?;
    set(&raw.pending_dials, 1, large, |value| limits.pending_dials = value)?;
    set(&raw.udp_flows, 1, 65_536, |value| limits.udp_flows = value)?;
    set(&raw.mirrored_flows, 1, large, |value| limits.mirrored_flows = value)?;
    set(&raw.mirror_memory_mib, 1, 1_024, |value: usize| limits.mirror_memory_bytes = value << 20)?;
    set(&raw.memory_mib, 16, 2_048, |value: u32| limits.memory_bytes = value << 20)?;
    set(&raw.dial_timeout_seconds, 1, 600, |value| limits.dial_timeout = Duration::from_secs(value))?;
    set(&raw.drain_seconds, 1, 86_400, |value| limits.drain = Duration::from_secs(value))?;
    Ok(limits)
}

/// Takes a limit if it was given and lies within its bounds.
fn set<T: TryFrom<i64>>(
    given: &Option<Spanned<i64>>,
    least: impl Into<i64>,
    most: impl Into<i64>,
    mut take: impl FnMut(T),
) -> Checked<()> {
    let Some(given) = given else { return Ok(()) };
    let (value, least, most) = (*given.get_ref(), least.into(), most.into());
    let within = (least..=most).contains(&value).then(|| T::try_from(value).ok()).flatten();
    take(within.ok_or_else(|| at(given, Problem::Limit { value, least, most }))?);
    Ok(())
}

/// Letters, digits and `-` in labels of 1 to 63 between dots, 253 in all.
pub(super) fn is_domain(text: &str) -> bool {
    let is_part = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_part)
}

/// One label of a name, as Kubernetes has them.
pub(super) fn is_label(text: &str) -> bool {
    is_domain(text) && !text.contains('.') && !text.bytes().any(|byte| byte.is_ascii_uppercase())
}
