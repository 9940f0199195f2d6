//! Every address and name of a [`super::world::World`]: what a test or a transcript may count on.
//!
//! ```text
//!  office ──lan0/lan0── host ──up0/up0── gateway ──pods0/eth0── cluster
//!  192.0.2.0/24         198.51.100.0/24         10.244.0.0/24   services 10.96.0.0/16 on the cluster's loopback
//!                                          └───node0/node0── node ──NAME/NAME── pod, one each of [`PODS`]
//!                                              10.244.100.0/24     10.244.N.0/24
//! ```
//!
//! The node and its pods are there only where [`super::targets::Targets`] are made.
//!
//! The host's default route leads to the office, where its ordinary nameserver and an ordinary web server are; so a
//! break of the uplink to the gateway leaves ordinary names alone, as it would in life.
//! Public addresses are from the documentation ranges (RFC 5737, RFC 3849), the cluster's are a common cluster's.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use link::prefix::Prefix;

/// An address of each family for the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dual {
    /// The IPv4 address.
    pub v4: Ipv4Addr,
    /// The IPv6 address.
    pub v6: Ipv6Addr,
}

impl Dual {
    /// Both, IPv4 first.
    pub fn both(self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

const fn dual(v4: [u8; 4], v6: [u16; 8]) -> Dual {
    let [a, b, c, d] = v4;
    let [e, f, g, h, i, j, k, l] = v6;
    Dual { v4: Ipv4Addr::new(a, b, c, d), v6: Ipv6Addr::new(e, f, g, h, i, j, k, l) }
}

const fn service(last: u8) -> Dual {
    dual([10, 96, 0, last], [0xfd00, 0x10, 0x96, 0, 0, 0, 0, same_digits(last)])
}

const fn pod(last: u8) -> Dual {
    dual([10, 244, 0, last], [0xfd00, 0x10, 0x244, 0, 0, 0, 0, same_digits(last)])
}

/// An address on the link of one pod, or of the node for 100.
const fn pod_link(network: u8, last: u8) -> Dual {
    dual([10, 244, network, last], [0xfd00, 0x10, 0x244, same_digits(network), 0, 0, 0, same_digits(last)])
}

/// The number that reads in hexadecimal as `last` does in decimal, so that 10.96.0.20 goes with fd00:10:96::20.
const fn same_digits(last: u8) -> u16 {
    let (hundreds, tens, ones) = (last / 100, last / 10 % 10, last % 10);
    (hundreds as u16) << 8 | (tens as u16) << 4 | ones as u16
}

/// Length of every IPv4 link prefix, and of every IPv6 one.
pub const LINK_PREFIX_LEN: (u8, u8) = (24, 64);

/// The office's link: the host, the router that is its default route, and the ordinary nameserver.
pub const OFFICE_HOST: Dual = dual([192, 0, 2, 10], [0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x10]);
/// The host's default route.
pub const OFFICE_ROUTER: Dual = dual([192, 0, 2, 1], [0x2001, 0xdb8, 2, 0, 0, 0, 0, 1]);
/// The ordinary nameserver, port 53: knows `example.test`, and everything else not to exist.
pub const NAMESERVER: Dual = dual([192, 0, 2, 53], [0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x53]);
/// An ordinary web server beyond the router, port 80: `www.example.test`.
pub const ORDINARY_WEB: Dual = dual([203, 0, 113, 80], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x80]);

/// The link between the host and the gateway: the host's end.
pub const UPLINK_HOST: Dual = dual([198, 51, 100, 2], [0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 2]);
/// The gateway's end of the uplink.
pub const UPLINK_GATEWAY: Dual = dual([198, 51, 100, 1], [0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 1]);
/// The gateway's port, UDP and TCP.
pub const GATEWAY_PORT: u16 = 7844;

/// The gateway's end of the pod network.
pub const PODS_GATEWAY: Dual = pod(1);
/// The cluster's end of the pod network, and the next hop to all services.
pub const PODS_CLUSTER: Dual = pod(2);
/// Three pods with an echo on port 7, named `peers.shop`, and one by one `peer-0.peers.shop` to `peer-2.peers.shop`.
pub const PEERS: [Dual; 3] = [pod(11), pod(12), pod(13)];
/// The link between the gateway and the node of the pods that are targets: the gateway's end.
pub const NODE_GATEWAY: Dual = pod_link(100, 1);
/// The node's end, and the gateway's next hop to all of [`PODS`].
pub const NODE: Dual = pod_link(100, 2);

/// A pod with a network namespace of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pod {
    /// Its name, which is that of its device too, at both ends.
    pub name: &'static str,
    /// The node's end of its link, and its default route.
    pub router: Dual,
    /// Its own address.
    pub address: Dual,
}

const fn in_own_network(name: &'static str, number: u8) -> Pod {
    Pod { name, router: pod_link(number, 1), address: pod_link(number, 2) }
}

/// The first replica of [`WEB_TARGET`].
pub const WEB_1: Pod = in_own_network("web-1", 1);
/// The second replica of [`WEB_TARGET`].
pub const WEB_2: Pod = in_own_network("web-2", 2);
/// The only replica of [`API_TARGET`].
pub const API_1: Pod = in_own_network("api-1", 3);
/// A pod that is no target: whoever asks the others.
pub const CLIENT: Pod = in_own_network("client", 9);
/// All of them.
pub const PODS: [Pod; 4] = [WEB_1, WEB_2, API_1, CLIENT];
/// The target with two replicas.
pub const WEB_TARGET: &str = "shop/deploy/web";
/// The target with one.
pub const API_TARGET: &str = "shop/deploy/api";
/// HTTP, on every replica of a target; see [`super::http`].
pub const POD_HTTP_PORT: u16 = 8080;

