//! What a cluster is to the gateway: a network to reach, and targets with their replicas. Behind one trait, so that the rest never
//! asks which kind.
//!
//! Before: [`crate::config`]; after: [`crate::control`], which tells a session, [`crate::reach`], and [`crate::mirror`].

use std::{fmt, path::PathBuf, sync::Arc};

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

/// One instance of a target that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Unique in its target, and for a person.
    pub name: String,
    /// How its network namespace is entered.
    pub place: ReplicaPlace,
    /// Tells it from another one of the same name: one that ended and was made again is another replica.
    pub instance: Instance,
}

/// How a replica's network namespace is entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicaPlace {
    /// By its path.
    Netns(PathBuf),
    /// By a process in it.
    Pid {
        /// Its number, which may be another's by the time it is looked at.
        pid: u32,
        /// When it started, by which that is told: in the kernel's ticks since boot.
        started: u64,
    },
}

/// Two numbers that no two instances of a replica have in common: device and inode of a namespace, or number and start time of a
/// process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instance(pub u64, pub u64);

/// The replicas of a target at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replicas {
    /// Those that are there.
    pub there: Vec<Replica>,
    /// Those that are known and not there, each with a sentence that names the remedy.
    pub missing: Vec<Missing>,
}

/// A replica that is known and not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its name.
    pub name: String,
    /// What is not there, and what to do.
    pub reason: String,
    /// It is not that it has yet to come: something else is in its place, so that somebody must act.
    pub is_wrong: bool,
}

/// Who knows a cluster.
pub trait Provider: fmt::Debug + Send + Sync {
    /// Its network.
    fn network(&self) -> &Network;
    /// What may be mirrored.
    fn targets(&self) -> &[Target];
    /// Looks which replicas a target has. It may read files, so it is no call for a thread that carries flows.
    fn replicas(&self, target: &Target) -> Replicas;

    /// What someone should look at, each in a sentence with its remedy; the gateway runs all the same.
    fn warnings(&self) -> Vec<String> {
        let of_target = |target: &Target| {
            let missing = self.replicas(target).missing.into_iter();
            missing.map(|missing| format!("target {}: {}", target.name, missing.reason)).collect::<Vec<_>>()
        };
        self.targets().iter().flat_map(of_target).collect()
    }
}

/// The provider that a configuration asks for.
pub fn provider(config: &Config) -> Arc<dyn Provider> {
    match config.cluster.provider {
        ProviderKind::Linux => Arc::new(linux::Linux::new(&config.cluster, &config.targets)),
    }
}
