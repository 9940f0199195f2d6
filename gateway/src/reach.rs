//! [`Reach`]: which addresses anybody may reach through the gateway. Pure. Before: [`crate::permit`], which asks here first.

use std::net::IpAddr;

use link::prefix::Prefix;

/// Addresses that mean the gateway itself, its link or its cloud rather than the cluster. A route that merely covers one does not
/// open it: the route must lie within the range.
const SPECIAL: [&str; 12] = [
    "0.0.0.0/8",          // this host, which connects to itself
    "127.0.0.0/8",        // loopback
    "169.254.0.0/16",     // link-local, and the metadata services of most clouds
    "100.100.100.200/32", // Alibaba Cloud's metadata service
    "224.0.0.0/4",        // multicast
    "255.255.255.255/32", // broadcast
    "::/128",
    "::1/128",
    "fe80::/10",
    "ff00::/8",
    "fd00:ec2::254/128", // Amazon's metadata service
    "fd20:ce::254/128",  // Google's
];

/// The routes, and what they do not open.
#[derive(Debug)]
pub(crate) struct Reach {
    routes: Vec<Prefix>,
    special: Vec<Prefix>,
}

impl Reach {
    pub(crate) fn new(routes: &[Prefix]) -> Self {
        let special = SPECIAL.iter().map(|text| text.parse().expect("the constants are prefixes")).collect();
        Self { routes: routes.to_vec(), special }
    }

    /// The address in the form to dial (an IPv4 address mapped into IPv6 is that IPv4 address), or `None` if it may not be reached.
    pub(crate) fn permit(&self, to: IpAddr) -> Option<IpAddr> {
        let to = to.to_canonical();
        let route = self.routes.iter().find(|route| route.contains(to))?;
        let is_opened = |special: &Prefix| special.contains(route.address()) && route.bits() >= special.bits();
        self.special.iter().filter(|special| special.contains(to)).all(is_opened).then_some(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(routes: &[&str], to: &str) -> bool {
        let routes: Vec<Prefix> = routes.iter().map(|route| route.parse().unwrap()).collect();
        Reach::new(&routes).permit(to.parse().unwrap()).is_some()
    }

    #[test]
    fn only_what_a_route_covers_is_reached() {
        assert!(permits(&["10.96.0.0/16", "fd00::/64"], "10.96.3.4"));
        assert!(permits(&["10.96.0.0/16", "fd00::/64"], "fd00::7"));
        assert!(!permits(&["10.96.0.0/16"], "10.97.0.1"));
        assert!(!permits(&["10.96.0.0/16"], "fd00::7"));
        assert!(!permits(&[], "10.96.0.1"));
    }

    #[test]
    fn a_wide_route_does_not_open_the_gateway_itself_nor_its_cloud() {
        let wide = ["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"];
        for to in ["127.0.0.1", "0.0.0.0", "169.254.169.254", "224.0.0.1", "::1", "fe80::1", "fd00:ec2::254"] {
            assert!(!permits(&wide, to), "{to}");
        }
        assert!(permits(&wide, "10.0.0.1") && permits(&wide, "fd00::1"));
    }

    #[test]
    fn a_route_that_names_a_special_range_opens_it() {
        assert!(permits(&["127.0.0.0/8"], "127.0.0.1"));
        assert!(permits(&["169.254.169.254/32"], "169.254.169.254"));
        assert!(!permits(&["169.254.169.254/32"], "169.254.169.253"));
    }

    #[test]
    fn an_address_mapped_into_the_other_family_is_judged_and_dialed_as_what_it_is() {
        assert!(!permits(&["::/1"], "::ffff:127.0.0.1"));
        let reach = Reach::new(&["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(reach.permit("::ffff:10.0.0.1".parse().unwrap()), Some("10.0.0.1".parse().unwrap()));
    }
}
