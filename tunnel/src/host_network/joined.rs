//! [`Joined`]: a plan put into force, and taken back.
//!
//! 1. The device gets no link-local address and a loose reverse path, its addresses, and is set up.
//! 2. Routes to it go into the session's two tables.
//! 3. Rules make the machine look there; the rules for nameservers come last.
//! 4. [`Joined::update`] goes over to another plan: the gateway announces something else, or the machine has other nameservers.
//! 5. [`Joined::restore`] undoes all that in reverse order, so that no rule ever points at a table that is half there.
//!
//! Not restored, whatever killed the session: the device takes addresses and routes along, and rules that point at an empty table change
//! nothing until the next session removes them (`slot`). Before: `plan`; after: nothing, packets come out of the device.

use std::{net::IpAddr, sync::Arc};

use link::prefix::Prefix;
use tracing::{debug, info, warn};

use super::{
    error::HostError,
    netlink::{Network, Route, rule_message},
    numbers::Numbers,
    plan::{Plan, Rule},
    slot::{Slot, is_gone},
};

/// One change, and so what is to be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Address(Prefix),
    Up,
    Route(Route),
    Rule(Rule),
}

impl Step {
    const fn is_v6(self) -> bool {
        match self {
            Self::Address(prefix) | Self::Route(Route { prefix, .. }) => prefix.address().is_ipv6(),
            Self::Rule(rule) => rule.selector.is_v6(),
            Self::Up => false,
        }
    }
}

/// The machine is joined. Call [`Joined::restore`] at the end.
#[derive(Debug)]
pub struct Joined {
    network: Arc<Network>,
    slot: Slot,
    device: u32,
    /// In the order in which they were done.
    done: Vec<Step>,
    without_v6: bool,
}

impl Joined {
    /// Puts `plan`, made from the slot's numbers, into force with the TUN device of this interface index.
    ///
    /// A machine on which IPv6 is switched off is joined without it; see [`Joined::is_without_v6`].
    ///
    /// # Errors
    /// [`HostError`] names what the kernel refused; all that had been done by then is undone.
    pub async fn apply(network: Arc<Network>, slot: Slot, plan: &Plan, device: u32) -> Result<Self, HostError> {
        let mut joined = Self { network, slot, device, done: Vec::new(), without_v6: false };
        match joined.take_steps(plan).await {
            Ok(()) => {
                info!(device, routes = plan.routes.len(), nameservers = plan.nameservers.len(), "joined");
                Ok(joined)
            }
            Err(error) => {
                if let Err(undoing) = joined.restore().await {
                    warn!(%undoing, "a change could not be undone");
                }
                Err(error)
            }
        }
    }

    /// Whether the cluster's IPv6 half is left out, because this machine has IPv6 switched off.
    pub const fn is_without_v6(&self) -> bool {
        self.without_v6
    }

    /// The numbers of all rules and routes.
    pub const fn numbers(&self) -> Numbers {
        self.slot.numbers()
    }

    async fn take_steps(&mut self, plan: &Plan) -> Result<(), HostError> {
        self.network.prepare_device(self.device).await?;
        self.take_all(&steps(plan, self.device)).await?;
        for address in
            plan.addresses.iter().map(Prefix::address).filter(|address| address.is_ipv6() && !self.without_v6)
        {
            self.network.await_delivery(address).await?;
        }
        Ok(())
    }

    /// Goes over to another plan for the same device, and leaves what both have untouched: flows and lookups go on meanwhile.
    ///
    /// The device keeps the addresses that it has, whatever the plan says: open flows have them.
    ///
    /// # Errors
    /// [`HostError`] names what the kernel refused. What has been done by then stays, and [`Joined::restore`] still undoes it.
    pub async fn update(&mut self, plan: &Plan) -> Result<(), HostError> {
        let mut plan = plan.clone();
        for step in &self.done {
            let Step::Address(kept) = step else { continue };
            let is_v4 = kept.address().is_ipv4();
            plan.addresses.iter_mut().filter(|new| new.address().is_ipv4() == is_v4).for_each(|new| *new = *kept);
        }
        let wanted = steps(&plan, self.device);
        for index in (0..self.done.len()).rev() {
            if !wanted.contains(&self.done[index]) {
                self.undo_or_gone(self.done[index]).await?;
                self.done.remove(index);
            }
        }
        self.take_all(&wanted).await
    }

