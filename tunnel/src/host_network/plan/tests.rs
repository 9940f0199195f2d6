//! Plans for machines and gateways of all sorts.

use link::version::Version;
use proptest::prelude::*;

use super::{super::resolv_conf::ResolvConf, *};

fn welcome(routes: &[&str]) -> Welcome {
    Welcome {
        version: Version { major: 1, minor: 0 },
        program: "test".into(),
        session: 1,
        identity: "alice".into(),
        routes: routes.iter().map(|route| route.parse().unwrap()).collect(),
        domain: "cluster.local".into(),
        namespaces: vec!["shop".into()],
        never: Vec::new(),
    }
}

fn host(resolv_conf: &str) -> HostView {
    HostView {
        resolv_conf: ResolvConf::parse(resolv_conf),
        default_gateways: vec!["192.168.1.1".parse().unwrap()],
        attached: vec!["192.168.1.0/24".parse().unwrap()],
        addresses: vec!["192.168.1.7".parse().unwrap()],
    }
}

fn plan(welcome: &Welcome, host: &HostView) -> Result<Plan, PlanError> {
    let numbers = Numbers::of(0).unwrap();
    let gateway = "203.0.113.9".parse().unwrap();
    Plan::new(&PlanInput { welcome, gateway, host, numbers, marked: true, default_namespace: Some("default") })
}

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

#[test]
fn a_usual_machine_is_joined() {
    let plan =
        plan(&welcome(&["10.96.0.0/16", "fd00:10::/64"]), &host("nameserver 192.168.1.1\nsearch lan\n")).unwrap();
    assert_eq!(texts(&plan.routes), ["10.96.0.0/16", "fd00:10::/64"]);
    assert_eq!(texts(&plan.addresses), ["198.19.173.1/32", "fd8a:6169:b1d6::1/128"]);
    assert_eq!(
        texts(&plan.rules),
        [
            "ip rule add priority 4401 fwmark 0/0x1000000 lookup 44100",
            "ip -6 rule add priority 4401 fwmark 0/0x1000000 lookup 44100",
            "ip rule add priority 4400 fwmark 0/0x1000000 to 192.168.1.1 ipproto udp dport 53 lookup 44101",
            "ip rule add priority 4400 fwmark 0/0x1000000 to 192.168.1.1 ipproto tcp dport 53 lookup 44101",
        ]
    );
    assert_eq!(
        (plan.names.search.clone(), plan.names.default_namespace.clone()),
        (vec!["lan".into()], Some("default".into()))
    );
    assert_eq!(plan.overlaps, []);
}

#[test]
fn a_machine_without_ipv6_gets_none() {
    let plan = plan(&welcome(&["10.96.0.0/16"]), &host("nameserver 192.168.1.1")).unwrap();
    assert!(plan.addresses.iter().all(|address| address.address().is_ipv4()));
    assert!(plan.rules.iter().all(|rule| !rule.selector.is_v6()));
}

#[test]
fn what_is_never_captured_is_cut_out() {
    let mut announced = welcome(&["192.168.0.0/16", "203.0.113.0/24"]);
    announced.never = vec!["192.168.77.1:7844".parse().unwrap()];
    let plan = plan(&announced, &host("nameserver 192.168.1.2")).unwrap();
    let captured = |text: &str| plan.routes.iter().any(|route| route.contains(text.parse().unwrap()));
    for never in ["203.0.113.9", "192.168.77.1", "192.168.1.1", "192.168.1.2"] {
        assert!(!captured(never), "{never}");
    }
    for always in ["203.0.113.8", "192.168.77.2", "192.168.1.3", "192.168.0.0", "192.168.255.255"] {
        assert!(captured(always), "{always}");
    }
    assert_eq!(texts(&plan.nameservers), ["192.168.1.2"]);
    let overlap = Overlap { route: "192.168.0.0/16".parse().unwrap(), host: "192.168.1.0/24".parse().unwrap() };
    assert_eq!(plan.overlaps, [overlap]);
}

#[test]
fn a_local_resolver_is_left_alone_and_said() {
    let plan = plan(&welcome(&["10.96.0.0/16"]), &host("nameserver 127.0.0.53\n")).unwrap();
    assert!(plan.nameservers.is_empty());
    assert!(plan.rules.iter().all(|rule| rule.selector == Selector::AllV4));
    let said = plan.uncaptured[0].to_string();
    assert!(said.starts_with("nameserver 127.0.0.53: ") && said.contains("/etc/resolv.conf"), "{said}");
}

