//! Links, addresses and routes of a [`Namespace`], by netlink.
//!
//! One [`Wiring`] speaks to the kernel of one namespace, whatever thread uses it. No `ip` program is needed.
//! Next in the flow: [`super::world`].

use std::{
    fs, io,
    net::{IpAddr, Ipv6Addr},
    os::fd::AsRawFd,
    thread,
    time::{Duration, Instant},
};

use link::prefix::Prefix;
use nix::net::if_::if_nametoindex;
use rtnetlink::{
    Handle, LinkUnspec, LinkVeth, RouteMessageBuilder, new_connection,
    packet_route::{
        address::AddressHeaderFlags,
        link::{InfoData, InfoVeth},
        route::{RouteMessage, RouteType},
    },
};
use thiserror::Error;
use tokio::runtime::{Builder, Runtime};

use super::namespace::Namespace;

/// A work item of the kernel takes microseconds; where many namespaces are made and removed at once, up to seconds. On a link without a
/// carrier it never comes, and whoever made such a link does not count on it.
const DELIVERY_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks.
const DELIVERY_PAUSE: Duration = Duration::from_millis(1);
/// `RTF_LOCAL` of linux/ipv6_route.h.
const RTF_LOCAL: u32 = 0x8000_0000;

/// A link, an address or a route could not be made.
#[derive(Debug, Error)]
#[error("in network namespace '{namespace}': cannot {step}")]
pub struct WiringError {
    namespace: String,
    step: String,
    #[source]
    source: WiringCause,
}

/// Why.
#[derive(Debug, Error)]
pub enum WiringCause {
    /// There is no netlink socket to ask with.
    #[error("no netlink socket")]
    Socket(#[source] io::Error),
    /// The link does not exist.
    #[error("no such link")]
    NoLink(#[source] nix::Error),
    /// The kernel refused.
    #[error("the kernel refused")]
    Refused(#[source] rtnetlink::Error),
}

/// Where packets for a prefix go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// To a neighbour.
    Via(IpAddr),
    /// Nowhere, and `connect` says "no route to host" at once.
    Unreachable,
    /// Nowhere, and `connect` says "permission denied" at once.
    Prohibited,
}

/// A netlink socket inside a namespace.
#[derive(Debug)]
pub struct Wiring<'a> {
    namespace: &'a Namespace,
    runtime: Runtime,
    handle: Handle,
}

impl<'a> Wiring<'a> {
    /// Opens a netlink socket in `namespace`.
    pub fn open(namespace: &'a Namespace) -> Result<Self, WiringError> {
        let opened = namespace.run(|| {
            let runtime = Builder::new_current_thread().enable_io().build()?;
            let guard = runtime.enter();
            let (connection, handle, _) = new_connection()?;
            // The runtime owns the connection and runs it whenever it runs a request.
            runtime.spawn(connection);
            drop(guard);
            Ok((runtime, handle))
        });
        let (runtime, handle) = opened.map_err(|source| WiringError {
            namespace: namespace.name().to_owned(),
            step: "open netlink".to_owned(),
            source: WiringCause::Socket(source),
        })?;
        Ok(Self { namespace, runtime, handle })
    }

    /// A pair of virtual cables ends: `name` here, `peer` in the other namespace; both down.
    pub fn add_veth(&self, name: &str, other: &Namespace, peer: &str) -> Result<(), WiringError> {
        let far_end = LinkUnspec::new_with_name(peer).setns_by_fd(other.network().as_raw_fd()).build();
        let near_end = LinkVeth::new(name, peer).set_info_data(InfoData::Veth(InfoVeth::Peer(far_end))).build();
        let request = self.handle.link().add(near_end).execute();
        self.ask(|| format!("add veth {name} to {peer} in '{}'", other.name()), request)
    }

