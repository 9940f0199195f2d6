//! The counters that the data plane raises: relaxed atomics with one writer, so a counter costs a few nanoseconds and readers
//! never stop it. Each group has a twin of plain numbers, which is what `adit status -o json` prints.
//! Before: `outbound`, `dns`; after: [`super::status`].

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

/// One number that only grows, or a gauge that is set.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Raises it by one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Raises it.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Relaxed);
    }

    /// Replaces it, for gauges.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// What it stands at.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Defines a group of counters and its serializable twin.
macro_rules! counters {
    ($(#[$doc:meta])* $live:ident => $plain:ident { $($(#[$field_doc:meta])* $field:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $live { $($(#[$field_doc])* pub $field: Counter,)* }

        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $plain { $($(#[$field_doc])* pub $field: u64,)* }

        impl $live {
            /// The numbers as they stand.
            pub fn snapshot(&self) -> $plain {
                $plain { $($field: self.$field.value(),)* }
            }
        }
    };
}

counters! {
    /// Flows of the session.
    FlowCounters => Flows {
        /// TCP flows that are open (gauge).
        tcp_open,
        /// TCP flows accepted since the session started.
        tcp_total,
        /// TCP flows whose SYN waits for the gateway's dial (gauge).
        tcp_held,
        /// TCP flows that the cluster refused.
        tcp_refused,
        /// TCP connections, datagrams and pings that the gateway did not permit: its configuration does not let this identity reach them.
        prohibited,
        /// UDP flows that are open (gauge).
        udp_open,
        /// UDP flows since the session started.
        udp_total,
        /// ICMP echo requests carried.
        echoes,
    }
}

counters! {
    /// Payload and packets, both ways.
    TrafficCounters => Traffic {
        /// TCP and UDP payload bytes from this machine to the cluster.
        bytes_to_cluster,
        /// TCP and UDP payload bytes from the cluster to this machine.
        bytes_from_cluster,
        /// IP packets read from the TUN device.
        packets_from_host,
        /// IP packets written to the TUN device.
        packets_to_host,
    }
}

counters! {
    /// Queries that entered the session, and what became of them.
    DnsCounters => DnsNumbers {
        /// All queries.
        queries,
        /// Asked of the cluster's nameserver.
        cluster,
        /// Asked of the machine's own nameserver.
        ordinary,
        /// Answered from the cache.
        cache_hits,
        /// Answered with SERVFAIL because no nameserver answered.
        failures,
    }
}
