//! [`ResolvConf`]: what the machine's resolver file says (resolv.conf(5)), as far as it matters here. Pure; never writes it.
//!
//! Before: `observe`; after: `plan`.

use std::net::{IpAddr, Ipv6Addr};

/// glibc and musl use the first three nameservers only.
const MAX_NAMESERVERS: usize = 3;

/// One `nameserver` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nameserver {
    /// Its address.
    pub address: IpAddr,
    /// The interface of a link-local address (`fe80::1%eth0`), as it is written.
    pub zone: Option<String>,
}

/// A parsed resolver file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// At most three, in order, each once.
    pub nameservers: Vec<Nameserver>,
    /// The search list, of the last `search` or `domain` line.
    pub search: Vec<String>,
    /// From how many dots on a name is asked as it is first; 1 unless the file says otherwise.
    pub ndots: u8,
}

impl ResolvConf {
    /// Reads the file's text. As a stub does, it passes over what it does not understand.
    pub fn parse(text: &str) -> Self {
        let mut parsed = Self { ndots: 1, ..Self::default() };
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => parsed.add_nameserver(words.next().unwrap_or_default()),
                Some("search") => parsed.search = words.map(domain).filter(|word| !word.is_empty()).collect(),
                Some("domain") => parsed.search = words.next().map(domain).into_iter().collect(),
                Some("options") => parsed.read_options(words),
                _ => {}
            }
        }
        parsed
    }

    fn add_nameserver(&mut self, word: &str) {
        let (text, zone) = word.split_once('%').map_or((word, None), |(text, zone)| (text, Some(zone.to_owned())));
        let Ok(address) = text.parse::<IpAddr>() else { return };
        let address = match address {
            IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
            IpAddr::V4(_) => address,
        };
        let nameserver = Nameserver { address, zone };
        if self.nameservers.len() < MAX_NAMESERVERS && !self.nameservers.contains(&nameserver) {
            self.nameservers.push(nameserver);
        }
    }

    fn read_options<'a>(&mut self, words: impl Iterator<Item = &'a str>) {
        for word in words {
            if let Some(number) = word.strip_prefix("ndots:") {
                // glibc's own cap.
                self.ndots = number.parse().map_or(self.ndots, |dots: u8| dots.min(15));
            }
        }
    }
}

fn domain(word: &str) -> String {
    word.trim_end_matches('.').to_owned()
}

impl Nameserver {
    /// Whether it is this machine itself.
    pub fn is_loopback(&self) -> bool {
        // A stub asks 0.0.0.0 and :: on the machine itself.
        self.address.is_loopback() || self.address.is_unspecified()
    }

    /// Whether its address means something on one interface only.
    pub fn is_link_local(&self) -> bool {
        match self.address {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => Ipv6Addr::is_unicast_link_local(&v6),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_usual_file_is_read() {
        let text = "# made by NetworkManager\nnameserver 192.168.1.1 ; home\nnameserver fe80::1%eth0\nnameserver\t::ffff:9.9.9.9\n\
                    nameserver 192.168.1.1\nnameserver 1.1.1.1\ndomain old.example\nsearch corp.example. lan\noptions edns0 ndots:2 trust-ad\n";
        let parsed = ResolvConf::parse(text);
        let addresses: Vec<String> = parsed.nameservers.iter().map(|server| server.address.to_string()).collect();
        assert_eq!(addresses, ["192.168.1.1", "fe80::1", "9.9.9.9"]);
        assert_eq!(parsed.nameservers[1].zone.as_deref(), Some("eth0"));
        assert!(parsed.nameservers[1].is_link_local());
        assert_eq!(parsed.search, ["corp.example", "lan"]);
        assert_eq!(parsed.ndots, 2);
    }

    #[test]
    fn an_empty_file_says_nothing() {
        assert_eq!(ResolvConf::parse(""), ResolvConf { ndots: 1, ..ResolvConf::default() });
    }

    proptest! {
        #[test]
        fn any_text_is_read(text: String) {
            prop_assert!(ResolvConf::parse(&text).nameservers.len() <= MAX_NAMESERVERS);
        }
    }
}
