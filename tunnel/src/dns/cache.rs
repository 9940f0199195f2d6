//! [`Cache`]: the cluster's answers for as long as their TTL says.
//!
//! Pure: time is an argument. Ordinary answers are not kept: the machine has its own caches, and a VPN that changes them must be
//! heard at once. Before and after: `lookup`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use super::{name::Name, query::Question, reply::Reply};

/// At most this many answers: some hundred names of a busy day, of both families, with room to spare.
const MAX_ENTRIES: usize = 4096;

/// At most this much memory, so that few large answers cannot take what many small ones may: 4 MiB, 1 KiB an entry.
const MAX_BYTES: usize = 4 << 20;

/// What must be equal for one answer to serve two queries.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// In small letters.
    pub(super) name: Name,
    pub(super) kind: u16,
    pub(super) class: u16,
    pub(super) dnssec_ok: bool,
    pub(super) checking_disabled: bool,
}

impl Key {
    pub(super) fn question(&self) -> Question {
        Question { name: self.name.clone(), kind: self.kind, class: self.class }
    }
}

/// A reply and when it came.
#[derive(Debug, Clone)]
pub(super) struct Dated {
    pub(super) reply: Arc<Reply>,
    pub(super) arrived: Instant,
}

#[derive(Debug)]
struct Entry {
    dated: Dated,
    expires: Instant,
    bytes: usize,
    /// Its place in the order of arrival.
    order: u64,
}

/// Bounded in entries and in bytes; when full, the answer that came first goes.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: FxHashMap<Key, Entry>,
    /// Oldest first; one for each entry.
    order: BTreeMap<u64, Key>,
    next: u64,
    bytes: usize,
}

impl Cache {
    /// The answer, if it is there and still good.
    pub(super) fn find(&mut self, key: &Key, now: Instant) -> Option<Dated> {
        let entry = self.entries.get(key)?;
        if entry.expires > now {
            return Some(entry.dated.clone());
        }
        self.remove(key);
        None
    }

    /// Keeps an answer for `lifetime` from its arrival on, in place of an older one.
    pub(super) fn keep(&mut self, key: Key, dated: Dated, lifetime: Duration) {
        let bytes = dated.reply.footprint() + size_of::<Entry>() + 2 * (size_of::<Key>() + key.name.wire().len());
        if bytes > MAX_BYTES {
            return;
        }
        self.remove(&key);
        while self.entries.len() >= MAX_ENTRIES || self.bytes + bytes > MAX_BYTES {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.remove(&oldest);
        }
        self.order.insert(self.next, key.clone());
        let expires = dated.arrived + lifetime;
        self.entries.insert(key, Entry { dated, expires, bytes, order: self.next });
        self.bytes += bytes;
        self.next += 1;
    }

    /// Forgets all: the cluster is another one.
    pub(super) fn clear(&mut self) {
        *self = Self { next: self.next, ..Self::default() };
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.order);
            self.bytes -= entry.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::{
        super::reply::tests::{address, record, reply},
        *,
    };

    fn key(text: &str) -> Key {
        let name = Name::from_text(text).unwrap();
        Key { name, kind: 1, class: 1, dnssec_ok: false, checking_disabled: false }
    }

    fn dated(bytes: usize) -> Dated {
        let records = vec![address("a", 30, Ipv4Addr::LOCALHOST), record("a", 16, 30, &vec![0; bytes])];
        Dated { reply: Arc::new(reply(0, records, vec![])), arrived: Instant::now() }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_kept_until_its_time() {
        let mut cache = Cache::default();
        let second = Duration::from_secs(1);
        let dated = dated(0);
        cache.keep(key("a"), dated.clone(), 5 * second);
        assert!(cache.find(&key("a"), dated.arrived + 4 * second).is_some());
        assert!(cache.find(&key("b"), dated.arrived).is_none());
        assert!(cache.find(&key("a"), dated.arrived + 5 * second).is_none());
        assert_eq!((cache.len(), cache.bytes, cache.order.len()), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_to_come_is_the_first_to_go() {
        let mut cache = Cache::default();
        for index in 0..=MAX_ENTRIES {
            cache.keep(key(&format!("n{index}")), dated(0), Duration::from_secs(9));
        }
        assert_eq!((cache.len(), cache.order.len()), (MAX_ENTRIES, MAX_ENTRIES));
        assert!(cache.find(&key("n0"), Instant::now()).is_none());
        assert!(cache.find(&key("n1"), Instant::now()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn large_answers_are_bounded_in_bytes() {
        let mut cache = Cache::default();
        for index in 0..200 {
            cache.keep(key(&format!("n{index}")), dated(60_000), Duration::from_secs(9));
            assert!(cache.bytes <= MAX_BYTES);
        }
        assert!(cache.len() > 60 && cache.len() < 80, "{}", cache.len());
        cache.clear();
        assert_eq!((cache.len(), cache.bytes, cache.order.len()), (0, 0, 0));
    }
}
