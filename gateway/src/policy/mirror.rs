//! [`MirrorPattern`]: targets and ports whose inbound traffic an identity may have mirrored. Pure.
//!
//! ```text
//! *                             every port of every target
//! shop/*                        everything in the namespace `shop`
//! shop/deploy/web               every port of one target
//! */deploy/web-*:8080           one port of some
//! shop/deploy/web:8000-8999/udp
//! ```
//! A `*` stands for characters within a part; a last part that is `*` alone stands for all parts that are left.
//! Before: [`crate::config`]; after: [`super::Permissions`].

use std::{fmt, str::FromStr};

use link::rules::RuleProtocol;
use thiserror::Error;

use super::{glob::Glob, ports::Ports};

/// Parts of a target's name: `namespace/kind/name`.
const PARTS: usize = 3;

/// Targets, ports and protocols that may be mirrored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorPattern {
    /// As many as a name has; fewer only if the last is `*`.
    parts: Vec<Glob>,
    ports: Option<Ports>,
    protocol: Option<RuleProtocol>,
}

/// A text is no such pattern.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotAMirror {
    /// What stands before the port is no target, nor a pattern of any.
    #[error(
        "'{0}' describes no target: write it like shop/*, shop/deploy/web or */deploy/web-*; '*' is for characters within a part, and at the end for all that is left"
    )]
    Target(String),
    /// No port, or a range the wrong way round.
    #[error("'{0}' is no port: write it like 8080 or 8000-8999")]
    Ports(String),
    /// Not a protocol that can be mirrored.
    #[error("there is no protocol '{0}' to mirror: use tcp or udp")]
    Protocol(String),
}

impl MirrorPattern {
    /// Whether it opens this port of this target.
    pub fn opens(&self, target: &str, port: u16, protocol: RuleProtocol) -> bool {
        self.ports.is_none_or(|ports| ports.contain(port))
            && self.protocol.is_none_or(|own| own == protocol)
            && self.names(target)
    }

    /// Whether it opens any port of this target.
    pub fn names(&self, target: &str) -> bool {
        let parts = target.split('/').count();
        let is_as_long = parts == self.parts.len() || (self.is_open_ended() && parts > self.parts.len());
        is_as_long && self.parts.iter().zip(target.split('/')).all(|(glob, part)| glob.matches(part))
    }

    fn is_open_ended(&self) -> bool {
        self.parts.last().is_some_and(Glob::is_star)
    }
}

impl FromStr for MirrorPattern {
    type Err = NotAMirror;

    fn from_str(text: &str) -> Result<Self, NotAMirror> {
        let (target, place) = text.split_once(':').map_or((text, None), |(target, place)| (target, Some(place)));
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
        let parts: Option<Vec<Glob>> = target.split('/').map(|part| Glob::new(part, is_allowed)).collect();
        let pattern = parts.map(|parts| Self { parts, ports: None, protocol: None });
        let pattern = pattern.filter(|pattern| {
            let parts = pattern.parts.len();
            parts == PARTS || (parts < PARTS && pattern.is_open_ended())
        });
        let pattern = pattern.ok_or_else(|| NotAMirror::Target(target.to_owned()))?;
        let Some(place) = place else { return Ok(pattern) };
        let (ports, protocol) = place.split_once('/').map_or((place, None), |(ports, last)| (ports, Some(last)));
        let protocol = protocol.map(|text| match text {
            "tcp" => Ok(RuleProtocol::Tcp),
            "udp" => Ok(RuleProtocol::Udp),
            other => Err(NotAMirror::Protocol(other.to_owned())),
        });
        let ports = Ports::parse(ports).ok_or_else(|| NotAMirror::Ports(ports.to_owned()))?;
        Ok(Self { ports: Some(ports), protocol: protocol.transpose()?, ..pattern })
    }
}