    /// Takes the steps that are not done yet.
    async fn take_all(&mut self, steps: &[Step]) -> Result<(), HostError> {
        for step in steps.iter().copied() {
            if self.done.contains(&step) || self.without_v6 && step.is_v6() {
                continue;
            }
            match self.take(step).await {
                Ok(()) => self.done.push(step),
                Err(error) if matches!(step, Step::Address(_)) && step.is_v6() && is_switched_off(&error) => {
                    warn!(%error, "IPv6 is switched off on this machine: the cluster's IPv6 addresses are not joined");
                    self.without_v6 = true;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn take(&self, step: Step) -> Result<(), HostError> {
        match step {
            Step::Address(address) => self.network.add_address(self.device, address).await,
            Step::Up => self.network.set_up(self.device).await,
            Step::Route(route) => self.network.add_route(route).await,
            Step::Rule(rule) => self.network.add_rule(rule).await,
        }
    }

    async fn undo(&self, step: Step) -> Result<(), HostError> {
        match step {
            Step::Address(address) => self.network.remove_address(self.device, address).await,
            Step::Up => self.network.set_down(self.device).await,
            Step::Route(route) => self.network.remove_route(route).await,
            Step::Rule(rule) => self.network.remove_rule(rule_message(rule)).await,
        }
    }

    /// Undoes all changes, the last first. What is gone already is no error, and a second call has nothing to do.
    ///
    /// # Errors
    /// The first [`HostError`]; the other changes are undone all the same.
    pub async fn restore(&mut self) -> Result<(), HostError> {
        let mut first = Ok(());
        while let Some(step) = self.done.pop() {
            first = first.and(self.undo_or_gone(step).await);
        }
        first
    }

    async fn undo_or_gone(&self, step: Step) -> Result<(), HostError> {
        match self.undo(step).await {
            Err(error) if is_gone(&error) => {
                debug!(%error, ?step, "gone already");
                Ok(())
            }
            undone => undone,
        }
    }
}

/// What a plan comes down to, in order.
fn steps(plan: &Plan, device: u32) -> Vec<Step> {
    let source = |v4: bool| plan.addresses.iter().map(Prefix::address).find(|address| address.is_ipv4() == v4);
    let route = |prefix: Prefix, table| Route { prefix, device, table, source: source(prefix.address().is_ipv4()) };
    let nameserver = |address: &IpAddr| Prefix::new(*address, if address.is_ipv4() { 32 } else { 128 });
    let addresses = plan.addresses.iter().copied().map(Step::Address);
    let of_cluster = plan.routes.iter().map(|prefix| Step::Route(route(*prefix, plan.numbers.cluster_table())));
    let of_dns = plan.nameservers.iter().filter_map(nameserver);
    let of_dns = of_dns.map(|prefix| Step::Route(route(prefix, plan.numbers.dns_table())));
    let rules = plan.rules.iter().copied().map(Step::Rule);
    addresses.chain([Step::Up]).chain(of_cluster).chain(of_dns).chain(rules).collect()
}

/// The kernel says that an interface has no IPv6 by EACCES, and that there is none at all by the others. A missing capability is EPERM.
fn is_switched_off(error: &HostError) -> bool {
    match error {
        HostError::NotPermitted { source, .. } => source.raw_os_error() == Some(libc::EACCES),
        HostError::Unsupported { .. } => true,
        HostError::NoTunDevice(_)
        | HostError::DeviceGone { .. }
        | HostError::Refused { .. }
        | HostError::Netlink(_)
        | HostError::TooManySessions => false,
    }
}

#[cfg(test)]
mod tests;
