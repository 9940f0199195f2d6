//! `gateway.toml`: what the gateway listens on, what its cluster is, who may do what, and how much a session may use.
//!
//! A file is read in two steps: [`raw`] is its form, [`validate`] turns it into what the rest of the crate relies on, so that
//! nothing is checked twice. An error says the line, the key, what is wrong and what would be right ([`position`]).
//! Next: [`crate::cluster`], [`crate::policy`] and [`crate::server`].

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use link::prefix::Prefix;
use thiserror::Error;

use crate::policy::Allow;

mod allow;
mod position;
mod raw;
mod target;
mod validate;

pub use target::{Place, Target};
pub use validate::Problem;

/// A whole, valid configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file it is from.
    pub path: PathBuf,
    /// UDP and TCP address of the link.
    pub listen: SocketAddr,
    /// Address of the metrics and health endpoints, if they are wanted.
    pub metrics: Option<SocketAddr>,
    /// Where the authority lives.
    pub state_dir: PathBuf,
    /// Where the audit goes, if not to the log.
    pub audit: Option<PathBuf>,
    /// What the cluster's network is.
    pub cluster: Cluster,
    /// What may be mirrored.
    pub targets: Vec<Target>,
    /// Who may do what.
    pub allows: Vec<Allow>,
    /// How much a session may use.
    pub limits: Limits,
}

/// The `[cluster]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Who knows the cluster's targets.
    pub provider: ProviderKind,
    /// Names under it go to [`Self::nameserver`]; lower case, no dots at its ends.
    pub domain: String,
    /// The cluster's nameserver.
    pub nameserver: Nameserver,
    /// What a session routes here, and all that may be dialed; never two that overlap.
    pub routes: Vec<Prefix>,
    /// Namespaces for short names, sorted: those of the targets and those that the file adds.
    pub namespaces: Vec<String>,
}

/// The providers that this build has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderKind {
    /// A plain Linux machine.
    Linux,
}

/// Where DNS queries go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nameserver {
    /// An address.
    Address(SocketAddr),
    /// A name, resolved when the gateway starts; it may have addresses of both families.
    Name {
        /// The host's name.
        host: String,
        /// UDP and TCP port.
        port: u16,
    },
}

/// The `[limits]` table. All of it is for one session, except the numbers of sessions and the drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at once.
    pub sessions: usize,
    /// Sessions of one identity at once.
    pub sessions_per_identity: usize,
    /// Streams open at once: TCP flows and DNS queries.
    pub streams: usize,
    /// TCP dials in a second; a burst of as many is allowed.
    pub dials_per_second: u32,
    /// Dials without an outcome at once.
    pub pending_dials: usize,
    /// UDP flows at once; a new one ends the one that has been idle the longest.
    pub udp_flows: usize,
    /// Mirrored connections and UDP flows at once; one more is left out and counted, for an open copy never ends for a new one.
    pub mirrored_flows: usize,
    /// What mirrored flows may have waiting for a session, bytes; beyond it a flow loses its own copy, counted.
    pub mirror_memory_bytes: usize,
    /// What may wait in this process for one session, bytes: half for what QUIC holds unread, half for DNS messages. The link's send
    /// window and datagram buffers (40 MiB when all are full) come on top, and what flows hold between stream and socket: a quarter
    /// as much, beyond which they go in small steps.
    pub memory_bytes: u32,
    /// How long a dial may take.
    pub dial_timeout: Duration,
    /// How long open flows may go on after the gateway was told to end.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 256,
            // A few machines and a pipeline; a link that was lost counts until it times out, half a minute.
            sessions_per_identity: 16,
            // 10,000 idle flows and 2,000 short ones between them; with the UDP flows they fit 20,000 descriptors.
            streams: 12_288,
            // Above what one core can dial, so that it bounds floods and nothing else.
            dials_per_second: 50_000,
            pending_dials: 4_096,
            udp_flows: 4_096,
            mirrored_flows: 32_768,
            // With the link's send window (2 MiB while nothing moves) and what a flow costs, below 48 MiB with every listener stopped.
            mirror_memory_bytes: 24 << 20,
            memory_bytes: 128 << 20,
            // The session keeps silent after a timeout, so this need not outlast the application's patience.
            dial_timeout: Duration::from_secs(30),
            // Kubernetes kills 30 s after it asked.
            drain: Duration::from_secs(25),
        }
    }
}

/// A configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in it is wrong.
    #[error("{}:{line}: {key}: {problem}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// The key as a dotted path, such as `cluster.routes`; `(file)` when it is none in particular.
        key: String,
        /// What is wrong and what would be right.
        problem: Problem,
    },
}

impl Config {
    /// Reads and validates a file.
    ///
    /// # Errors
    /// [`ConfigError`], which names the file, and for contents the line, the key and the remedy.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Validates a text; `path` is only for the error.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let parsed = raw::parse(text).and_then(|file| validate::config(file, path));
        parsed.map_err(|(span, problem)| {
            let position::Position { line, key } = position::locate(text, span.start);
            ConfigError::Invalid { path: path.to_owned(), line, key, problem }
        })
    }

    /// The keys that differ from `next`'s and are in force only after a restart.
    pub(crate) fn changes_for_a_restart(&self, next: &Self) -> Vec<&'static str> {
        [
            ("listen", self.listen != next.listen),
            ("metrics", self.metrics != next.metrics),
            ("state_dir", self.state_dir != next.state_dir),
            ("audit", self.audit != next.audit),
            ("cluster", self.cluster != next.cluster),
            ("target", self.targets != next.targets),
            ("limits", self.limits != next.limits),
        ]
        .into_iter()
        .filter_map(|(key, is_changed)| is_changed.then_some(key))
        .collect()
    }
}

impl Nameserver {
    /// Reads `ADDRESS`, `ADDRESS:PORT` or `NAME:PORT`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        /// The port of DNS where none is written.
        const DNS_PORT: u16 = 53;
        if let Ok(address) = text.parse::<SocketAddr>() {
            return (address.port() != 0).then_some(Self::Address(address));
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Some(Self::Address(SocketAddr::new(ip, DNS_PORT)));
        }
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        // What looks like an address and is none must not become a name.
        let is_name = validate::is_domain(host) && host.bytes().any(|byte| byte.is_ascii_alphabetic());
        is_name.then(|| Self::Name { host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests;
