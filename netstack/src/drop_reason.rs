//! [`DropReason`]: why a packet from the device went no further, and [`DropCounters`], how often. A dropped packet is no error.

use std::fmt;

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// Why a packet was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum DropReason {
            $($(#[$doc])* $variant,)*
        }

        impl DropReason {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in metrics and in `adit status -o json`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

drop_reasons! {
    /// Shorter than a header says or needs.
    Truncated => "truncated",
    /// Neither IPv4 nor IPv6.
    IpVersion => "ip_version",
    /// An IP header whose lengths contradict each other.
    IpHeader => "ip_header",
    /// IPv6 extension headers without end, in a wrong order or with a lying length.
    ExtensionHeader => "extension_header",
    /// A source that no host can have: unspecified, loopback, multicast or broadcast.
    MartianSource => "martian_source",
    /// A destination that no cluster can have: unspecified or loopback.
    MartianDestination => "martian_destination",
    /// To a multicast group; the link carries none.
    Multicast => "multicast",
    /// To the limited broadcast address.
    Broadcast => "broadcast",
    /// To an IPv6 link-local address, which means nothing on the other side of the link.
    LinkLocal => "link_local",
    /// Source and destination are the same address.
    Land => "land",
    /// Neither TCP, UDP nor ICMP.
    ProtocolUnknown => "protocol_unknown",
    /// A source or destination port of 0.
    PortZero => "port_zero",
    /// A TCP data offset or option outside the segment.
    TcpHeader => "tcp_header",
    /// TCP flags that exclude each other (SYN with FIN or RST, FIN with RST) or say nothing.
    TcpFlags => "tcp_flags",
    /// A UDP length that contradicts the packet's.
    UdpLength => "udp_length",
    /// ICMP that is no echo request.
    IcmpKind => "icmp_kind",
    /// A fragment that overlaps another (RFC 5722), with its whole datagram.
    FragmentOverlap => "fragment_overlap",
    /// A fragment of a wrong length, or one that ends beyond 65,535 bytes.
    FragmentMalformed => "fragment_malformed",
    /// The fragments waiting for others were too many; the oldest datagram of them went.
    FragmentsFull => "fragments_full",
    /// A datagram whose other fragments did not come in time.
    FragmentTimeout => "fragment_timeout",
    /// A TCP segment for a flow that does not exist and may not be answered (a RST).
    FlowUnknown => "flow_unknown",
    /// A packet for a flow whose dial ended in silence.
    FlowSilent => "flow_silent",
    /// A new flow when the table holds nothing that may be evicted.
    FlowsFull => "flows_full",
    /// A new TCP flow when as many dials as are allowed are under way.
    DialsFull => "dials_full",
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How many packets each reason took.
#[derive(Debug, Clone)]
pub struct DropCounters([u64; DropReason::ALL.len()]);

impl DropCounters {
    /// All zero.
    pub const fn new() -> Self {
        Self([0; DropReason::ALL.len()])
    }

    /// One more packet.
    pub const fn count(&mut self, reason: DropReason) {
        self.0[reason as usize] += 1;
    }

    /// Packets that `reason` took.
    pub const fn of(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// Every reason that took a packet.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|&reason| (reason, self.of(reason))).filter(|&(_, packets)| packets > 0)
    }
}

impl Default for DropCounters {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_reason_has_a_name_and_a_counter_of_its_own() {
        let names: HashSet<_> = DropReason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), DropReason::ALL.len());
        let mut counters = DropCounters::new();
        for &reason in DropReason::ALL {
            counters.count(reason);
        }
        assert!(counters.iter().all(|(_, packets)| packets == 1));
        assert_eq!(counters.iter().count(), DropReason::ALL.len());
    }
}
