//! The split resolver: names of the cluster are asked of the cluster's nameserver, all others of the nameserver that the program meant.
//!
//! Owns the decision, the cache, the merging of equal queries, search-list emulation and the form of answers. Does not own the
//! capture of queries (`host_network` makes the rules, `outbound` hands over what arrives) nor the link. Before: `outbound`; after:
//! `gateway::dns`, by way of the session's [`ClusterUpstream`].
//!
//! 1. [`Resolver::answer`] reads the query (`query`) and decides the side by its name alone (`names`).
//! 2. The cluster's: `lookup` asks for each candidate name through `cache` until one is not denied, and `encode` gives the reply the
//!    asker's identifier, question, EDNS and size. Any record type passes.
//! 3. Ordinary: the bytes go as they are to the original nameserver (`ordinary`), and the answer comes back as it is.
//! 4. Every answer has the query's identifier and question. No answer takes longer than [`ANSWER_TIME`].
//!
//! Messages are taken apart by a codec of this module rather than by hickory-proto: it never looks into a record that it need not
//! know, so a record that another parser rejects or renders differently still passes; hickory reads and writes the other end in the tests.

mod cache;
mod counters;
mod encode;
mod lookup;
mod name;
mod names;
mod ordinary;
mod query;
mod reply;
pub mod stream;
mod upstream;
mod wire;

