//! The host joined to the cluster by the kernel's own routing, without adit: what a figure is compared with, and the
//! way to check the suites themselves (`ADIT_TESTS_DIRECT=1 cargo test`: what fails then is no fault of adit's).

use std::{env, fs};

use cli::demo::{
    plan,
    wiring::{Route, Wiring},
    world::World,
};

/// Whether the environment asks that [`crate::lab::Lab::joined`] joins without adit.
pub(crate) fn asked_for() -> bool {
    env::var_os("ADIT_TESTS_DIRECT").is_some()
}

/// Routes the cluster's prefixes through the gateway's kernel and lets the host ask the cluster's nameserver.
pub fn join(world: &World) -> anyhow::Result<()> {
    world.gateway.set_sysctl("net/ipv4/ip_forward", "1")?;
    world.gateway.set_sysctl("net/ipv6/conf/all/forwarding", "1")?;
    // The kernel holds back all but one ICMPv6 error a second to each peer; who dials wants to hear of each.
    world.gateway.set_sysctl("net/ipv6/icmp/ratelimit", "0")?;
    let host = Wiring::open(&world.host)?;
    for route in plan::CLUSTER_ROUTES {
        let prefix: link::prefix::Prefix = route.parse()?;
        let [v4, v6] = plan::UPLINK_GATEWAY.both();
        host.add_route(prefix, Route::Via(if prefix.address().is_ipv4() { v4 } else { v6 }))?;
    }
    let cluster = Wiring::open(&world.cluster)?;
    for (host, gateway) in plan::UPLINK_HOST.both().into_iter().zip(plan::PODS_GATEWAY.both()) {
        cluster.add_route(plan::exactly(host), Route::Via(gateway))?;
    }
    let domain = plan::CLUSTER_DOMAIN;
    let search = format!("{}.svc.{domain} svc.{domain} {domain}", plan::NAMESPACE);
    let text = format!("nameserver {}\nsearch {search}\noptions ndots:5\n", plan::CLUSTER_DNS.v4);
    fs::write(world.directory().join("host/etc/resolv.conf"), text)?;
    Ok(())
}
