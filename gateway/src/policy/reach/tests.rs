//! Every form of a pattern opens what it names and nothing else; every wrong one says what would be right.

use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> ReachPattern {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn tcp(text: &str) -> Destination {
    Destination::Tcp(text.parse().unwrap())
}

fn udp(text: &str) -> Destination {
    Destination::Udp(text.parse().unwrap())
}

fn echo(text: &str) -> Destination {
    Destination::Echo(text.parse().unwrap())
}

#[test]
fn a_pattern_opens_what_it_names_and_nothing_else() {
    for (text, yes, no) in [
        ("*", vec![tcp("10.0.0.1:1"), udp("[fd00::1]:1"), echo("10.0.0.1")], vec![]),
        ("*:443", vec![tcp("10.0.0.1:443"), udp("[fd00::1]:443")], vec![tcp("10.0.0.1:80"), echo("10.0.0.1")]),
        (
            "10.96.0.0/16",
            vec![tcp("10.96.3.4:1"), udp("10.96.0.0:65535"), echo("10.96.255.255")],
            vec![tcp("10.97.0.0:1"), echo("fd00::1"), tcp("[::ffff:10.96.3.4]:1")],
        ),
        (
            "10.96.0.20:443",
            vec![tcp("10.96.0.20:443"), udp("10.96.0.20:443")],
            vec![tcp("10.96.0.21:443"), tcp("10.96.0.20:444"), echo("10.96.0.20")],
        ),
        (
            "10.96.0.0/16:80-90/tcp",
            vec![tcp("10.96.0.1:80"), tcp("10.96.0.1:90")],
            vec![udp("10.96.0.1:80"), tcp("10.96.0.1:79"), tcp("10.96.0.1:91")],
        ),
        ("10.96.0.0/16/icmp", vec![echo("10.96.0.1")], vec![tcp("10.96.0.1:80"), echo("10.97.0.1")]),
        ("[fd00::/64]:80/udp", vec![udp("[fd00::7]:80")], vec![udp("[fd00:0:0:1::]:80"), tcp("[fd00::7]:80")]),
        ("fd00::1", vec![tcp("[fd00::1]:1"), echo("fd00::1")], vec![echo("fd00::2")]),
    ] {
        let pattern = pattern(text);
        assert!(yes.iter().all(|to| pattern.opens(to)), "{text}");
        assert!(!no.iter().any(|to| pattern.opens(to)), "{text}");
        assert_eq!(pattern.to_string(), text);
    }
}

#[test]
fn brackets_without_a_port_and_a_protocol_without_a_port_are_read() {
    assert_eq!(pattern("[fd00::/64]").to_string(), "fd00::/64");
    assert_eq!(pattern("[fd00::1]/tcp").to_string(), "fd00::1/tcp");
    assert_eq!(pattern("fd00::/64/tcp").to_string(), "fd00::/64/tcp");
    assert_eq!(pattern("10.96.0.20/32").to_string(), "10.96.0.20");
}

#[test]
fn a_wrong_text_says_what_would_be_right() {
    for (text, expected) in [
        ("", "'' is no address"),
        ("web", "'web' is no address that can be reached: write it like 10.96.0.0/16"),
        ("10.96.0.0/33", "'10.96.0.0/33' is no address"),
        ("10.96.3.4/16", "10.96.3.4/16 has bits beyond its length: write 10.96.0.0/16"),
        ("10.96.0.0/16:", "'' is no port"),
        ("10.96.0.0/16:http", "'http' is no port: write it like 443 or 8000-8999"),
        ("10.96.0.0/16:90-80", "'90-80' is no port"),
        ("10.96.0.0/16:80/sctp", "there is no protocol 'sctp' here: use tcp, udp or icmp"),
        ("10.96.0.0/16:80/icmp", "icmp has no ports"),
        ("10.96.0.0/", "there is no protocol ''"),
        ("fd00::/64:80", "'fd00::/64:80' can be read in two ways: put an IPv6 prefix before a port in brackets"),
        ("[fd00::/64", "'[fd00::/64' is no address"),
        ("[fd00::/64]80", "'[fd00::/64]80' is no address"),
        ("10.0.0.1:80:90", "'10.0.0.1:80:90' is no address"),
    ] {
        let error = text.parse::<ReachPattern>().unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}

fn any_destination() -> impl Strategy<Value = Destination> {
    let any_socket = || (any::<IpAddr>(), 1u16..).prop_map(|(ip, port)| SocketAddr::new(ip, port));
    prop_oneof![
        any_socket().prop_map(Destination::Tcp),
        any_socket().prop_map(Destination::Udp),
        any::<IpAddr>().prop_map(Destination::Echo),
    ]
}

proptest! {
    #[test]
    fn the_pattern_of_a_destination_opens_it_alone_and_survives_its_text(
        to in any_destination(),
        other in any_destination(),
    ) {
        let pattern = to.pattern();
        prop_assert!(pattern.opens(&to));
        prop_assert_eq!(pattern.opens(&other), to == other);
        prop_assert_eq!(pattern.to_string().parse(), Ok(pattern));
    }

    #[test]
    fn any_text_parses_without_a_panic(text: String, near in "[\\[\\]0-9a-f:./*-]{0,24}") {
        let _ = text.parse::<ReachPattern>();
        let _ = near.parse::<ReachPattern>();
    }
}
