//! The answer that a program gets: encoded for its identifier, question, EDNS and transport.
//!
//! Pure. Before: `lookup` or `cache`; after: `Resolver::answer`.
//!
//! A short name is answered by the records of the name that was found, under the name that was asked: `web.shop` has the address, as a
//! program expects who looks for the owner that it asked about (glibc), takes any address in the answer (musl), or prints what it gets
//! (dig, c-ares). A CNAME record in front, as CoreDNS's autopath makes it, does for these too; but it is one more thing in every
//! answer, an answer where there is none (the other address family; a query for CNAME), and nothing that the zone says.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::{
    name::Name,
    query::{Edns, OPT_BYTES, Query, Question, put_opt, put_question},
    reply::{Record, Reply},
    wire::{HEADER_BYTES, MAX_MESSAGE_BYTES, code, flag, kind},
};

/// The longest TTL that a program is told. Programs that cache by it (JVM, browsers) would otherwise hold a cluster address after
/// `adit quit`; the nameserver's own TTL rules inside.
const MAX_TOLD: Duration = Duration::from_secs(10);

/// A compression pointer reaches this far (RFC 1035, 4.1.4).
const MAX_POINTER: usize = 0x3fff;

/// How a reply is to be given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form<'a> {
    /// The name that was found: records about it are given as records about the one that was asked.
    pub(super) found: &'a Name,
    /// How long the reply lay in the cache.
    pub(super) age: Duration,
    /// The most bytes that the transport carries.
    pub(super) limit: usize,
}

/// Encodes `reply` as the answer to `query`. What does not fit is left out from its end, and said by TC where it mattered.
pub(super) fn encode(query: &Query, reply: &Reply, form: Form<'_>) -> Vec<u8> {
    let room = form.limit.min(MAX_MESSAGE_BYTES).saturating_sub(query.edns.map_or(0, |_| OPT_BYTES));
    let mut writer = Writer::new(query, room, form);
    let answers = writer.section(&reply.answers);
    let authorities = if answers.whole { writer.section(&reply.authorities) } else { Written::NOTHING };
    let additionals = if authorities.whole { writer.section(&reply.additionals) } else { Written::NOTHING };
    let mut flags = reply.flags & flag::AUTHORITATIVE | flag::RECURSION_AVAILABLE;
    // Additional records may be missing without a word (RFC 2181, 9).
    if reply.flags & flag::TRUNCATED != 0 || !authorities.whole {
        flags |= flag::TRUNCATED;
    }
    // What was verified is the zone's own name.
    let verified = form.found.is(&query.question.name);
    if verified && (query.dnssec_ok() || query.flags & flag::AUTHENTIC_DATA != 0) {
        flags |= reply.flags & flag::AUTHENTIC_DATA;
    }
    writer.finish(query, flags, reply.code, [answers.count, authorities.count, additionals.count])
}

/// An answer without records: an error, or "I do not know".
pub(super) fn encode_code(query: &Query, code: u16) -> Vec<u8> {
    encode_error(query.id, query.flags, Some(&query.question), query.edns, code)
}

/// As [`encode_code`], for a query that could be read in part only.
pub(super) fn encode_error(id: u16, flags: u16, question: Option<&Question>, edns: Option<Edns>, code: u16) -> Vec<u8> {
    let mut message = vec![0; HEADER_BYTES];
    if let Some(question) = question {
        put_question(&mut message, question);
    }
    if let Some(edns) = edns {
        put_opt(&mut message, code, edns.dnssec_ok);
    }
    let counts = [u16::from(question.is_some()), 0, 0, u16::from(edns.is_some())];
    put_header(&mut message, id, flags, flag::RECURSION_AVAILABLE, code, counts);
    message
}

