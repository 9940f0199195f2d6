//! Composes a session: link, device, host network, resolver, outbound flows; and takes it apart in reverse order.
//!
//! 1. The identity is read and the first link made: nothing on the machine has changed if that fails.
//! 2. What the gateway announces is checked and becomes a plan for the host's network.
//! 3. The device is made, the plan put into force, and traffic flows.
//! 4. Told to stop, or when the device is gone: programs get resets for their open flows, the host's network is restored, the link is
//!    closed, and the device ends with its descriptor.
//!
//! One thread runs all of it, with one task tracker. Before: `cli::session_process`; after: [`crate::outbound`].

use std::{net::SocketAddr, path::Path, sync::Arc, time::SystemTime};

use certs::Identity;
use tokio::task::LocalSet;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    control::status::{SessionStatus, State},
    device::Device,
    dns::{MarkedSockets, Names as NameTable, Resolver},
    gateway_link::{GatewayLink, LinkWatch, Welcomed},
    host_network::{HostView, Joined, Network, Overlap, Plan, PlanInput, RESOLV_CONF, Slot},
    outbound::{LinkDns, Names, Outbound},
    session_options::{Progress, SessionError, SessionOptions},
};

/// The port of every nameserver in `/etc/resolv.conf`.
const DNS_PORT: u16 = 53;

/// Runs a session until `stop` is cancelled, and restores the host's network before it returns. It makes its own runtime, so it is
/// called from a plain thread.
///
/// # Errors
/// [`SessionError`] when the session cannot start, or ends for a reason that no retry can mend.
pub fn run(
    options: &SessionOptions,
    status: &Arc<SessionStatus>,
    mut progress: impl FnMut(Progress),
    stop: &CancellationToken,
) -> Result<(), SessionError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| SessionError::Host { action: "start the session's runtime", source })?;
    let session = Session { options, status, stop, tasks: TaskTracker::new() };
    LocalSet::new().block_on(&runtime, session.live(&mut progress))
}

/// What every part of a session's life needs.
struct Session<'a> {
    options: &'a SessionOptions,
    status: &'a Arc<SessionStatus>,
    stop: &'a CancellationToken,
    tasks: TaskTracker,
}

impl Session<'_> {
    async fn live(&self, progress: &mut impl FnMut(Progress)) -> Result<(), SessionError> {
        let identity = Identity::load(&self.options.identity, SystemTime::now())?;
        let network = Arc::new(Network::open(&self.tasks)?);
        let slot = Slot::claim(&network).await?;
        progress(Progress::Connecting);
        let link = GatewayLink::new(
            self.options.gateway.clone(),
            &identity,
            Some(slot.numbers().mark()),
            self.options.carrier,
            self.tasks.clone(),
            Arc::clone(self.status),
        )?;
        let Some(welcomed) = self.stop.run_until_cancelled(link.connect()).await else { return Ok(()) };
        let welcomed = welcomed?;
        progress(connected(&welcomed));
        let watch = link.watch();
        let closing = CancellationToken::new();
        let kept = self.tasks.spawn_local(link.keep(welcomed.clone(), closing.clone()));
        let ended = self.carry(&welcomed, watch, network, slot, progress).await;
        self.status.enter(State::Leaving, None);
        closing.cancel();
        // It ends within the moment that a close may take; a panic in it has been printed.
        let _ = kept.await;
        ended
    }

    /// Joins the machine, and carries its traffic until the end.
    async fn carry(
        &self,
        welcomed: &Welcomed,
        links: LinkWatch,
        network: Arc<Network>,
        slot: Slot,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), SessionError> {
        let host = HostView::read(&network, Path::new(RESOLV_CONF)).await?;
        let numbers = slot.numbers();
        let plan = Plan::new(&PlanInput {
            welcome: &welcomed.welcome,
            gateway: welcomed.gateway.ip(),
            host: &host,
            numbers,
            marked: true,
            default_namespace: Some(&self.options.namespace),
        })?;
        let device = Device::make()?;
        let device_name = device.name().to_owned();
        let mut joined = Joined::apply(network, slot, &plan, device.index()).await?;
        self.publish(&plan, &device_name);
        progress(Progress::Routed { device: device_name, routes: welcomed.welcome.routes.clone() });
        let names = names(&plan, &links, numbers.mark());
        if names.is_some() {
            progress(Progress::Named { domain: plan.names.domain.clone() });
        }
        let outbound = Outbound::new(device, links, names, self.tasks.clone(), Arc::clone(self.status));
        progress(Progress::Flowing);
        let carried = outbound.run(self.stop).await;
        self.status.enter(State::Leaving, None);
        let restored = joined.restore().await;
        carried.map_err(|source| SessionError::Host { action: "read the TUN device", source })?;
        Ok(restored?)
    }

    fn publish(&self, plan: &Plan, device: &str) {
        self.status.update(|summary| {
            summary.network.device = Some(device.to_owned());
            summary.network.addresses.clone_from(&plan.addresses);
            summary.network.routes.clone_from(&plan.routes);
            summary.dns.mode = if plan.nameservers.is_empty() { "off" } else { "policy_rule" }.to_owned();
            summary.dns.nameservers = nameservers(plan);
            summary.dns.domain.clone_from(&plan.names.domain);
            summary.dns.namespaces.clone_from(&plan.names.namespaces);
            summary.warnings = warnings(plan);
        });
        for warning in warnings(plan) {
            tracing::warn!("{warning}");
        }
    }
}

/// What works less well than it could, for the log and for `adit status`.
fn warnings(plan: &Plan) -> Vec<String> {
    let names = plan.uncaptured.iter().map(|uncaptured| format!("names are not joined: {uncaptured}"));
    let hidden = plan.overlaps.iter().map(|Overlap { route, host }| {
        format!("the cluster's {route} hides addresses of this machine's network {host}")
    });
    names.chain(hidden).collect()
}

fn nameservers(plan: &Plan) -> Vec<SocketAddr> {
    plan.nameservers.iter().map(|address| SocketAddr::new(*address, DNS_PORT)).collect()
}

fn names(plan: &Plan, links: &LinkWatch, mark: u32) -> Option<Names> {
    if plan.nameservers.is_empty() {
        return None;
    }
    let table = NameTable::new(&plan.names).ok()?;
    let resolver = Resolver::new(table, LinkDns(links.clone()), MarkedSockets::new(Some(mark)));
    Some(Names::new(Arc::new(resolver), nameservers(plan)))
}

fn connected(welcomed: &Welcomed) -> Progress {
    Progress::Connected {
        carrier: welcomed.link.carrier.to_string(),
        rtt: welcomed.link.connection.rtt(),
        identity: welcomed.welcome.identity.clone(),
    }
}
