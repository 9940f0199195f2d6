//! Composes a session: link, device, host network, resolver, outbound flows; and takes it apart in reverse order.
//!
//! 1. The identity is read and the first link made: nothing on the machine has changed if that fails.
//! 2. What the gateway announces is checked and becomes a plan for the host's network.
//! 3. The device is made, the plan put into force, and traffic flows.
//! 4. Told to stop, or when the device is gone: programs get resets for their open flows, the host's network is restored, the link is
//!    closed, and the device ends with its descriptor.
//!
//! One thread runs all of it, with one task tracker. Before: `cli::session_process`; after: [`crate::outbound`].

mod machine;

use std::{sync::Arc, time::SystemTime};

use certs::Identity;
use tokio::runtime::{Builder, LocalOptions};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::machine::{Machine, Seen};
use crate::{
    control::status::{SessionStatus, State},
    device::Device,
    gateway_link::{GatewayLink, LinkWatch, Welcomed},
    host_network::{Joined, Network, Slot},
    mirror::Mirror,
    outbound::Outbound,
    session_options::{Progress, SessionError, SessionOptions},
};

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
    // Not a `LocalSet` on a plain runtime: each wake-up across the two would ask the kernel for events once more.
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .map_err(|source| SessionError::Host { action: "start the session's runtime", source })?;
    let session = Session { options, status, stop, tasks: TaskTracker::new() };
    runtime.block_on(session.live(&mut progress))
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
        let machine = Machine {
            network: Arc::clone(&network),
            numbers: slot.numbers(),
            namespace: self.options.namespace.clone(),
            status: Arc::clone(self.status),
        };
        let seen = Seen::of(welcomed);
        let plan = machine.plan(welcomed).await?;
        let names = machine.names(&plan, &links)?;
        let device = Device::make()?;
        let name = device.name().to_owned();
        let mut joined = Joined::apply(network, slot, &plan, device.index()).await?;
        machine.publish(&plan, &joined, &name);
        progress(Progress::Routed { device: name.clone(), routes: welcomed.welcome.routes.clone() });
        if !plan.nameservers.is_empty() && !plan.names.domain.is_empty() {
            progress(Progress::Named { domain: plan.names.domain.clone() });
        }
        let mirror = Mirror::new(Arc::clone(self.status), self.tasks.clone());
        let outbound = Outbound::new(device, links.clone(), names, mirror, self.tasks.clone(), Arc::clone(self.status));
        progress(Progress::Flowing);
        let carried = tokio::select! {
            carried = outbound.run(self.stop) => carried,
            () = machine.follow(seen, &mut joined, outbound.names(), &name, &links) => Ok(()),
        };
        self.status.enter(State::Leaving, None);
        let restored = joined.restore().await;
        carried.map_err(|source| SessionError::Host { action: "read the TUN device", source })?;
        Ok(restored?)
    }
}

fn connected(welcomed: &Welcomed) -> Progress {
    Progress::Connected {
        carrier: welcomed.link.carrier.to_string(),
        rtt: welcomed.link.connection.rtt(),
        identity: welcomed.welcome.identity.clone(),
    }
}