/// Fills in the header: what comes back from the asker's flags is opcode, RD and CD.
fn put_header(message: &mut [u8], id: u16, asked: u16, flags: u16, code: u16, counts: [u16; 4]) {
    let returned = asked & (0xf << 11 | flag::RECURSION_DESIRED | flag::CHECKING_DISABLED);
    // An asker without EDNS cannot be told the upper bits; SERVFAIL stands for any such code.
    let code = if code > flag::CODE && counts[3] == 0 { code::SERVER_FAILURE } else { code };
    let flags = flag::RESPONSE | returned | flags | code & flag::CODE;
    let [questions, answers, authorities, additionals] = counts;
    let numbers = [id, flags, questions, answers, authorities, additionals];
    for (place, number) in message.chunks_exact_mut(2).zip(numbers) {
        place.copy_from_slice(&number.to_be_bytes());
    }
}

/// How many records of a section were written, and whether those were all.
struct Written {
    count: u16,
    whole: bool,
}

impl Written {
    const NOTHING: Self = Self { count: 0, whole: false };
}

/// Writes records until the room ends, their owners compressed.
struct Writer<'a> {
    message: Vec<u8>,
    room: usize,
    asked: &'a Name,
    form: Form<'a>,
    /// Where each name, and each tail of one, stands in small letters. Keyed by its wire format.
    places: FxHashMap<Box<[u8]>, u16>,
}

impl<'a> Writer<'a> {
    fn new(query: &'a Query, room: usize, form: Form<'a>) -> Self {
        let message = vec![0; HEADER_BYTES];
        let mut writer = Self { message, room, asked: &query.question.name, form, places: FxHashMap::default() };
        put_question(&mut writer.message, &query.question);
        writer.note_places(query.question.name.wire(), HEADER_BYTES);
        writer
    }

    fn section(&mut self, records: &[Record]) -> Written {
        let mut count: u16 = 0;
        for record in records {
            let start = self.message.len();
            self.put_record(record);
            // The room is under 64 KiB and a record has 11 bytes, so the count cannot overflow.
            if self.message.len() > self.room {
                self.message.truncate(start);
                self.places.retain(|_, place| usize::from(*place) < start);
                return Written { count, whole: false };
            }
            count += 1;
        }
        Written { count, whole: true }
    }

