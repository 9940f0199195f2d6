//! [`Targets`]: pods with network namespaces of their own behind a [`World`]'s gateway, whose inbound traffic can be mirrored, and one
//! that asks them.
//!
//! ```text
//! gateway ──node0── node ──web-1── web-1    replicas of shop/deploy/web
//!                     ├────web-2── web-2
//!                     ├────api-1── api-1    replica of shop/deploy/api
//!                     └────client─ client   no target
//! ```
//!
//! Each replica's namespace is at `netns/NAME` in the world's directory, mounted there for the gateway alone, as `ip netns` would do it.
//! Before it in the flow: [`super::world`]; after: [`super::stage`].

use std::{
    fmt::Write,
    fs::{self, File},
    io,
    net::SocketAddr,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{
    http,
    namespace::{Namespace, Resolver},
    plan::{self, Pod},
    services::Services,
    wiring::{Route, Wiring},
    world::{World, WorldError, add_addresses},
};

/// The device between the gateway and the node, at both ends.
const NODE_DEVICE: &str = "node0";

/// What joins a pod and its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PodLink {
    /// A veth pair with all its offloads: a perfect link.
    #[default]
    Veth,
    /// Nothing yet for [`plan::WEB_1`]: the caller makes a device with the pod's name at both ends, then calls
    /// [`Targets::finish_link`].
    Own,
}

/// The pods; all is gone when it is dropped, and belongs to one world.
#[derive(Debug)]
pub struct Targets {
    /// Routes between the pods, and to the gateway.
    pub node: Namespace,
    /// The first replica of [`plan::WEB_TARGET`].
    pub web_1: Namespace,
    /// The second.
    pub web_2: Namespace,
    /// The replica of [`plan::API_TARGET`].
    pub api_1: Namespace,
    /// Asks the others.
    pub client: Namespace,
    gateway: Namespace,
    directory: PathBuf,
    _services: Vec<Services>,
}

impl Targets {
    /// Makes them, each replica with an HTTP server on [`plan::POD_HTTP_PORT`], and tells `world` of them for its `gateway.toml`.
    ///
    /// # Errors
    /// What cannot be made.
    pub fn new(world: &World, link: PodLink) -> Result<Self, WorldError> {
        let resolver = Resolver { nameservers: vec![plan::CLUSTER_DNS.v4.into()], search: Vec::new() };
        let namespace = |name| Namespace::new(name, world.directory(), &resolver);
        let directory = world.directory().join("netns");
        fs::create_dir_all(&directory).map_err(WorldError::Directory)?;
        let mut targets = Self {
            node: namespace("node")?,
            web_1: namespace(plan::WEB_1.name)?,
            web_2: namespace(plan::WEB_2.name)?,
            api_1: namespace(plan::API_1.name)?,
            client: namespace(plan::CLIENT.name)?,
            gateway: world.gateway.clone(),
            directory,
            _services: Vec::new(),
        };
        wire_node(&world.gateway, &targets.node)?;
        for pod in plan::PODS {
            if (link, pod) != (PodLink::Own, plan::WEB_1) {
                Wiring::open(&targets.node)?.add_veth(pod.name, targets.namespace(pod), pod.name)?;
                targets.finish_link(pod)?;
            }
        }
        for pod in [plan::WEB_1, plan::WEB_2, plan::API_1] {
            targets.publish(pod).map_err(WorldError::Directory)?;
            let serving = serve(targets.namespace(pod), pod);
            targets._services.push(serving.map_err(|error| WorldError::Services(pod.name, error))?);
        }
        world.set_gateway_tables(targets.tables());
        Ok(targets)
    }

    /// The namespace of a pod.
    pub fn namespace(&self, pod: Pod) -> &Namespace {
        let all = [&self.web_1, &self.web_2, &self.api_1, &self.client];
        all.into_iter().find(|namespace| namespace.name() == pod.name).expect("every pod of the plan has a namespace")
    }

    /// Gives the devices of a pod's link their addresses and routes, and sets them up.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn finish_link(&self, pod: Pod) -> Result<(), WorldError> {
        let (at_node, at_pod) = (Wiring::open(&self.node)?, Wiring::open(self.namespace(pod))?);
        at_pod.set_up("lo")?;
        at_node.set_up(pod.name)?;
        at_pod.set_up(pod.name)?;
        add_addresses(&at_node, pod.name, pod.router)?;
        add_addresses(&at_pod, pod.name, pod.address)?;
        for router in pod.router.both() {
            at_pod.add_route(plan::everything(router), Route::Via(router))?;
        }
        Ok(())
    }

    /// Where the gateway finds a pod's network namespace.
    pub fn path(&self, pod: Pod) -> PathBuf {
        self.directory.join(pod.name)
    }

    /// Makes a pod's network namespace appear at its path.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn publish(&self, pod: Pod) -> io::Result<()> {
        let (path, network) = (self.path(pod), self.namespace(pod).network());
        let source = PathBuf::from(format!("/proc/self/fd/{}", network.as_raw_fd()));
        self.gateway.run(|| {
            File::create(&path)?;
            Ok(mount(Some(&source), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
        })
    }

    /// Takes it away again: the pod is gone, as far as the gateway can tell, while its programs go on.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn withdraw(&self, pod: Pod) -> io::Result<()> {
        let path = self.path(pod);
        self.gateway.run(|| {
            umount2(&path, MntFlags::MNT_DETACH)?;
            fs::remove_file(&path)
        })
    }

    /// The `[[target]]` tables of `gateway.toml`.
    pub fn tables(&self) -> String {
        let mut tables = String::new();
        let targets: [(&str, &[Pod]); 2] =
            [(plan::WEB_TARGET, &[plan::WEB_1, plan::WEB_2]), (plan::API_TARGET, &[plan::API_1])];
        for (name, pods) in targets {
            let paths: Vec<String> = pods.iter().map(|pod| format!("\"{}\"", shown(&self.path(*pod)))).collect();
            writeln!(tables, "[[target]]\nname  = \"{name}\"\nnetns = [{}]\n", paths.join(", "))
                .expect("a String takes all");
        }
        tables
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn wire_node(gateway: &Namespace, node: &Namespace) -> Result<(), WorldError> {
    node.set_sysctl("net/ipv4/ip_forward", "1")?;
    node.set_sysctl("net/ipv6/conf/all/forwarding", "1")?;
    let (at_gateway, at_node) = (Wiring::open(gateway)?, Wiring::open(node)?);
    at_gateway.add_veth(NODE_DEVICE, node, NODE_DEVICE)?;
    at_node.set_up("lo")?;
    for wiring in [&at_gateway, &at_node] {
        wiring.set_up(NODE_DEVICE)?;
    }
    add_addresses(&at_gateway, NODE_DEVICE, plan::NODE_GATEWAY)?;
    add_addresses(&at_node, NODE_DEVICE, plan::NODE)?;
    for (prefix, node) in plan::node_prefixes().into_iter().zip(plan::NODE.both()) {
        at_gateway.add_route(prefix, Route::Via(node))?;
    }
    Ok(())
}

fn serve(namespace: &Namespace, pod: Pod) -> io::Result<Services> {
    // Wildcards: a pod whose link is still to come has no address yet, and a sidecar asks over the loopback.
    let addresses: [SocketAddr; 2] =
        [([0, 0, 0, 0], plan::POD_HTTP_PORT).into(), ([0; 16], plan::POD_HTTP_PORT).into()];
    Services::start(namespace, move |supervisor| {
        addresses.into_iter().try_for_each(|address| http::serve(supervisor, address, pod.name))
    })
}
