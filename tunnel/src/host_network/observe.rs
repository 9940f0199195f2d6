//! [`HostView`]: what a plan must know of the machine. Reads, changes nothing. Before: the session; after: `plan`.

use std::{io, net::IpAddr, path::Path};

use link::prefix::Prefix;
use netlink_packet_route::{
    address::{AddressAttribute, AddressMessage},
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType},
};
use tracing::debug;

use super::{error::HostError, netlink::Network, resolv_conf::ResolvConf};

/// Where every stub resolver looks.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The machine before a session changes it. [`Default`] is a machine with no network at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostView {
    /// Nameservers and search list.
    pub resolv_conf: ResolvConf,
    /// The routers of default routes.
    pub default_gateways: Vec<IpAddr>,
    /// Prefixes of the networks that the machine is attached to or routes to, without default routes.
    pub attached: Vec<Prefix>,
    /// The machine's own addresses.
    pub addresses: Vec<IpAddr>,
}

impl HostView {
    /// Looks at the network namespace of `network` and the resolver file at `resolv_conf` ([`RESOLV_CONF`] but for tests).
    ///
    /// A resolver file that cannot be read is an empty one, as it is for a stub.
    ///
    /// # Errors
    /// [`HostError`] when the kernel does not tell.
    pub async fn read(network: &Network, resolv_conf: &Path) -> Result<Self, HostError> {
        let mut view = Self::default();
        let text = tokio::fs::read(resolv_conf).await.unwrap_or_else(|error: io::Error| {
            debug!(%error, path = %resolv_conf.display(), "no resolver file");
            Vec::new()
        });
        view.resolv_conf = ResolvConf::parse(&String::from_utf8_lossy(&text));
        for route in network.routes().await? {
            view.add_route(&route);
        }
        for address in network.addresses().await? {
            view.addresses.extend(local_address(&address));
        }
        view.attached.sort_unstable();
        view.attached.dedup();
        Ok(view)
    }

    fn add_route(&mut self, route: &RouteMessage) {
        if table(route) != u32::from(RouteHeader::RT_TABLE_MAIN) || route.header.kind != RouteType::Unicast {
            return;
        }
        let destination = route.attributes.iter().find_map(|attribute| {
            if let RouteAttribute::Destination(address) = attribute { ip(address) } else { None }
        });
        let is_default = route.header.destination_prefix_length == 0;
        if is_default {
            self.default_gateways.extend(gateways(route));
        } else if let Some(address) = destination {
            let prefix = Prefix::new(address, route.header.destination_prefix_length);
            // Link-local prefixes are on every interface, and no cluster may have them.
            self.attached.extend(prefix.filter(|_| !is_link_local(address)));
        }
    }
}

/// The table that a route is in: an attribute, or for small numbers the header alone.
pub(super) fn table(route: &RouteMessage) -> u32 {
    let attribute = route
        .attributes
        .iter()
        .find_map(|attribute| if let RouteAttribute::Table(table) = attribute { Some(*table) } else { None });
    attribute.unwrap_or_else(|| u32::from(route.header.table))
}

fn gateways(route: &RouteMessage) -> Vec<IpAddr> {
    let gateway =
        |attribute: &RouteAttribute| if let RouteAttribute::Gateway(address) = attribute { ip(address) } else { None };
    let hops = route
        .attributes
        .iter()
        .filter_map(|attribute| if let RouteAttribute::MultiPath(hops) = attribute { Some(hops) } else { None });
    let of_hops = hops.flatten().flat_map(|hop| &hop.attributes).filter_map(gateway);
    route.attributes.iter().filter_map(gateway).chain(of_hops).collect()
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        // The enumeration may grow, so a wildcard it must be; in words, what is no IP address.
        RouteAddress::Mpls(_) | RouteAddress::Other(_) | _ => None,
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn local_address(message: &AddressMessage) -> Option<IpAddr> {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    let local = find(|attribute| if let AddressAttribute::Local(address) = attribute { Some(*address) } else { None });
    local.or_else(|| {
        find(|attribute| if let AddressAttribute::Address(address) = attribute { Some(*address) } else { None })
    })
}
