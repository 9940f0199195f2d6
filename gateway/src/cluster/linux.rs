//! The `linux` provider: a plain Linux machine, whose targets are network namespaces. All it knows is what the file says.

use crate::{
    cluster::{Network, Provider},
    config::{Cluster, Target},
};

/// A Linux machine as a cluster.
#[derive(Debug)]
pub struct Linux {
    network: Network,
    targets: Vec<Target>,
}

impl Linux {
    /// The cluster that the file describes.
    pub fn new(cluster: &Cluster, targets: &[Target]) -> Self {
        let network = Network {
            domain: cluster.domain.clone(),
            routes: cluster.routes.clone(),
            namespaces: cluster.namespaces.clone(),
        };
        Self { network, targets: targets.to_vec() }
    }
}

impl Provider for Linux {
    fn network(&self) -> &Network {
        &self.network
    }

    fn targets(&self) -> &[Target] {
        &self.targets
    }

    fn warnings(&self) -> Vec<String> {
        let missing = |target: &Target, netns: &std::path::Path| {
            (!netns.exists()).then(|| {
                format!(
                    "target {}: {} does not exist: make it ('ip netns add NAME') or correct netns; it is looked for again when mirrored",
                    target.name,
                    netns.display()
                )
            })
        };
        self.targets
            .iter()
            .flat_map(|target| target.netns.iter().filter_map(move |netns| missing(target, netns)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn a_namespace_that_is_not_there_yet_is_a_warning() {
        let text = "listen = \"0.0.0.0:1\"\nstate_dir = \"/s\"\n[cluster]\nprovider = \"linux\"\ndomain = \"c\"\ndns = \"10.0.0.1\"\nroutes = [\"10.0.0.0/8\"]\n[[target]]\nname = \"a/deploy/b\"\nnetns = [\"/proc/self/ns/net\", \"/nonexistent\"]\n";
        let config = Config::parse(text, "t".as_ref()).unwrap();
        let warnings = crate::cluster::provider(&config).warnings();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].starts_with("target a/deploy/b: /nonexistent does not exist: make it"), "{warnings:?}");
    }
}
