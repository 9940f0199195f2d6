//! The `linux` provider: a plain Linux machine, whose targets are network namespaces, processes and containers. All it knows is what
//! the file says and what `/proc` shows: no daemon is asked.
//!
//! - [`netns`]: namespaces that have a path. [`process`]: processes, by number or by a file. [`container`]: containers, by cgroup.

use crate::{
    cluster::{Missing, Network, Provider, Replica, Replicas},
    config::{Cluster, Place, Target},
};

mod container;
mod netns;
pub(crate) mod process;

/// A Linux machine as a cluster.
#[derive(Debug)]
pub struct Linux {
    network: Network,
    targets: Vec<Target>,
    containers: container::Containers,
}

impl Linux {
    /// The cluster that the file describes.
    pub fn new(cluster: &Cluster, targets: &[Target]) -> Self {
        let network = Network {
            domain: cluster.domain.clone(),
            routes: cluster.routes.clone(),
            namespaces: cluster.namespaces.clone(),
        };
        Self { network, targets: targets.to_vec(), containers: container::Containers::default() }
    }

    fn look(&self, place: &Place) -> Result<Replica, Missing> {
        match place {
            Place::Netns(path) => netns::look(path),
            Place::Pid(pid) => process::look(*pid),
            Place::PidFile(path) => process::look_file(path),
            Place::Container(id) => self.containers.look(id),
        }
    }
}

impl Provider for Linux {
    fn network(&self) -> &Network {
        &self.network
    }

    fn targets(&self) -> &[Target] {
        &self.targets
    }

    fn replicas(&self, target: &Target) -> Replicas {
        let mut replicas = Replicas::default();
        let is_known = |name: &str, replicas: &Replicas| {
            replicas.there.iter().any(|other| other.name == name)
                || replicas.missing.iter().any(|other| other.name == name)
        };
        for place in &target.places {
            // A second one of the same name is called by its whole place.
            match self.look(place) {
                Ok(mut replica) => {
                    if is_known(&replica.name, &replicas) {
                        replica.name = place.to_string();
                    }
                    replicas.there.push(replica);
                }
                Err(mut missing) => {
                    if is_known(&missing.name, &replicas) {
                        missing.name = place.to_string();
                    }
                    replicas.missing.push(missing);
                }
            }
        }
        replicas
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn linux(places: &str) -> (Linux, Target) {
        let text = format!(
            "listen = \"0.0.0.0:1\"\nstate_dir = \"/s\"\n[cluster]\nprovider = \"linux\"\ndomain = \"c\"\ndns = \"10.0.0.1\"\nroutes = [\"10.0.0.0/8\"]\n[[target]]\nname = \"a/deploy/b\"\n{places}\n"
        );
        let config = Config::parse(&text, "t".as_ref()).unwrap();
        (Linux::new(&config.cluster, &config.targets), config.targets[0].clone())
    }

    #[test]
    fn a_namespace_that_is_not_there_yet_is_a_warning() {
        let (linux, _) = linux("netns = [\"/proc/self/ns/net\", \"/nonexistent\"]");
        let warnings = linux.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with("target a/deploy/b: /nonexistent does not exist: make it"), "{warnings:?}");
    }

    #[test]
    fn two_places_with_the_same_last_part_have_two_names() {
        let (linux, target) =
            linux("netns = [\"/proc/self/ns/net\", \"/proc/thread-self/ns/net\", \"/nonexistent/net\"]");
        let replicas = linux.replicas(&target);
        let names: Vec<_> = replicas.there.iter().map(|replica| replica.name.as_str()).collect();
        assert_eq!(names, ["net", "/proc/thread-self/ns/net"]);
        assert_eq!(replicas.missing[0].name, "/nonexistent/net");
    }
}
