//! [`World`]: four namespaces, joined, with everything in them that is not adit.
//!
//! Before it in the flow: [`super::plan`], [`super::namespace`], [`super::wiring`], [`super::services`].

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use tempfile::TempDir;
use thiserror::Error;

use super::{
    echo, entry, http,
    nameserver::{self, QuestionLog},
    namespace::{Namespace, NamespaceError, Resolver},
    plan::{self, Dual},
    services::{Services, Supervisor},
    wiring::{Route, Wiring, WiringError},
    zones,
};

/// Name of the uplink's device at both of its ends.
pub const UPLINK: &str = "up0";

/// A world could not be made.
#[derive(Debug, Error)]
pub enum WorldError {
    /// No place for its files.
    #[error("cannot make a directory for the world's files in {}", entry::SCRATCH)]
    Directory(#[source] io::Error),
    /// A namespace.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// A link, an address or a route.
    #[error(transparent)]
    Wiring(#[from] WiringError),
    /// A server.
    #[error("cannot start the servers of '{0}'")]
    Services(&'static str, #[source] io::Error),
}

/// What joins the host and the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Uplink {
    /// A veth pair: a perfect link.
    #[default]
    Veth,
    /// Nothing yet: the caller makes a device named [`UPLINK`] in both namespaces, then calls [`World::finish_uplink`].
    Own,
}

/// A developer's machine, a gateway, a cluster behind it, and the office around the developer's machine.
///
/// Addresses and names are those of [`plan`]. Worlds know nothing of each other, so any number may live in one process.
/// All is gone when it is dropped and when the process ends.
#[derive(Debug)]
pub struct World {
    /// The developer's machine.
    pub host: Namespace,
    /// Its network: the default route, the ordinary nameserver, an ordinary web server.
    pub office: Namespace,
    /// Where the gateway runs. Reaches the cluster and the host, nothing else.
    pub gateway: Namespace,
    /// Holds the addresses of all services and pods.
    pub cluster: Namespace,
    /// What the ordinary nameserver was asked.
    pub ordinary_questions: QuestionLog,
    /// What the cluster's nameserver was asked.
    pub cluster_questions: QuestionLog,
    gateway_tables: Mutex<String>,
    // Servers stop before the directory goes.
    _services: [Services; 2],
    directory: TempDir,
}

impl World {
    /// Builds it; everything answers when this returns. The process must have been through [`entry::enter`].
    pub fn new(uplink: Uplink) -> Result<Self, WorldError> {
        let directory = TempDir::with_prefix_in("adit-world-", entry::SCRATCH).map_err(WorldError::Directory)?;
        let ordinary = Resolver { nameservers: vec![plan::NAMESERVER.v4.into()], search: Vec::new() };
        let in_cluster = Resolver { nameservers: vec![plan::CLUSTER_DNS.v4.into()], search: Vec::new() };
        let host = Namespace::new("host", directory.path(), &ordinary)?;
        let office = Namespace::new("office", directory.path(), &ordinary)?;
        let gateway = Namespace::new("gateway", directory.path(), &in_cluster)?;
        let cluster = Namespace::new("cluster", directory.path(), &in_cluster)?;

        wire_office(&host, &office)?;
        wire_cluster(&gateway, &cluster)?;
        if uplink == Uplink::Veth {
            Wiring::open(&host)?.add_veth(UPLINK, &gateway, UPLINK)?;
            finish_uplink(&host, &gateway)?;
        }

        let (ordinary_questions, cluster_questions) = (QuestionLog::default(), QuestionLog::default());
        let log = ordinary_questions.clone();
        let in_office = Services::start(&office, move |supervisor| start_office(supervisor, log));
        let log = cluster_questions.clone();
        let in_cluster = Services::start(&cluster, move |supervisor| start_cluster(supervisor, log));
        let services = [
            in_office.map_err(|error| WorldError::Services("office", error))?,
            in_cluster.map_err(|error| WorldError::Services("cluster", error))?,
        ];
        Ok(Self {
            host,
            office,
            gateway,
            cluster,
            ordinary_questions,
            cluster_questions,
            gateway_tables: Mutex::default(),
            _services: services,
            directory,
        })
    }

    /// A directory, in memory, that goes with the world.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a `gateway.toml` that fits this world and gives its path. The gateway's state is kept beside it.
    pub fn write_gateway_config(&self) -> io::Result<PathBuf> {
        let path = self.directory().join("gateway.toml");
        let tables = self.gateway_tables.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = plan::gateway_config(&self.directory().join("gateway-state"));
        std::fs::write(&path, format!("{plan}\n{tables}"))?;
        Ok(path)
    }

    /// Replaces what the next [`Self::write_gateway_config`] puts behind the plan's own tables: targets, and who may mirror them.
    pub fn set_gateway_tables(&self, tables: impl Into<String>) {
        *self.gateway_tables.lock().unwrap_or_else(PoisonError::into_inner) = tables.into();
    }

    /// Gives the devices of an [`Uplink::Own`] their addresses and sets them up.
    pub fn finish_uplink(&self) -> Result<(), WorldError> {
        finish_uplink(&self.host, &self.gateway)
    }
}

fn finish_uplink(host: &Namespace, gateway: &Namespace) -> Result<(), WorldError> {
    let ends = [(Wiring::open(host)?, plan::UPLINK_HOST), (Wiring::open(gateway)?, plan::UPLINK_GATEWAY)];
    for (wiring, _) in &ends {
        wiring.set_up(UPLINK)?;
    }
    for (wiring, addresses) in &ends {
        add_addresses(wiring, UPLINK, *addresses)?;
    }
    Ok(())
}

fn wire_office(host: &Namespace, office: &Namespace) -> Result<(), WorldError> {
    let (at_host, at_office) = (Wiring::open(host)?, Wiring::open(office)?);
    at_host.add_veth("lan0", office, "lan0")?;
    for wiring in [&at_host, &at_office] {
        wiring.set_up("lo")?;
        wiring.set_up("lan0")?;
    }
    add_addresses(&at_host, "lan0", plan::OFFICE_HOST)?;
    add_addresses(&at_office, "lan0", plan::OFFICE_ROUTER)?;
    add_addresses(&at_office, "lan0", plan::NAMESERVER)?;
    for address in plan::ORDINARY_WEB.both() {
        at_office.add_address("lo", address, plan::exactly(address).bits())?;
    }
    for router in plan::OFFICE_ROUTER.both() {
        at_host.add_route(plan::everything(router), Route::Via(router))?;
    }
    Ok(())
}

fn wire_cluster(gateway: &Namespace, cluster: &Namespace) -> Result<(), WorldError> {
    let (at_gateway, at_cluster) = (Wiring::open(gateway)?, Wiring::open(cluster)?);
    at_gateway.add_veth("pods0", cluster, "eth0")?;
    for (wiring, device) in [(&at_gateway, "pods0"), (&at_cluster, "eth0")] {
        wiring.set_up("lo")?;
        wiring.set_up(device)?;
    }
    add_addresses(&at_gateway, "pods0", plan::PODS_GATEWAY)?;
    add_addresses(&at_cluster, "eth0", plan::PODS_CLUSTER)?;
    for pod in plan::PEERS {
        add_addresses(&at_cluster, "eth0", pod)?;
    }
    for address in plan::service_addresses() {
        at_cluster.add_address("lo", address, plan::exactly(address).bits())?;
    }
    for (prefix, neighbour) in plan::service_prefixes().into_iter().zip(plan::PODS_CLUSTER.both()) {
        at_gateway.add_route(prefix, Route::Via(neighbour))?;
    }
    for (dual, route) in [(plan::UNREACHABLE, Route::Unreachable), (plan::PROHIBITED, Route::Prohibited)] {
        for address in dual.both() {
            at_gateway.add_route(plan::exactly(address), route)?;
        }
    }
    // What container runtimes set for their pods; group 0 is the only one a user namespace is sure to have.
    gateway.set_sysctl("net/ipv4/ping_group_range", "0 0")?;
    Ok(())
}

/// Adds the address of each family, each with its link's prefix.
pub(super) fn add_addresses(wiring: &Wiring<'_>, device: &str, addresses: Dual) -> Result<(), WiringError> {
    let (v4_len, v6_len) = plan::LINK_PREFIX_LEN;
    wiring.add_address(device, addresses.v4.into(), v4_len)?;
    wiring.add_address(device, addresses.v6.into(), v6_len)
}

fn start_office(supervisor: &Supervisor, log: QuestionLog) -> io::Result<()> {
    nameserver::serve(supervisor, &plan::NAMESERVER.both(), &zones::ordinary(), log)?;
    echo::on_each(plan::ORDINARY_WEB.both(), plan::HTTP_PORT, |address| {
        http::serve(supervisor, address, "www.example.test")
    })
}

fn start_cluster(supervisor: &Supervisor, log: QuestionLog) -> io::Result<()> {
    nameserver::serve(supervisor, &plan::CLUSTER_DNS.both(), &zones::cluster(), log)?;
    let webs: [(&str, &[IpAddr]); 4] = [
        ("web.shop", &plan::WEB.both()),
        ("web.default", &plan::WEB_DEFAULT.both()),
        ("v4only.shop", &[plan::V4_ONLY.into()]),
        ("v6only.shop", &[plan::V6_ONLY.into()]),
    ];
    for (name, addresses) in webs {
        echo::on_each(addresses.iter().copied(), plan::HTTP_PORT, |address| http::serve(supervisor, address, name))?;
    }
    let echoes = [plan::ECHO, plan::PEERS[0], plan::PEERS[1], plan::PEERS[2]];
    for echo in echoes {
        echo::on_each(echo.both(), plan::ECHO_PORT, |address| {
            echo::tcp(supervisor, address)?;
            echo::udp(supervisor, address)
        })?;
    }
    echo::on_each(plan::ECHO.both(), plan::SINK_PORT, |address| echo::sink(supervisor, address))?;
    let filtered = plan::WEB.both().into_iter().chain(plan::ECHO.both());
    echo::on_each(filtered, plan::FILTERED_PORT, |address| echo::filtered(supervisor, address))
}