impl fmt::Display for MirrorPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.parts.iter().enumerate() {
            write!(f, "{}{part}", if at == 0 { "" } else { "/" })?;
        }
        self.ports.map_or(Ok(()), |ports| write!(f, ":{ports}"))?;
        self.protocol.map_or(Ok(()), |protocol| write!(f, "/{protocol}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TCP: RuleProtocol = RuleProtocol::Tcp;
    const UDP: RuleProtocol = RuleProtocol::Udp;

    fn pattern(text: &str) -> MirrorPattern {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_pattern_opens_what_it_names_and_nothing_else() {
        for (text, yes, no) in [
            ("*", &["shop/deploy/web", "a/b/c"][..], &[][..]),
            ("shop/*", &["shop/deploy/web", "shop/pod/a"], &["shop", "shopping/deploy/web", "a/shop/b", ""]),
            ("shop/deploy/*", &["shop/deploy/web"], &["shop/pod/web", "shop/deploy", "other/deploy/web"]),
            ("shop/*/web", &["shop/deploy/web"], &["shop/deploy/web2", "shop/a/b/web", "shop/web"]),
            ("*/deploy/web-*", &["shop/deploy/web-1"], &["shop/deploy/web", "shop/deploy/web-1/x", "a/b/deploy/web-1"]),
            ("shop/deploy/web", &["shop/deploy/web"], &["shop/deploy/web/", "shop/deploy/we", "Shop/deploy/web"]),
        ] {
            for target in yes {
                assert!(pattern(text).opens(target, 1, TCP) && pattern(text).opens(target, 2, UDP), "{text} {target}");
            }
            for target in no {
                assert!(!pattern(text).opens(target, 1, TCP), "{text} {target}");
            }
            assert_eq!(pattern(text).to_string(), text);
        }
    }

    #[test]
    fn a_port_and_a_protocol_narrow_it() {
        let (port, udp) = (pattern("shop/*:8080"), pattern("shop/deploy/web:80-90/udp"));
        assert!(port.opens("shop/deploy/web", 8080, TCP) && port.opens("shop/deploy/web", 8080, UDP));
        assert!(!port.opens("shop/deploy/web", 8081, TCP) && port.names("shop/deploy/web"));
        assert!(udp.opens("shop/deploy/web", 90, UDP));
        assert!(!udp.opens("shop/deploy/web", 90, TCP) && !udp.opens("shop/deploy/web", 91, UDP));
        assert_eq!((port.to_string(), udp.to_string()), ("shop/*:8080".into(), "shop/deploy/web:80-90/udp".into()));
    }

    #[test]
    fn a_wrong_text_says_what_would_be_right() {
        for (text, expected) in [
            ("", "'' describes no target: write it like shop/*"),
            ("shop", "'shop' describes no target"),
            ("shop/", "'shop/' describes no target"),
            ("shop/deploy", "'shop/deploy' describes no target"),
            ("shop/web-*", "'shop/web-*' describes no target"),
            ("shop/deploy/web/*", "'shop/deploy/web/*' describes no target"),
            ("shop/**", "'shop/**' describes no target"),
            ("shop/deploy/w?b", "'shop/deploy/w?b' describes no target"),
            ("shop/*:", "'' is no port"),
            ("shop/*:0", "'0' is no port: write it like 8080"),
            ("shop/*:80/icmp", "there is no protocol 'icmp' to mirror: use tcp or udp"),
        ] {
            let error = text.parse::<MirrorPattern>().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_of_a_namespace_opens_no_other(namespace in "[a-z]{1,8}", other in "[a-z]{1,8}", rest in "[a-z/]{0,12}") {
            let opens = pattern(&format!("{namespace}/*")).names(&format!("{other}/{rest}"));
            prop_assert!(!opens || namespace == other);
        }

        #[test]
        fn any_text_parses_without_a_panic(text: String, near in "[a-z*/:0-9.-]{0,24}", target: String) {
            for text in [text, near] {
                if let Ok(pattern) = text.parse::<MirrorPattern>() {
                    pattern.opens(&target, 1, TCP);
                    prop_assert_eq!(pattern.to_string().parse(), Ok(pattern));
                }
            }
        }
    }
}
