//! What the session does to the machine, decided anew when the gateway announces something else or the machine's nameservers change.
//!
//! Before: [`crate::session`]; after: [`crate::host_network`] and the resolver in [`crate::outbound`].

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use link::{control::Welcome, prefix::Prefix};
use tokio::time::timeout;

use crate::{
    control::status::SessionStatus,
    dns::{MarkedSockets, Names as NameTable, Resolver},
    gateway_link::{LinkWatch, Welcomed},
    host_network::{HostView, Joined, Network, Numbers, Overlap, Plan, PlanError, PlanInput, RESOLV_CONF},
    outbound::{LinkDns, Names},
    session_options::SessionError,
};

/// The port of every nameserver in `/etc/resolv.conf`.
const DNS_PORT: u16 = 53;
/// How soon a nameserver that another network brought is captured; a look costs one small file.
const LOOK_PERIOD: Duration = Duration::from_secs(2);

/// How this machine is to be joined.
pub(super) struct Machine {
    pub(super) network: Arc<Network>,
    pub(super) numbers: Numbers,
    pub(super) namespace: String,
    pub(super) status: Arc<SessionStatus>,
}

impl Machine {
    /// What is to be changed for this gateway, on the machine as it is.
    pub(super) async fn plan(&self, welcomed: &Welcomed) -> Result<Plan, SessionError> {
        let host = HostView::read(&self.network, Path::new(RESOLV_CONF)).await?;
        Ok(Plan::new(&PlanInput {
            welcome: &welcomed.welcome,
            gateway: welcomed.gateway.ip(),
            host: &host,
            numbers: self.numbers,
            marked: true,
            default_namespace: Some(&self.namespace),
        })?)
    }

    /// The resolver for the plan's names.
    pub(super) fn names(&self, plan: &Plan, links: &LinkWatch) -> Result<Names, SessionError> {
        let ordinary = MarkedSockets::new(Some(self.numbers.mark()));
        let resolver =
            Resolver::new(NameTable::new(&plan.names).map_err(PlanError::from)?, LinkDns(links.clone()), ordinary);
        Ok(Names::new(Arc::new(resolver), nameservers(plan)))
    }

    /// Puts what is in force into the status, with all that works less well than it could.
    pub(super) fn publish(&self, plan: &Plan, joined: &Joined, device: &str) {
        let warnings = warnings(plan, joined.is_without_v6());
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        self.status.update(|summary| {
            summary.network.device = Some(device.to_owned());
            let is_in_force = |prefix: &&Prefix| prefix.address().is_ipv4() || !joined.is_without_v6();
            summary.network.addresses = plan.addresses.iter().filter(is_in_force).copied().collect();
            summary.network.routes = plan.routes.iter().filter(is_in_force).copied().collect();
            summary.dns.mode = if plan.nameservers.is_empty() { "off" } else { "policy_rule" }.to_owned();
            summary.dns.nameservers = nameservers(plan);
            summary.dns.domain.clone_from(&plan.names.domain);
            summary.dns.namespaces.clone_from(&plan.names.namespaces);
            summary.warnings = warnings;
        });
    }

    /// Goes over to what a new link announces, and to the nameservers of another network, for as long as the session lives. What
    /// cannot be followed leaves everything as it was, and is told.
    pub(super) async fn follow(
        &self,
        mut seen: Seen,
        joined: &mut Joined,
        names: &Names,
        device: &str,
        links: &LinkWatch,
    ) {
        let mut links = links.clone();
        loop {
            // The session ends before its links do; the error of a watch without a sender needs no answer here.
            let _ = timeout(LOOK_PERIOD, links.changed()).await;
            let Some(welcomed) = links.current() else { continue };
            let now = Seen::of(&welcomed);
            if now == seen {
                continue;
            }
            seen = now;
            tracing::info!("the gateway or this machine's nameservers have changed: joining anew");
            if let Err(error) = self.join_anew(&welcomed, joined, names, device).await {
                tracing::warn!(%error, "what has changed cannot be followed");
                self.status.update(|summary| {
                    summary.warnings = vec![format!("what has changed cannot be followed: {error}")];
                });
            }
        }
    }

    async fn join_anew(
        &self,
        welcomed: &Welcomed,
        joined: &mut Joined,
        names: &Names,
        device: &str,
    ) -> Result<(), SessionError> {
        let plan = self.plan(welcomed).await?;
        let table = NameTable::new(&plan.names).map_err(PlanError::from)?;
        names.expect(&nameservers(&plan));
        joined.update(&plan).await?;
        names.replace(table, nameservers(&plan));
        self.publish(&plan, joined, device);
        Ok(())
    }
}

/// What a plan was made from, as far as it can change.
#[derive(PartialEq)]
pub(super) struct Seen {
    gateway: SocketAddr,
    announced: (Vec<Prefix>, String, Vec<String>, Vec<SocketAddr>),
    resolv_conf: Option<String>,
}

impl Seen {
    pub(super) fn of(welcomed: &Welcomed) -> Self {
        let Welcome { routes, domain, namespaces, never, .. } = welcomed.welcome.as_ref();
        Self {
            gateway: welcomed.gateway,
            announced: (routes.clone(), domain.clone(), namespaces.clone(), never.clone()),
            // A file of a few lines in memory: not worth a thread.
            resolv_conf: fs::read_to_string(RESOLV_CONF).ok(),
        }
    }
}

fn nameservers(plan: &Plan) -> Vec<SocketAddr> {
    plan.nameservers.iter().map(|address| SocketAddr::new(*address, DNS_PORT)).collect()
}

/// What works less well than it could, each with what to do.
fn warnings(plan: &Plan, is_without_v6: bool) -> Vec<String> {
    let some = if plan.nameservers.is_empty() { "names" } else { "names asked of one of the nameservers" };
    let uncaptured = plan.uncaptured.iter().map(|uncaptured| format!("{some} are not joined: {uncaptured}"));
    let overlaps = plan.overlaps.iter().map(|Overlap { route, host }| {
        format!("the cluster's {route} hides addresses of this machine's network {host}")
    });
    let top_level = NameTable::new(&plan.names).map(|table| table.top_level_namespaces()).unwrap_or_default();
    let top_level = top_level.into_iter().map(|namespace| {
        format!("names of two labels under .{namespace} are looked up in the cluster, where it is a namespace")
    });
    let search = plan.search_first.iter().map(|search| {
        format!(
            "short names of the cluster (web.shop) are asked for under {search} first, where others see them and may answer: \
             write 'options ndots:1' into /etc/resolv.conf, or use names under {}",
            plan.names.domain
        )
    });
    let without_v6 = is_without_v6.then(|| {
        "IPv6 is switched off on this machine, so the cluster's IPv6 addresses are not joined: sysctl -w \
         net.ipv6.conf.all.disable_ipv6=0, then connect again"
            .to_owned()
    });
    uncaptured.chain(overlaps).chain(top_level).chain(search).chain(without_v6).collect()
}
