//! What a cluster is to the gateway: a network to reach, and targets. Behind one trait, so that the rest never asks which kind.
//!
//! Before: [`crate::config`]; after: [`crate::control`], which tells a session, and [`crate::reach`].

use link::prefix::Prefix;

use crate::config::{Config, ProviderKind, Target};

pub mod linux;

/// The network of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Names under it are the cluster's.
    pub domain: String,
    /// Prefixes to route to the gateway.
    pub routes: Vec<Prefix>,
    /// Namespaces, for short names.
    pub namespaces: Vec<String>,
}

/// Who knows a cluster.
pub trait Provider: Send + Sync {
    /// Its network.
    fn network(&self) -> &Network;
    /// What may be mirrored.
    fn targets(&self) -> &[Target];
    /// What someone should look at, each in a sentence with its remedy; the gateway runs all the same.
    fn warnings(&self) -> Vec<String>;
}

/// The provider that a configuration asks for.
pub fn provider(config: &Config) -> Box<dyn Provider> {
    match config.cluster.provider {
        ProviderKind::Linux => Box::new(linux::Linux::new(&config.cluster, &config.targets)),
    }
}