/// A pod's address that nobody has: neighbour discovery fails after 3 seconds, "no route to host".
pub const ABSENT_POD: Dual = pod(99);

/// The domain of all cluster names.
pub const CLUSTER_DOMAIN: &str = "cluster.local";
/// The namespace short names are in.
pub const NAMESPACE: &str = "shop";
/// The cluster's nameserver, port 53.
pub const CLUSTER_DNS: Dual = service(10);
/// `web.shop`: HTTP on port 80; see [`super::http`].
pub const WEB: Dual = service(20);
/// `web.default`: the same in another namespace.
pub const WEB_DEFAULT: Dual = service(21);
/// `v4only.shop`: HTTP on port 80; the name has no AAAA record.
pub const V4_ONLY: Ipv4Addr = service(22).v4;
/// `v6only.shop`: HTTP on port 80; the name has no A record.
pub const V6_ONLY: Ipv6Addr = service(23).v6;
/// `echo.shop`: TCP and UDP echo on port 7, a sink on TCP port 9.
pub const ECHO: Dual = service(24);
/// `db.shop`: nothing listens, until a test starts a database there.
pub const DATABASE: Dual = service(30);
/// `cache.shop`: nothing listens, until a test starts one there.
pub const CACHE: Dual = service(40);
/// `spare.shop`: an address for whatever a test starts.
pub const SPARE: Dual = service(50);

/// TCP and UDP echo.
pub const ECHO_PORT: u16 = 7;
/// A TCP sink: reads to the end, then answers with what it read; see [`super::echo`].
pub const SINK_PORT: u16 = 9;
/// HTTP.
pub const HTTP_PORT: u16 = 80;
/// A port on every service address where nothing listens.
pub const CLOSED_PORT: u16 = 81;
/// A port of [`WEB`] and [`ECHO`] that drops whatever it gets, TCP and UDP, as a packet filter would.
pub const FILTERED_PORT: u16 = 82;

/// The gateway has an `unreachable` route to it: "no route to host" at once.
pub const UNREACHABLE: Dual = dual([10, 96, 255, 1], [0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0xff01]);
/// The gateway has a `prohibit` route to it: "permission denied" at once.
pub const PROHIBITED: Dual = dual([10, 96, 255, 2], [0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0xff02]);
/// A service address that nobody has: packets to it vanish.
pub const BLACK_HOLE: Dual = dual([10, 96, 255, 3], [0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0xff03]);
/// In the cluster's routes, but the gateway has no route to it: "network is unreachable".
pub const UNROUTED: Dual = dual([10, 97, 0, 1], [0xfd00, 0x10, 0x97, 0, 0, 0, 0, 1]);

/// What the gateway offers as the cluster's routes.
pub const CLUSTER_ROUTES: [&str; 6] =
    ["10.96.0.0/16", "10.97.0.0/24", "10.244.0.0/16", "fd00:10:96::/112", "fd00:10:97::/112", "fd00:10:244::/48"];

/// The prefixes of all services.
pub fn service_prefixes() -> [Prefix; 2] {
    [around(IpAddr::V4(WEB.v4), 16), around(IpAddr::V6(WEB.v6), 112)]
}

/// The prefixes of all pods of the node, which are not those of the pod network itself.
pub fn node_prefixes() -> [Prefix; 2] {
    [around(IpAddr::V4(WEB_1.address.v4), 16), around(IpAddr::V6(WEB_1.address.v6), 48)]
}

/// Every address by which pods are reached and which answers pings.
pub fn service_addresses() -> Vec<IpAddr> {
    let duals = [CLUSTER_DNS, WEB, WEB_DEFAULT, ECHO, DATABASE, CACHE, SPARE];
    let mut addresses: Vec<IpAddr> = duals.into_iter().flat_map(Dual::both).collect();
    addresses.extend([IpAddr::V4(V4_ONLY), IpAddr::V6(V6_ONLY)]);
    addresses
}

/// The prefix of one address alone.
pub fn exactly(address: IpAddr) -> Prefix {
    around(address, if address.is_ipv4() { 32 } else { 128 })
}

/// The prefix of every address of the family of `address`.
pub fn everything(address: IpAddr) -> Prefix {
    around(address, 0)
}

fn around(address: IpAddr, len: u8) -> Prefix {
    Prefix::new(address, len).expect("the plan's lengths fit their family")
}

/// The address of the gateway's metrics and health endpoints, inside its namespace.
pub const METRICS: &str = "127.0.0.1:9464";

/// The `gateway.toml` for a gateway in this world. State goes to `state_dir`.
pub fn gateway_config(state_dir: &Path) -> String {
    let state_dir = state_dir.display();
    let nameserver = CLUSTER_DNS.v4;
    let routes = CLUSTER_ROUTES.map(|route| format!("\"{route}\"")).join(", ");
    format!(
        r#"listen    = "0.0.0.0:{GATEWAY_PORT}"
metrics   = "{METRICS}"
state_dir = "{state_dir}"

[cluster]
provider   = "linux"
domain     = "{CLUSTER_DOMAIN}"
dns        = "{nameserver}:53"
routes     = [{routes}]
namespaces = ["default", "kube-system", "{NAMESPACE}"]
"#
    )
}