    /// Sets a link up.
    pub fn set_up(&self, name: &str) -> Result<(), WiringError> {
        let request = self.handle.link().set(LinkUnspec::new_with_name(name).up().build()).execute();
        self.ask(|| format!("set {name} up"), request)
    }

    /// Sets a link's largest packet, in bytes.
    pub fn set_mtu(&self, name: &str, mtu: u32) -> Result<(), WiringError> {
        let request = self.handle.link().set(LinkUnspec::new_with_name(name).mtu(mtu).build()).execute();
        self.ask(|| format!("set the MTU of {name} to {mtu}"), request)
    }

    /// Sets how many packets wait in a link's queue.
    pub fn set_queue_len(&self, name: &str, packets: u32) -> Result<(), WiringError> {
        let request = self.handle.link().set(LinkUnspec::new_with_name(name).txqueuelen(packets).build()).execute();
        self.ask(|| format!("set the queue of {name} to {packets}"), request)
    }

    /// Gives a link an address; usable when this returns, without duplicate address detection. The link is up, at its other end too.
    pub fn add_address(&self, name: &str, address: IpAddr, prefix_len: u8) -> Result<(), WiringError> {
        let step = || format!("add {address}/{prefix_len} to {name}");
        let index = self.namespace.run(|| if_nametoindex(name));
        let index = index.map_err(|errno| self.failed(step(), WiringCause::NoLink(errno)))?;
        let mut request = self.handle.address().add(index, address, prefix_len);
        if address.is_ipv6() {
            request.message_mut().header.flags = AddressHeaderFlags::Nodad;
        }
        self.ask(step, request.execute())?;
        if let IpAddr::V6(v6) = address {
            self.await_delivery(v6);
        }
        Ok(())
    }

    /// The kernel adds an IPv6 address's local route, and answers for it, in a work item: until then packets to it are lost.
    fn await_delivery(&self, address: Ipv6Addr) {
        let deadline = Instant::now() + DELIVERY_PATIENCE;
        self.namespace.run(|| {
            while Instant::now() < deadline && !is_delivered(address) {
                thread::sleep(DELIVERY_PAUSE);
            }
        });
    }

    /// Adds a route to the main table.
    pub fn add_route(&self, to: Prefix, route: Route) -> Result<(), WiringError> {
        let request = self.handle.route().add(route_message(to, route)).execute();
        self.ask(|| format!("add route {to} ({route:?})"), request)
    }

    fn ask(
        &self,
        step: impl FnOnce() -> String,
        request: impl Future<Output = Result<(), rtnetlink::Error>>,
    ) -> Result<(), WiringError> {
        self.runtime.block_on(request).map_err(|error| self.failed(step(), WiringCause::Refused(error)))
    }

    fn failed(&self, step: String, source: WiringCause) -> WiringError {
        WiringError { namespace: self.namespace.name().to_owned(), step, source }
    }
}

/// Whether the calling thread's namespace has a local route to exactly this address.
fn is_delivered(address: Ipv6Addr) -> bool {
    // Ten columns: destination, its length, ..., flags, device. Reading it waits for no lock that others hold for long.
    let routes = fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap_or_default();
    let wanted = format!("{:032x} 80 ", address.to_bits());
    let is_local = |line: &str| {
        let flags = line.split_whitespace().nth(8).and_then(|flags| u32::from_str_radix(flags, 16).ok());
        flags.is_some_and(|flags| flags & RTF_LOCAL != 0)
    };
    routes.lines().any(|line| line.starts_with(&wanted) && is_local(line))
}

fn route_message(to: Prefix, route: Route) -> RouteMessage {
    let builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(to.address(), to.bits())
        .expect("a Prefix is within its family's length");
    match route {
        Route::Via(neighbour) => builder.gateway(neighbour).expect("a plan's routes stay in their family"),
        Route::Unreachable => builder.kind(RouteType::Unreachable),
        Route::Prohibited => builder.kind(RouteType::Prohibit),
    }
    .build()
}
