//! [`Network`]: the few netlink requests that a session makes, one at a time.
//!
//! Owns the socket and the wording of its errors, no decision. The kernel answers a second dump on a socket by EBUSY while the first is
//! under way, so all requests take turns. Before: `joined`, `observe`, `slot`; after: the kernel.

use std::{io, net::IpAddr, pin::pin, time::Duration};

use futures_util::{Stream, TryStreamExt};
use link::prefix::Prefix;
use netlink_packet_route::{
    AddressFamily, IpProtocol,
    address::{AddressAttribute, AddressFlags, AddressMessage},
    link::{AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InetDevConf, LinkAttribute, LinkMessage},
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType},
    rule::{RuleAction, RuleAttribute, RuleMessage, RulePortRange},
};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, sleep},
};
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::{
    error::{Action, HostError},
    numbers::PROTOCOL,
    plan::{Rule, Selector},
};
use crate::dns::Transport;

/// Packets that may wait in the device for the session: smoltcp's retransmission takes a second, so none may be dropped there.
const TX_QUEUE_PACKETS: u32 = 10_000;

/// A work item of the kernel takes microseconds, on a machine that makes and removes many namespaces a second up to a second. On a device
/// that nobody reads it never comes, and a session works without it.
const DELIVERY_PATIENCE: Duration = Duration::from_millis(500);

/// Between two looks.
const DELIVERY_PAUSE: Duration = Duration::from_millis(1);

/// `rp_filter` = loose: an answer comes in by the device although the main table knows another way back to the nameserver.
const LOOSE: i32 = 2;

/// A route of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) prefix: Prefix,
    pub(super) device: u32,
    pub(super) table: u32,
    /// The source address of what the machine sends along it.
    pub(super) source: Option<IpAddr>,
}

/// A connection to the kernel of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Network {
    handle: Mutex<Handle>,
}

impl Network {
    /// Opens the socket in the calling thread's network namespace. Its driver runs on `tracker` until this is dropped.
    ///
    /// # Errors
    /// [`HostError::Netlink`] when there is no such socket to be had.
    pub fn open(tracker: &TaskTracker) -> Result<Self, HostError> {
        let (driver, handle, _events) = rtnetlink::new_connection().map_err(HostError::Netlink)?;
        tracker.spawn(driver);
        Ok(Self { handle: Mutex::new(handle) })
    }

