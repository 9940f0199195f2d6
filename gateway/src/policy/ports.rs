//! [`Ports`]: one port or a range of them, written `443` or `8000-8999`. Under [`super::reach`] and [`super::mirror`]. Pure.

use std::fmt;

/// Ports from the first to the last, never port 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    /// Reads `443` or `8000-8999`; `None` for anything else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let port = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if is_number { text.parse::<u16>().ok().filter(|port| *port != 0) } else { None }
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let ports = Self { first: port(first)?, last: port(last)? };
        (ports.first <= ports.last).then_some(ports)
    }

    /// Whether the port is one of them.
    pub(super) const fn contain(&self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_and_a_range_are_read_and_nothing_else() {
        let ports = Ports::parse("8000-8999").unwrap();
        assert!(ports.contain(8000) && ports.contain(8999) && !ports.contain(7999) && !ports.contain(9000));
        assert_eq!(ports.to_string(), "8000-8999");
        assert_eq!(Ports::parse("443").unwrap().to_string(), "443");
        for text in ["", "0", "-", "80-", "-80", "90-80", "65536", "+80", " 80", "80-90-100", "http"] {
            assert_eq!(Ports::parse(text), None, "{text}");
        }
    }
}
