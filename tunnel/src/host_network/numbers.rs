//! [`Numbers`]: the marks, tables and priorities of a session, one set for each of the sessions that a network namespace can have.
//!
//! Pure. Before: `slot`; after: `plan`.
//!
//! A rule lets pass what carries its session's mark bit. A session marks its packets with its own bit and the bits of all sessions
//! before it, so a DNS query that session 0 forwards is still seen by session 1, whose forward is seen by none of the two: every
//! session gets its names, and no query can go in a circle.

use link::prefix::Prefix;

/// Sessions in one network namespace at a time: 8, one mark bit each.
pub const MAX_SESSIONS: u8 = 8;

/// The `protocol` of our rules and routes, by which they are known: 0xad, which no routing daemon uses.
pub(super) const PROTOCOL: u8 = 0xad;

/// The lowest mark bit. The upper eight are left alone by kube-proxy (bits 14, 15), Tailscale (16 to 23) and wg-quick (whole small marks).
const FIRST_MARK_BIT: u32 = 24;

/// Before Tailscale's rules (5210 on), wg-quick's (32764 on) and the main table: a cluster's prefixes are narrower than a VPN's.
const FIRST_PRIORITY: u32 = 4400;

/// Priorities that each session has.
const PRIORITIES_EACH: u32 = 10;

/// Between the tables that people number by hand and those that programs number by hash.
const FIRST_TABLE: u32 = 44_100;

/// Which of the sessions it is: all its numbers follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Numbers {
    session: u8,
}

impl Numbers {
    /// The numbers of session `session`; `None` from [`MAX_SESSIONS`] on.
    pub const fn of(session: u8) -> Option<Self> {
        if session < MAX_SESSIONS { Some(Self { session }) } else { None }
    }

    /// All sets.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..MAX_SESSIONS).map(|session| Self { session })
    }

    /// The set that a rule of this priority belongs to.
    pub(super) fn of_priority(priority: u32) -> Option<Self> {
        let session = priority.checked_sub(FIRST_PRIORITY)? / PRIORITIES_EACH;
        Self::of(u8::try_from(session).ok()?)
    }

    /// Which one, from 0.
    pub const fn session(self) -> u8 {
        self.session
    }

    /// What goes into `SO_MARK` of every socket that must not be captured: the link's and those of forwarded DNS queries.
    pub const fn mark(self) -> u32 {
        let bits = (1 << (self.session + 1)) - 1;
        bits << FIRST_MARK_BIT
    }

    /// The bit of the mark by which this session's rules let a packet pass.
    pub const fn mark_bit(self) -> u32 {
        1 << (FIRST_MARK_BIT + self.session as u32)
    }

    /// The table of the cluster's prefixes.
    pub const fn cluster_table(self) -> u32 {
        FIRST_TABLE + 2 * self.session as u32
    }

    /// The table of the captured nameservers. Apart, because a nameserver in the other table would be captured with all its ports.
    pub const fn dns_table(self) -> u32 {
        self.cluster_table() + 1
    }

    /// The priority of the rules for nameservers.
    pub const fn dns_priority(self) -> u32 {
        FIRST_PRIORITY + PRIORITIES_EACH * self.session as u32
    }

    /// The priority of the rules for the cluster's prefixes.
    pub const fn cluster_priority(self) -> u32 {
        self.dns_priority() + 1
    }

    /// The addresses of the TUN device, by preference, each a host address.
    ///
    /// IPv4: from 198.18.0.0/15, which is set aside for measuring networks (RFC 2544) and so is no cluster's, office's or home's; away
    /// from its start, where proxies put their made-up addresses. IPv6: a unique local prefix (RFC 4193) of a random number of our own.
    pub(super) fn addresses(self, v4: bool) -> impl Iterator<Item = Prefix> {
        (0..31).filter_map(move |attempt: u8| {
            let host = 1 + attempt * MAX_SESSIONS + self.session;
            let (text, bits) = if v4 { ([198, 19, 173, host].into(), 32) } else { (v6_address(host), 128) };
            Prefix::new(text, bits)
        })
    }
}

fn v6_address(host: u8) -> std::net::IpAddr {
    std::net::Ipv6Addr::new(0xfd8a, 0x6169, 0xb1d6, 0, 0, 0, 0, u16::from(host)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forwarded_query_is_seen_by_later_sessions_only() {
        for one in Numbers::all() {
            for other in Numbers::all() {
                let seen = one.mark() & other.mark_bit() == 0;
                assert_eq!(seen, other.session() > one.session());
            }
        }
    }

    #[test]
    fn no_two_sessions_share_a_number() {
        let numbers: Vec<u32> = Numbers::all().flat_map(|set| [set.cluster_table(), set.dns_table()]).collect();
        let mut unique = numbers.clone();
        unique.dedup();
        assert_eq!(numbers, unique);
        for set in Numbers::all() {
            assert_eq!(Numbers::of_priority(set.dns_priority()), Some(set));
            assert_eq!(Numbers::of_priority(set.cluster_priority()), Some(set));
        }
        assert_eq!(Numbers::of_priority(0), None);
        assert_eq!(Numbers::of_priority(5210), None);
        assert_eq!(Numbers::of(MAX_SESSIONS), None);
    }
}
