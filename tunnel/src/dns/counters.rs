//! What the resolver did, counted for `adit status`.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// One number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// The live numbers.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)+
        }

        impl Counters {
            pub(super) fn snapshot(&self, cache_entries: usize) -> DnsCounters {
                DnsCounters { cache_entries, $($name: self.$name.read(),)+ }
            }
        }

        /// What a resolver did since it was made.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct DnsCounters {
            /// Answers in the cache at the moment, expired ones among them until somebody asks.
            pub cache_entries: usize,
            $($(#[$doc])+ pub $name: u64,)+
        }
    };
}

counters! {
    /// Queries about names of the cluster.
    cluster,
    /// Queries about all other names.
    ordinary,
    /// Names of the cluster under a search domain of this machine, denied without asking anybody.
    strays,
    /// Queries sent to the cluster's nameserver.
    asked_cluster,
    /// Lookups answered by the cache.
    cached,
    /// Lookups that waited for an equal one instead of asking.
    merged,
    /// Messages that were no query: too short, or an answer. Not answered.
    ignored,
    /// Queries that could not be read: answered by FORMERR or BADVERS.
    malformed,
    /// Queries of a kind that is not served (zone transfers; updates of the cluster): answered by REFUSED or NOTIMP.
    refused,
    /// Queries about names of the cluster while the link was down: answered by SERVFAIL at once.
    link_down,
    /// Queries beyond the limit of those under way: answered by SERVFAIL at once.
    over_limit,
    /// Queries without an answer in time: answered by SERVFAIL.
    timed_out,
    /// Queries whose nameserver could not be asked, or whose answer could not be read: answered by SERVFAIL.
    failed,
    /// UDP answers that were cut and said so.
    truncated,
}