#[test]
fn other_nameservers_that_cannot_be_captured_are_said() {
    assert!(plan(&welcome(&[]), &host("options ndots:5\nsearch lan\n")).unwrap().search_first.is_some());
    let mixed = plan(&welcome(&["10.96.0.0/16"]), &host("nameserver fe80::1%eth0\nnameserver 2001:db8::53\n")).unwrap();
    assert_eq!(texts(&mixed.nameservers), ["2001:db8::53"]);
    assert_eq!(mixed.uncaptured[0].reason, UncapturedReason::LinkLocal);
    assert_eq!(texts(&mixed.addresses), ["198.19.173.1/32", "fd8a:6169:b1d6::1/128"]);
    let none = plan(&welcome(&["10.96.0.0/16"]), &host("")).unwrap();
    assert_eq!(none.uncaptured, [Uncaptured { nameserver: None, reason: UncapturedReason::NoNameserver }]);
}

#[test]
fn without_marks_nothing_can_go_in_circles() {
    let (announced, host) = (welcome(&["10.96.0.0/16", "203.0.113.0/24"]), host("nameserver 192.168.1.1"));
    let input = |gateway: &str| PlanInput {
        welcome: &announced,
        gateway: gateway.parse().unwrap(),
        host: &host,
        numbers: Numbers::of(3).unwrap(),
        marked: false,
        default_namespace: None,
    };
    let error = Plan::new(&input("203.0.113.9")).unwrap_err();
    assert!(error.to_string().starts_with("the gateway announces the route 203.0.113.0/24, which covers the gateway"));
    let plan = Plan::new(&input("198.51.100.1")).unwrap();
    assert_eq!(plan.uncaptured[0].reason, UncapturedReason::Unmarked);
    assert!(plan.nameservers.is_empty());
}

#[test]
fn a_wrong_gateway_is_refused_by_name() {
    let host = host("nameserver 192.168.1.1");
    for route in ["0.0.0.0/0", "::/0", "127.0.0.0/8", "::1/128", "224.0.0.0/4", "fe80::/64", "169.254.169.254/32"] {
        let error = plan(&welcome(&["10.96.0.0/16", route]), &host).unwrap_err();
        assert!(error.to_string().contains(&format!("the route {route}, which ")), "{error}");
    }
    let mut announced = welcome(&["10.96.0.0/16"]);
    announced.domain = "com".into();
    assert!(matches!(plan(&announced, &host), Err(PlanError::Names(NamesError::Domain(_)))));
    let mut announced = welcome(&["fd00::/8"]);
    announced.never = (0..200u16).map(|host| ([0xfd00, 0, 0, 0, host, host, host, host], 1).into()).collect();
    assert!(matches!(plan(&announced, &host), Err(PlanError::TooManyRoutes(_))));
}

#[test]
fn an_address_in_use_is_passed_over() {
    let mut host = host("nameserver 192.168.1.1");
    host.addresses.push("198.19.173.1".parse().unwrap());
    let plan_one = plan(&welcome(&["10.96.0.0/16"]), &host).unwrap();
    assert_eq!(texts(&plan_one.addresses), ["198.19.173.9/32"]);
    let error = plan(&welcome(&["198.18.0.0/15"]), &host).unwrap_err();
    assert!(matches!(error, PlanError::NoAddress(_)), "{error}");
}

proptest! {
    #[test]
    fn no_plan_captures_what_it_must_not(
        routes in prop::collection::vec((any::<IpAddr>(), 0u8..=128), 0..6),
        gateway: IpAddr,
        router: IpAddr,
        nameserver: IpAddr,
    ) {
        let mut announced = welcome(&[]);
        announced.routes = routes.into_iter().filter_map(|(address, bits)| Prefix::new(address, bits)).collect();
        let mut host = host(&format!("nameserver {nameserver}"));
        host.default_gateways = vec![router];
        let input = PlanInput {
            welcome: &announced,
            gateway,
            host: &host,
            numbers: Numbers::of(7).unwrap(),
            marked: true,
            default_namespace: None,
        };
        if let Ok(plan) = Plan::new(&input) {
            let loopback = ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
            for never in [gateway, router, nameserver].iter().chain(&loopback) {
                prop_assert!(!plan.routes.iter().any(|route| route.contains(*never)));
            }
        }
    }
}