    async fn turn(&self) -> MutexGuard<'_, Handle> {
        self.handle.lock().await
    }

    /// No link-local address, so no router solicitations into the tunnel; loose reverse path. Both go with the device.
    ///
    /// Each is a wish: a kernel without IPv6 refuses the first and works without it.
    pub(super) async fn prepare_device(&self, device: u32) -> Result<(), HostError> {
        let mut loose = InetDevConf::default();
        loose.rp_filter = LOOSE;
        let wishes = [
            AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]),
            AfSpecUnspec::Inet(vec![AfSpecInet::DevConfRequest(loose)]),
        ];
        for wish in wishes {
            let message = LinkUnspec::new_with_index(device);
            let message = message.append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![wish])).build();
            match self.set_link(message, Action::PrepareDevice).await {
                Ok(()) | Err(HostError::Unsupported { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) async fn set_up(&self, device: u32) -> Result<(), HostError> {
        let message = LinkUnspec::new_with_index(device).txqueuelen(TX_QUEUE_PACKETS).up().build();
        self.set_link(message, Action::SetUp).await
    }

    pub(super) async fn set_down(&self, device: u32) -> Result<(), HostError> {
        self.set_link(LinkUnspec::new_with_index(device).down().build(), Action::SetDown).await
    }

    async fn set_link(&self, message: LinkMessage, action: Action) -> Result<(), HostError> {
        self.turn().await.link().set(message).execute().await.map_err(|error| refused(action, error))
    }

    pub(super) async fn add_address(&self, device: u32, address: Prefix) -> Result<(), HostError> {
        let handle = self.turn().await;
        let mut request = handle.address().add(device, address.address(), address.bits());
        // The device has no neighbours who could have the address, and its prefix is no route.
        let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
        request.message_mut().attributes.push(AddressAttribute::Flags(flags));
        request.execute().await.map_err(|error| refused(Action::AddAddress(address), error))
    }

    /// Waits until what arrives for an IPv6 address of ours is delivered, which is not yet so when the kernel has taken the address: it
    /// adds the local route in a work item, and drops until then. Without this the first answer could be lost, for a second.
    pub(super) async fn await_delivery(&self, address: IpAddr) -> Result<(), HostError> {
        let deadline = Instant::now() + DELIVERY_PATIENCE;
        while !self.routes().await?.iter().any(|route| delivers(route, address)) {
            if Instant::now() > deadline {
                debug!(%address, "no local route yet");
                break;
            }
            sleep(DELIVERY_PAUSE).await;
        }
        Ok(())
    }

    pub(super) async fn remove_address(&self, device: u32, address: Prefix) -> Result<(), HostError> {
        let handle = self.turn().await;
        let mut message = AddressMessage::default();
        message.header.index = device;
        message.header.prefix_len = address.bits();
        message.header.family = family(address.address());
        message.attributes.push(AddressAttribute::Local(address.address()));
        let removed = handle.address().del(message).execute().await;
        removed.map_err(|error| refused(Action::RemoveAddress(address), error))
    }

    pub(super) async fn add_route(&self, route: Route) -> Result<(), HostError> {
        let message = route_message(route);
        let added = self.turn().await.route().add(message).execute().await;
        added.map_err(|error| refused(Action::AddRoute(route.prefix), error))
    }

    pub(super) async fn remove_route(&self, route: Route) -> Result<(), HostError> {
        let message = route_message(route);
        let removed = self.turn().await.route().del(message).execute().await;
        removed.map_err(|error| refused(Action::RemoveRoute(route.prefix), error))
    }

    pub(super) async fn add_rule(&self, rule: Rule) -> Result<(), HostError> {
        let handle = self.turn().await;
        let mut request = handle.rule().add();
        *request.message_mut() = rule_message(rule);
        request.execute().await.map_err(|error| refused(Action::AddRule(rule), error))
    }

    pub(super) async fn remove_rule(&self, message: RuleMessage) -> Result<(), HostError> {
        let removed = self.turn().await.rule().del(message).execute().await;
        removed.map_err(|error| refused(Action::RemoveRule, error))
    }

    /// All rules of both families.
    pub(super) async fn rules(&self) -> Result<Vec<RuleMessage>, HostError> {
        let handle = self.turn().await;
        let mut rules = list("rules", handle.rule().get(rtnetlink::IpVersion::V4).execute()).await?;
        match list("rules", handle.rule().get(rtnetlink::IpVersion::V6).execute()).await {
            Ok(mut of_v6) => rules.append(&mut of_v6),
            Err(HostError::Unsupported { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(rules)
    }

    /// All routes of all tables and both families.
    pub(super) async fn routes(&self) -> Result<Vec<RouteMessage>, HostError> {
        let handle = self.turn().await;
        let v4 = RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
        let mut routes = list("routes", handle.route().get(v4).execute()).await?;
        let v6 = RouteMessageBuilder::<std::net::Ipv6Addr>::new().build();
        match list("routes", handle.route().get(v6).execute()).await {
            Ok(mut of_v6) => routes.append(&mut of_v6),
            Err(HostError::Unsupported { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(routes)
    }

    /// All addresses of all devices.
    pub(super) async fn addresses(&self) -> Result<Vec<AddressMessage>, HostError> {
        let handle = self.turn().await;
        list("addresses", handle.address().get().execute()).await
    }
}

async fn list<T>(
    what: &'static str,
    stream: impl Stream<Item = Result<T, rtnetlink::Error>>,
) -> Result<Vec<T>, HostError> {
    pin!(stream).try_collect().await.map_err(|error| refused(Action::List(what), error))
}

/// Whether `route` leads to this machine itself, for this one address.
fn delivers(route: &RouteMessage, address: IpAddr) -> bool {
    let wanted = match address {
        IpAddr::V4(v4) => RouteAddress::Inet(v4),
        IpAddr::V6(v6) => RouteAddress::Inet6(v6),
    };
    let is_wanted = |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::Destination(to) if *to == wanted);
    route.header.kind == RouteType::Local && route.attributes.iter().any(is_wanted)
}

fn refused(action: Action, error: rtnetlink::Error) -> HostError {
    if let rtnetlink::Error::NetlinkError(message) = &error {
        return HostError::of(action, message.to_io());
    }
    HostError::Netlink(io::Error::other(error))
}

const fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn route_message(route: Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(route.prefix.address());
    message.header.destination_prefix_length = route.prefix.bits();
    message.header.protocol = RouteProtocol::Other(PROTOCOL);
    message.header.kind = RouteType::Unicast;
    message.header.scope = netlink_packet_route::route::RouteScope::Link;
    let address = |address: IpAddr| match address {
        IpAddr::V4(v4) => RouteAddress::Inet(v4),
        IpAddr::V6(v6) => RouteAddress::Inet6(v6),
    };
    message.attributes.push(RouteAttribute::Destination(address(route.prefix.address())));
    message.attributes.push(RouteAttribute::Oif(route.device));
    message.attributes.push(RouteAttribute::Table(route.table));
    if let Some(source) = route.source {
        message.attributes.push(RouteAttribute::PrefSource(address(source)));
    }
    message
}

pub(super) fn rule_message(rule: Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.action = RuleAction::ToTable;
    message.attributes.push(RuleAttribute::Priority(rule.priority));
    message.attributes.push(RuleAttribute::Table(rule.table));
    message.attributes.push(RuleAttribute::FwMark(0));
    message.attributes.push(RuleAttribute::FwMask(rule.unmarked));
    message.attributes.push(RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)));
    match rule.selector {
        Selector::AllV4 => message.header.family = AddressFamily::Inet,
        Selector::AllV6 => message.header.family = AddressFamily::Inet6,
        Selector::Dns(nameserver, transport) => {
            message.header.family = family(nameserver);
            message.header.dst_len = if nameserver.is_ipv4() { 32 } else { 128 };
            message.attributes.push(RuleAttribute::Destination(nameserver));
            let protocol = match transport {
                Transport::Udp => IpProtocol::Udp,
                Transport::Tcp => IpProtocol::Tcp,
            };
            message.attributes.push(RuleAttribute::IpProtocol(protocol));
            message.attributes.push(RuleAttribute::DestinationPortRange(RulePortRange { start: 53, end: 53 }));
        }
    }
    message
}
