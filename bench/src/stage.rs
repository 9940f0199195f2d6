//! The world that is measured in: joined by adit, or with plain routes as the baseline "direct".

use std::{net::SocketAddr, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};
use cli::demo::{namespace::Namespace, plan};
use tests::{
    emulator::Conditions,
    lab::Lab,
    observe::Usage,
    process::{self, Process},
};

/// A lab with a gateway, and the processes whose CPU counts.
pub(crate) struct Stage {
    pub(crate) lab: Lab,
    pub(crate) gateway: Process,
    identity: PathBuf,
}

impl Stage {
    /// A perfect link between the developer's machine and the gateway.
    pub(crate) fn on_lan() -> Result<Self> {
        Self::around(Lab::new())
    }

    /// An emulated link.
    pub(crate) fn on_link(conditions: Conditions) -> Result<Self> {
        Self::around(Lab::with_link(conditions))
    }

    fn around(lab: Lab) -> Result<Self> {
        let gateway = lab.start_gateway();
        let identity = lab.issue_identity("bench");
        let stage = Self { lab, gateway, identity };
        stage.allow_direct()?;
        Ok(stage)
    }

    /// Lets the developer's machine reach the cluster without adit, through the same links.
    fn allow_direct(&self) -> Result<()> {
        self.lab.gateway.set_sysctl("net/ipv4/ip_forward", "1")?;
        // Short connections leave their ports in TIME-WAIT: with the default range the search for a free one is what is measured.
        self.lab.host.set_sysctl("net/ipv4/ip_local_port_range", "1024 65535")?;
        let gateway = plan::UPLINK_GATEWAY.v4;
        let routes = "ip route add 10.96.0.0/16 via $0; ip route add 10.244.0.0/16 via $0";
        shell(&self.lab.host, &routes.replace("$0", &gateway.to_string()))?;
        let pods_gateway = plan::PODS_GATEWAY.v4;
        shell(&self.lab.cluster, &format!("ip route add 198.51.100.0/24 via {pods_gateway}"))?;
        Ok(())
    }

    /// Joins on this carrier, measures, and leaves; without a carrier it measures direct.
    pub(crate) fn joined<T>(&self, carrier: Option<&str>, measure: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some(carrier) = carrier else { return measure() };
        process::run(&mut self.lab.connect_command(&self.identity, &["--carrier", carrier]));
        let measured = measure();
        process::run(&mut self.lab.adit(&["quit"]));
        measured
    }

    /// The session's process.
    pub(crate) fn session_pid(&self) -> u32 {
        self.lab.status().summary.pid
    }

    pub(crate) fn usage(&self) -> Result<(Usage, Usage)> {
        let session = Usage::of(self.session_pid()).context("the session is gone")?;
        let gateway = Usage::of(self.gateway.id()).context("the gateway is gone")?;
        Ok((session, gateway))
    }
}

/// Echo addresses in turn, so that no pair of addresses runs out of ports.
pub(crate) fn echo(number: usize) -> SocketAddr {
    let services = [plan::ECHO, plan::PEERS[0], plan::PEERS[1], plan::PEERS[2]];
    SocketAddr::from((services[number % services.len()].v4, plan::ECHO_PORT))
}

/// Runs a shell line in a namespace; fails with what it said.
pub(crate) fn shell(namespace: &Namespace, line: &str) -> Result<String> {
    output(namespace.command("sh").args(["-c", line]))
}

/// Runs a command to its end.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The median of what `measure` gives in each round.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
