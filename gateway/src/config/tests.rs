//! Good files become what they say; every kind of bad one is named with line, key and remedy.

use super::*;

const GOOD: &str = r#"
listen    = "0.0.0.0:7844"
metrics   = "127.0.0.1:9464"
state_dir = "/var/lib/adit-gateway"

[cluster]
provider = "linux"
domain   = "cluster.local"
dns      = "10.96.0.10:53"
routes   = ["10.96.0.0/16", "fd00:10:96::/112"]

[[target]]
name  = "shop/deploy/web"
netns = ["/run/netns/web-1", "/run/netns/web-2"]

[limits]
streams = 100

[[allow]]
name   = "alice"
reach  = ["10.96.0.0/16", "10.96.0.20:443"]
mirror = ["shop/*"]
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("gateway.toml"))
}

fn error(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    parse(&GOOD.replacen(from, to, 1)).unwrap_err().to_string()
}

#[test]
fn a_good_file_becomes_what_it_says() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.listen, "0.0.0.0:7844".parse().unwrap());
    assert_eq!(config.cluster.nameserver, Nameserver::Address("10.96.0.10:53".parse().unwrap()));
    assert_eq!(config.cluster.namespaces, ["shop"]);
    assert_eq!(config.targets[0].places.len(), 2);
    assert_eq!((config.allows[0].reach.len(), config.allows[0].mirror[0].to_string()), (2, "shop/*".to_owned()));
    assert_eq!(config.limits, Limits { streams: 100, ..Limits::default() });
}

#[test]
fn every_wrong_value_is_named_with_line_key_and_remedy() {
    for (from, to, expected) in [
        (
            "0.0.0.0:7844",
            "0.0.0.0",
            "gateway.toml:2: listen: '0.0.0.0' is no address with a port: write it like 0.0.0.0:7844",
        ),
        (
            "127.0.0.1:9464",
            "127.0.0.1:7844",
            "gateway.toml:3: metrics: the metrics cannot share 127.0.0.1:7844 with the link",
        ),
        (
            "/var/lib",
            "var/lib",
            "gateway.toml:4: state_dir: 'var/lib/adit-gateway' is no absolute path: begin it with /",
        ),
        (
            "\"linux\"",
            "\"kubernetes\"",
            "gateway.toml:7: cluster.provider: there is no provider 'kubernetes' in this build",
        ),
        ("cluster.local", ".cluster.local", "gateway.toml:8: cluster.domain: '.cluster.local' is no domain"),
        ("10.96.0.10:53", "10.96.0.300:53", "gateway.toml:9: cluster.dns: '10.96.0.300:53' is no nameserver"),
        (
            "10.96.0.10:53",
            "kube-dns",
            "gateway.toml:9: cluster.dns: 'kube-dns' is no nameserver: write it like 10.96.0.10:53",
        ),
        (
            "10.96.0.0/16",
            "10.96.0.0/33",
            "gateway.toml:10: cluster.routes: '10.96.0.0/33' is no address prefix: write it like",
        ),
        ("10.96.0.0/16", "0.0.0.0/0", "gateway.toml:10: cluster.routes: 0.0.0.0/0 is every address there is"),
        (
            "fd00:10:96::/112",
            "10.96.7.0/24",
            "gateway.toml:10: cluster.routes: 10.96.7.0/24 overlaps with 10.96.0.0/16, which is in the list already: remove the narrower",
        ),
        (
            "[\"10.96.0.0/16\", \"fd00:10:96::/112\"]",
            "[]",
            "gateway.toml:10: cluster.routes: no routes, so nothing could be reached",
        ),
        (
            "shop/deploy/web",
            "shop/web",
            "gateway.toml:13: target[1].name: 'shop/web' is no target: write it like shop/deploy/web",
        ),
        ("\"/run/netns/web-1\"", "\"web-1\"", "gateway.toml:14: target[1].netns: 'web-1' is no absolute path"),
        ("streams = 100", "streams = 0", "gateway.toml:17: limits.streams: 0 is out of bounds: use 1 to 1048576"),
        ("streams = 100", "streams = -1", "gateway.toml:17: limits.streams: -1 is out of bounds"),
    ] {
        let error = error(from, to);
        assert!(error.contains(expected), "\n got {error}\nwant {expected}");
    }
}

#[test]
fn every_wrong_allow_is_named_with_line_key_and_remedy() {
    for (from, to, expected) in [
        (
            "\"alice\"",
            "\"al ice\"",
            "gateway.toml:20: allow[1].name: 'al ice' is no identity: write its name, or a pattern like ci-* or *",
        ),
        (
            "10.96.0.20:443",
            "10.96.0.20:https",
            "gateway.toml:21: allow[1].reach: 'https' is no port: write it like 443 or 8000-8999",
        ),
        (
            "shop/*",
            "shop",
            "gateway.toml:22: allow[1].mirror: 'shop' describes no target: write it like shop/*, shop/deploy/web",
        ),
        (
            "reach  = [\"10.96.0.0/16\", \"10.96.0.20:443\"]\nmirror = [\"shop/*\"]",
            "",
            "gateway.toml:20: allow[1].name: this [[allow]] allows nothing: add reach = [\"10.96.0.0/16\"] or mirror",
        ),
    ] {
        let error = error(from, to);
        assert!(error.contains(expected), "\n got {error}\nwant {expected}");
    }
}