    fn put_record(&mut self, record: &Record) {
        let owner = if record.owner.is(self.form.found) { self.asked } else { &record.owner };
        self.put_name(owner.wire());
        self.message.extend_from_slice(&record.kind.to_be_bytes());
        self.message.extend_from_slice(&record.class.to_be_bytes());
        self.message.extend_from_slice(&self.told(record.ttl).to_be_bytes());
        let length_at = self.message.len();
        self.message.extend_from_slice(&[0, 0]);
        // The one content that is compressed: the target of a CNAME, which the next records are mostly about.
        if record.kind == kind::CNAME && !record.content.is_empty() {
            self.put_name(&record.content);
        } else {
            self.message.extend_from_slice(&record.content);
        }
        let length = self.message.len() - length_at - 2;
        // Expanding may pass 16 bits in a message that is over any room, and so is cut off at once.
        let length = u16::try_from(length).unwrap_or(u16::MAX);
        self.message[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
    }

    fn told(&self, ttl: u32) -> u32 {
        let age = u32::try_from(self.form.age.as_secs()).unwrap_or(u32::MAX);
        ttl.saturating_sub(age).min(MAX_TOLD.as_secs() as u32)
    }

    /// Writes a name as labels up to the first tail that stands in the message already, then a pointer to it.
    fn put_name(&mut self, wire: &[u8]) {
        let small = wire.to_ascii_lowercase();
        let start = self.message.len();
        let mut at = 0;
        while small.get(at).is_some_and(|len| *len != 0) {
            if let Some(place) = self.places.get(&small[at..]) {
                let pointer = 0xc000 | *place;
                self.message.extend_from_slice(&pointer.to_be_bytes());
                self.note_tails(&small, at, start);
                return;
            }
            let end = (at + 1 + usize::from(small[at])).min(wire.len());
            self.message.extend_from_slice(&wire[at..end]);
            at = end;
        }
        self.message.push(0);
        self.note_tails(&small, at, start);
    }

    fn note_places(&mut self, wire: &[u8], start: usize) {
        let small = wire.to_ascii_lowercase();
        self.note_tails(&small, small.len().saturating_sub(1), start);
    }

    /// Remembers the tails of a name that begin before `until` and were written from `start` on.
    fn note_tails(&mut self, small: &[u8], until: usize, start: usize) {
        let mut at = 0;
        while at < until {
            if let Some(place) = u16::try_from(start + at).ok().filter(|place| usize::from(*place) <= MAX_POINTER) {
                self.places.entry(small[at..].into()).or_insert(place);
            }
            at += 1 + usize::from(small[at]);
        }
    }

    fn finish(mut self, query: &Query, flags: u16, code: u16, counts: [u16; 3]) -> Vec<u8> {
        if let Some(edns) = query.edns {
            put_opt(&mut self.message, code, edns.dnssec_ok);
        }
        let [answers, authorities, additionals] = counts;
        let additionals = additionals + u16::from(query.edns.is_some());
        put_header(&mut self.message, query.id, query.flags, flags, code, [1, answers, authorities, additionals]);
        self.message
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{
            reply::tests::{record, reply},
            wire::{CLASS_IN, PLAIN_UDP_BYTES},
        },
        *,
    };

    fn name(text: &str) -> Name {
        Name::from_text(text).unwrap()
    }

    fn query(edns: Option<Edns>) -> Query {
        let question = Question { name: name("Web.Shop"), kind: kind::A, class: CLASS_IN };
        Query { id: 7, flags: flag::RECURSION_DESIRED, question, edns }
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let owner = prop_oneof![
            Just("web.shop.svc.cluster.local".to_owned()),
            Just("WEB.shop.SVC.cluster.local".to_owned()),
            "[a-c]{1,2}(\\.[a-c]{1,2}){0,3}\\.cluster\\.local",
        ];
        let target = "[a-c](\\.[a-c]){0,3}".prop_map(|text| (kind::CNAME, name(&text).wire().to_vec()));
        let other = (any::<u16>(), prop::collection::vec(any::<u8>(), 0..80))
            .prop_filter("types that hold names or are not records", |(kind, _)| *kind > 64);
        (owner, prop_oneof![target, other], 0u32..100)
            .prop_map(|(owner, (kind, content), ttl)| record(&owner, kind, ttl, &content))
    }

    proptest! {
        #[test]
        fn what_fits_is_read_back_as_it_was(
            answers in prop::collection::vec(any_record(), 0..12),
            authorities in prop::collection::vec(any_record(), 0..4),
            limit in usize::from(PLAIN_UDP_BYTES)..3000,
            dnssec_ok: bool,
        ) {
            let query = query(Some(Edns { udp_bytes: PLAIN_UDP_BYTES, dnssec_ok }));
            let found = name("web.shop.svc.cluster.local");
            let whole = reply(0, answers, authorities);
            let message = encode(&query, &whole, Form { found: &found, age: Duration::from_secs(5), limit });
            prop_assert!(message.len() <= limit);
            let read = Reply::read(&message, 7, &query.question).unwrap();
            let cut = read.flags & flag::TRUNCATED != 0;
            prop_assert_eq!(cut, read.answers.len() + read.authorities.len() < whole.answers.len() + whole.authorities.len());
            let pairs = read.answers.iter().zip(&whole.answers).chain(read.authorities.iter().zip(&whole.authorities));
            for (read, whole) in pairs {
                let owner = if whole.owner.is(&found) { &query.question.name } else { &whole.owner };
                prop_assert!(read.owner.is(owner));
                prop_assert_eq!((read.kind, read.ttl), (whole.kind, whole.ttl.saturating_sub(5).min(10)));
                prop_assert_eq!(read.content.to_ascii_lowercase(), whole.content.to_ascii_lowercase());
            }
        }
    }

    #[test]
    fn an_asker_without_edns_gets_none_and_a_code_that_it_knows() {
        let plain = encode_code(&query(None), code::BAD_VERSION);
        assert_eq!((plain[3] & 0xf, plain[11]), (2, 0), "SERVFAIL, no additional record");
        let edns = encode_code(&query(Some(Edns { udp_bytes: 1232, dnssec_ok: true })), code::BAD_VERSION);
        let read = Reply::read(&edns, 7, &query(None).question).unwrap();
        assert_eq!(read.code, code::BAD_VERSION);
    }
}