use std::{
    future::Future,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use tracing::debug;

use self::{
    cache::{Dated, Key},
    counters::Counters,
    encode::{Form, encode, encode_code, encode_error},
    lookup::{Failed, Lookup},
    name::Name,
    names::Side,
    query::{Header, Query, Question, Unanswerable},
    wire::{MAX_MESSAGE_BYTES, MAX_UDP_BYTES, Reader, code, flag, kind},
};
pub use self::{
    counters::DnsCounters,
    names::{Names, NamesError, NamesOptions},
    ordinary::MarkedSockets,
    upstream::{Arrived, AskError, ClusterUpstream, OrdinaryUpstream, Transport},
};

/// The longest that a program waits for an answer: half a second less than glibc's and musl's 5 s, so that they hear SERVFAIL and go on
/// to their next nameserver instead of timing out.
pub const ANSWER_TIME: Duration = Duration::from_millis(4500);

/// Queries under way on each side: 512. When full, SERVFAIL at once, so that a stub turns to its next nameserver; the sides are counted
/// apart, so that a dead link cannot take ordinary names along.
pub const MAX_UNDER_WAY: usize = 512;

/// Answers DNS queries. Shared by all who hand queries over; see the module.
#[derive(Debug)]
pub struct Resolver<C, O> {
    names: RwLock<Arc<Names>>,
    lookup: Lookup<C>,
    ordinary: O,
    cluster_slots: Semaphore,
    ordinary_slots: Semaphore,
    counters: Arc<Counters>,
}

impl<C: ClusterUpstream, O: OrdinaryUpstream> Resolver<C, O> {
    /// A resolver with empty cache.
    pub fn new(names: Names, cluster: C, ordinary: O) -> Self {
        let counters = Arc::new(Counters::default());
        Self {
            names: RwLock::new(Arc::new(names)),
            lookup: Lookup::new(cluster, Arc::clone(&counters)),
            ordinary,
            cluster_slots: Semaphore::new(MAX_UNDER_WAY),
            ordinary_slots: Semaphore::new(MAX_UNDER_WAY),
            counters,
        }
    }

    /// Decides by other names from here on and forgets all answers: the gateway has said something else at a reconnect.
    pub fn replace_names(&self, names: Names) {
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(names);
        self.lookup.forget();
    }

    /// What was done so far.
    pub fn counters(&self) -> DnsCounters {
        self.counters.snapshot(self.lookup.kept())
    }

    /// The answer to a program's message, to be sent back from [`Arrived::nameserver`]; `None` when it deserves none.
    ///
    /// Ready within [`ANSWER_TIME`]. To drop the future is to give the query up.
    pub async fn answer(&self, message: &[u8], arrived: Arrived) -> Option<Vec<u8>> {
        let query = match Query::read(message) {
            Ok(query) => query,
            Err(Unanswerable::NotAQuery) => {
                self.counters.ignored.add();
                return None;
            }
            Err(Unanswerable::Answered { id, flags, question, edns, code }) => {
                self.counters.malformed.add();
                return Some(encode_error(id, flags, question.as_ref(), edns, code));
            }
        };
        let names = Arc::clone(&self.names.read().unwrap_or_else(PoisonError::into_inner));
        let side = names.side(&query.question);
        if let Some(code) = refusal(&query, &side) {
            self.counters.refused.add();
            return Some(encode_code(&query, code));
        }
        Some(match side {
            Side::Nobody => {
                self.counters.strays.add();
                encode_code(&query, code::NO_SUCH_NAME)
            }
            Side::Cluster(candidates) => self.answer_from_cluster(&query, candidates, arrived.transport).await,
            Side::Ordinary => self.answer_ordinary(&query, message, arrived).await,
        })
    }

    async fn answer_from_cluster(&self, query: &Query, candidates: Vec<Name>, transport: Transport) -> Vec<u8> {
        self.counters.cluster.add();
        if !self.lookup.upstream().is_up() {
            self.counters.link_down.add();
            return encode_code(query, code::SERVER_FAILURE);
        }
        let found = self.bounded(&self.cluster_slots, self.find_first(query, candidates)).await;
        let Ok((name, found)) = found else { return encode_code(query, code::SERVER_FAILURE) };
        let limit = match transport {
            Transport::Udp => query.udp_bytes().min(MAX_UDP_BYTES),
            Transport::Tcp => MAX_MESSAGE_BYTES,
        };
        let age = Instant::now().saturating_duration_since(found.arrived);
        let answer = encode(query, &found.reply, Form { found: &name, age, limit });
        if answer.get(2).is_some_and(|flags| u16::from(*flags) << 8 & flag::TRUNCATED != 0) {
            self.counters.truncated.add();
        }
        answer
    }

    /// The first candidate that is not denied, else the denial of the last.
    async fn find_first(&self, query: &Query, candidates: Vec<Name>) -> Result<(Name, Dated), Failed> {
        let mut denied = Err(Failed);
        for name in candidates {
            let key = Key {
                name: name.key(),
                kind: query.question.kind,
                class: query.question.class,
                dnssec_ok: query.dnssec_ok(),
                checking_disabled: query.checking_disabled(),
            };
            let found = self.lookup.find(key).await?;
            if !found.reply.denies_the_name() {
                return Ok((name, found));
            }
            denied = Ok((name, found));
        }
        denied
    }

    async fn answer_ordinary(&self, query: &Query, message: &[u8], arrived: Arrived) -> Vec<u8> {
        self.counters.ordinary.add();
        let asked = async {
            let answer = self.ordinary.ask(message.to_vec(), arrived).await.and_then(|answer| accept(query, answer));
            answer.map_err(|error| {
                debug!(%error, nameserver = %arrived.nameserver, transport = %arrived.transport, "no answer");
                Failed
            })
        };
        let answer = self.bounded(&self.ordinary_slots, asked).await;
        answer.unwrap_or_else(|Failed| encode_code(query, code::SERVER_FAILURE))
    }

    /// Runs `asked` within the side's limit and the time; counts why there is no answer.
    async fn bounded<T>(&self, slots: &Semaphore, asked: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
        let Ok(_slot) = slots.try_acquire() else {
            self.counters.over_limit.add();
            return Err(Failed);
        };
        match timeout(ANSWER_TIME, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Failed)) => {
                self.counters.failed.add();
                Err(Failed)
            }
            Err(_elapsed) => {
                self.counters.timed_out.add();
                Err(Failed)
            }
        }
    }
}

/// Why a readable message is not served at all: an update or the like is no business of the cluster's nameserver, and a zone transfer is
/// a stream of messages, which no caching or forwarding nameserver gives.
fn refusal(query: &Query, side: &Side) -> Option<u16> {
    if query.opcode() != 0 {
        return (*side != Side::Ordinary).then_some(code::NOT_IMPLEMENTED);
    }
    matches!(query.question.kind, kind::AXFR | kind::IXFR).then_some(code::REFUSED)
}

/// Checks that an ordinary answer is one to the query; a bare error without a question is given one.
fn accept(query: &Query, answer: Vec<u8>) -> Result<Vec<u8>, AskError> {
    let mut reader = Reader::at(&answer, 0);
    let header = Header::read(&mut reader).map_err(|_| AskError::Malformed)?;
    if header.id != query.id || header.flags & flag::RESPONSE == 0 {
        return Err(AskError::Malformed);
    }
    match header.questions {
        1 if Question::read(&mut reader).is_ok_and(|question| question.is(&query.question)) => Ok(answer),
        0 => Ok(encode_code(query, header.flags & flag::CODE)),
        _ => Err(AskError::Malformed),
    }
}

#[cfg(test)]
mod tests;