#[test]
fn a_typo_is_named_with_what_it_could_have_been() {
    let typo = error("listen ", "lisen ");
    assert!(typo.starts_with("gateway.toml:2: lisen: unknown field `lisen`, expected one of `listen`"), "{typo}");
    let typo = error("routes ", "route ");
    assert!(typo.starts_with("gateway.toml:10: cluster.route: unknown field `route`, expected one of"), "{typo}");
    let typo = error("[limits]", "[limit]");
    assert!(typo.starts_with("gateway.toml:16: limit: unknown field `limit`"), "{typo}");
}

#[test]
fn a_missing_key_is_named_with_an_example() {
    let missing = error("listen    = \"0.0.0.0:7844\"\n", "");
    assert!(missing.contains("`listen` is missing: add listen = \"0.0.0.0:7844\""), "{missing}");
    let missing = error("dns      = \"10.96.0.10:53\"\n", "");
    assert!(missing.starts_with("gateway.toml:6: cluster: `dns` is missing: add dns = "), "{missing}");
}

#[test]
fn a_target_may_name_processes_and_containers() {
    let text = GOOD.replace("netns = [", "pid = [1234, \"/run/web.pid\"]\ncontainer = [\"4f1d9c02a7be\"]\nnetns = [");
    let places = parse(&text).unwrap().targets.remove(0).places;
    let expected = [
        Place::Netns("/run/netns/web-1".into()),
        Place::Netns("/run/netns/web-2".into()),
        Place::Pid(1234),
        Place::PidFile("/run/web.pid".into()),
        Place::Container("4f1d9c02a7be".to_owned()),
    ];
    assert_eq!(places, expected);
}

#[test]
fn a_place_that_is_none_is_named() {
    let netns = "netns = [\"/run/netns/web-1\", \"/run/netns/web-2\"]";
    for (to, expected) in [
        ("", "gateway.toml:13: target[1].name: the target 'shop/deploy/web' has no replica: add netns = "),
        ("netns = []", "13: target[1].name: the target 'shop/deploy/web' has no replica: add netns = "),
        ("netns = [\"/a\", \"/a\"]", "14: target[1].netns: /a is in the list already"),
        ("pid = [0]", "14: target[1].pid: 0 is no process: write its number, like 1234, or the path"),
        ("pid = [true]", "14: target[1].pid: true is no process"),
        ("pid = [\"web.pid\"]", "14: target[1].pid: \"web.pid\" is no process"),
        (
            "container = [\"web\"]",
            "14: target[1].container: 'web' is no container: write the beginning of its id, 4 to 64",
        ),
        ("netns = \"/a\"", "14: target[1].netns: invalid type: string \"/a\", expected a sequence"),
    ] {
        let error = error(netns, to);
        assert!(error.contains(expected), "\n got {error}\nwant {expected}");
    }
}

#[test]
fn a_second_target_of_the_same_name_is_named_with_its_number() {
    let twice = format!("{GOOD}[[target]]\nname = \"shop/deploy/web\"\nnetns = [\"/a\"]\n");
    let twice = parse(&twice).unwrap_err().to_string();
    assert!(
        twice.starts_with("gateway.toml:24: target[2].name: there is a target 'shop/deploy/web' already"),
        "{twice}"
    );
}

#[test]
fn a_wrong_type_and_broken_toml_are_placed() {
    let wrong = error("\"cluster.local\"", "7");
    assert!(
        wrong.starts_with("gateway.toml:8: cluster.domain: invalid type: integer `7`, expected a string"),
        "{wrong}"
    );
    let broken = error("\"cluster.local\"", "\"cluster.local");
    assert!(broken.starts_with("gateway.toml:8: cluster.domain: "), "{broken}");
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Path::new("/nonexistent/gateway.toml")).unwrap_err();
    assert_eq!(error.to_string(), "cannot read /nonexistent/gateway.toml");
}

#[test]
fn a_nameserver_is_an_address_with_or_without_a_port_or_a_name_with_one() {
    for (text, expected) in [
        ("10.0.0.1", Some(Nameserver::Address("10.0.0.1:53".parse().unwrap()))),
        ("[fd00::a]:5353", Some(Nameserver::Address("[fd00::a]:5353".parse().unwrap()))),
        ("fd00::a", Some(Nameserver::Address("[fd00::a]:53".parse().unwrap()))),
        ("kube-dns.kube-system:53", Some(Nameserver::Name { host: "kube-dns.kube-system".to_owned(), port: 53 })),
        ("10.0.0.1:0", None),
        ("10.0.0:53", None),
        (":53", None),
    ] {
        assert_eq!(Nameserver::parse(text), expected, "{text}");
    }
}
