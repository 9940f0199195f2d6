//! [`Reply`]: an answer of the cluster's nameserver, taken apart so that it can be cached and given under another name.
//!
//! Pure. Names inside the records are expanded here, because a compression pointer means nothing in another message; types that
//! are not known to hold names stay the bytes they are (RFC 3597 forbids compression in them). Before: `lookup`; after: `encode`.

use std::time::Duration;

use super::{
    name::Name,
    query::{Header, Question},
    wire::{Malformed, Reader, code, flag, kind},
};

/// The longest time that a denial is kept: a developer who has just created a service looks for it at once.
const MAX_DENIAL: Duration = Duration::from_secs(5);

/// The longest time that an answer is kept, whatever it says. A cluster's own records say 5 to 30 s.
const MAX_KEPT: Duration = Duration::from_secs(3600);

/// One resource record, all names in it whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) owner: Name,
    pub(super) kind: u16,
    pub(super) class: u16,
    /// Seconds.
    pub(super) ttl: u32,
    pub(super) content: Box<[u8]>,
}

/// An answer without identifier, question and OPT record: those belong to each asker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) code: u16,
    /// AA, TC and AD as they came.
    pub(super) flags: u16,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
    pub(super) additionals: Vec<Record>,
}

impl Reply {
    /// Reads the answer to our query `id` about `question`. An answer to anything else is [`Malformed`] too.
    pub(super) fn read(message: &[u8], id: u16, question: &Question) -> Result<Self, Malformed> {
        let mut reader = Reader::at(message, 0);
        let header = Header::read(&mut reader)?;
        if header.id != id || header.flags & flag::RESPONSE == 0 {
            return Err(Malformed);
        }
        let code = header.flags & flag::CODE;
        match header.questions {
            1 if Question::read(&mut reader)?.is(question) => {}
            // Some servers return no question with an error.
            0 if code != code::NO_ERROR => {}
            _ => return Err(Malformed),
        }
        let flags = header.flags & (flag::AUTHORITATIVE | flag::TRUNCATED | flag::AUTHENTIC_DATA);
        let answers = read_records(&mut reader, header.answers)?;
        let authorities = read_records(&mut reader, header.authorities)?;
        let mut additionals = read_records(&mut reader, header.additionals)?;
        let upper = additionals.iter().find(|record| record.kind == kind::OPT).map_or(0, |opt| opt.ttl >> 24);
        additionals.retain(|record| record.kind != kind::OPT);
        Ok(Self { code: code | (upper as u16) << 4, flags, answers, authorities, additionals })
    }

    /// The nameserver says that there is no such name at all.
    pub(super) const fn denies_the_name(&self) -> bool {
        self.code == code::NO_SUCH_NAME
    }

    /// How long the reply may be kept from its arrival; `None` when not at all: failures, truncated answers, zero TTLs, and
    /// denials without an SOA record (RFC 2308, 5).
    pub(super) fn lifetime(&self) -> Option<Duration> {
        if self.flags & flag::TRUNCATED != 0 || !matches!(self.code, code::NO_ERROR | code::NO_SUCH_NAME) {
            return None;
        }
        let seconds = |ttl: u32| Duration::from_secs(u64::from(ttl));
        let records = self.answers.iter().chain(&self.authorities).chain(&self.additionals);
        let shortest = records.map(|record| seconds(record.ttl)).min();
        let lifetime = if self.answers.is_empty() || self.denies_the_name() {
            let soa = self.authorities.iter().find(|record| record.kind == kind::SOA)?;
            let minimum = soa.content.last_chunk().map_or(0, |bytes: &[u8; 4]| u32::from_be_bytes(*bytes));
            shortest?.min(seconds(minimum)).min(MAX_DENIAL)
        } else {
            shortest?.min(MAX_KEPT)
        };
        (!lifetime.is_zero()).then_some(lifetime)
    }

    /// About how many bytes of memory it holds, for the cache's bound.
    pub(super) fn footprint(&self) -> usize {
        let records = self.answers.iter().chain(&self.authorities).chain(&self.additionals);
        size_of::<Self>()
            + records
                .map(|record| size_of::<Record>() + record.owner.wire().len() + record.content.len())
                .sum::<usize>()
    }

    /// The name exists, but has no record of the type (NODATA): this denial, turned.
    pub(super) fn without_data(mut self) -> Self {
        self.code = code::NO_ERROR;
        self.answers.clear();
        self
    }
}

fn read_records(reader: &mut Reader<'_>, count: u16) -> Result<Vec<Record>, Malformed> {
    // Not reserved from the count: it is the sender's word, and the records must be there.
    let mut records = Vec::new();
    for _ in 0..count {
        let owner = Name::read(reader)?;
        let (kind, class, ttl) = (reader.u16()?, reader.u16()?, reader.u32()?);
        let len = usize::from(reader.u16()?);
        let start = reader.position();
        reader.bytes(len)?;
        let content = read_content(reader.message(), kind, start, start + len)?;
        records.push(Record { owner, kind, class, ttl, content });
    }
    Ok(records)
}

/// What comes in front of a name in a record's content, or instead of one.
#[derive(Clone, Copy)]
enum Part {
    Bytes(usize),
    /// A length byte and that many bytes.
    Text,
    Name,
}

/// The record types whose content holds names that may be compressed (RFC 3597, 4), as the parts up to the last name.
const fn layout(kind: u16) -> &'static [Part] {
    use Part::{Bytes, Name, Text};
    match kind {
        2..=5 | 7..=9 | 12 | 39 => &[Name],
        6 | 14 | 17 => &[Name, Name],
        15 | 18 | 21 | 36 => &[Bytes(2), Name],
        26 => &[Bytes(2), Name, Name],
        24 => &[Bytes(18), Name],
        30 => &[Name],
        33 => &[Bytes(6), Name],
        35 => &[Bytes(4), Text, Text, Text, Name],
        _ => &[],
    }
}

fn read_content(message: &[u8], kind: u16, start: usize, end: usize) -> Result<Box<[u8]>, Malformed> {
    let mut content = Vec::with_capacity(end - start);
    // Cut at the record's end, so that nothing in it reads on into the next one; pointers lead backwards.
    let mut reader = Reader::at(&message[..end], start);
    if start < end {
        for part in layout(kind) {
            match part {
                Part::Bytes(len) => content.extend_from_slice(reader.bytes(*len)?),
                Part::Text => {
                    let len = reader.u8()?;
                    content.push(len);
                    content.extend_from_slice(reader.bytes(usize::from(len))?);
                }
                Part::Name => content.extend_from_slice(Name::read(&mut reader)?.wire()),
            }
        }
    }
    content.extend_from_slice(&message[reader.position()..end]);
    Ok(content.into())
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::dns::wire::CLASS_IN;

    /// A record as a nameserver would send it.
    pub(in crate::dns) fn record(owner: &str, kind: u16, ttl: u32, content: &[u8]) -> Record {
        Record { owner: Name::from_text(owner).unwrap(), kind, class: CLASS_IN, ttl, content: content.into() }
    }

    pub(in crate::dns) fn address(owner: &str, ttl: u32, address: Ipv4Addr) -> Record {
        record(owner, kind::A, ttl, &address.octets())
    }

    pub(in crate::dns) fn soa(owner: &str, ttl: u32, minimum: u32) -> Record {
        let mut content = vec![0, 0];
        content.extend_from_slice(&[0; 16]);
        content.extend_from_slice(&minimum.to_be_bytes());
        record(owner, kind::SOA, ttl, &content)
    }

    pub(in crate::dns) fn reply(code: u16, answers: Vec<Record>, authorities: Vec<Record>) -> Reply {
        Reply { code, flags: 0, answers, authorities, additionals: Vec::new() }
    }

    #[test]
    fn a_reply_is_kept_as_long_as_its_shortest_record() {
        let two = vec![address("a", 30, Ipv4Addr::LOCALHOST), address("a", 7, Ipv4Addr::LOCALHOST)];
        assert_eq!(reply(0, two, vec![]).lifetime(), Some(Duration::from_secs(7)));
        assert_eq!(reply(0, vec![address("a", 0, Ipv4Addr::LOCALHOST)], vec![]).lifetime(), None);
        assert_eq!(reply(2, vec![], vec![soa("a", 9, 9)]).lifetime(), None, "a failure");
    }

    #[test]
    fn a_denial_is_kept_by_its_soa_and_never_long() {
        let denial = |ttl, minimum| reply(3, vec![], vec![soa("cluster.local", ttl, minimum)]).lifetime();
        assert_eq!(denial(30, 2), Some(Duration::from_secs(2)));
        assert_eq!(denial(1, 30), Some(Duration::from_secs(1)));
        assert_eq!(denial(600, 600), Some(MAX_DENIAL));
        assert_eq!(reply(3, vec![], vec![]).lifetime(), None, "without an SOA");
    }

    #[test]
    fn names_inside_records_are_expanded() {
        // 0: "web." at 0, then MX content: preference 10, "mail" and a pointer to 0.
        let message = [3, b'w', b'e', b'b', 0, 0, 10, 4, b'm', b'a', b'i', b'l', 0xc0, 0];
        let content = read_content(&message, 15, 5, message.len()).unwrap();
        assert_eq!(&content[..2], [0, 10]);
        assert_eq!(&content[2..], Name::from_text("mail.web").unwrap().wire());
        assert_eq!(&*read_content(&message, 65_280, 5, message.len()).unwrap(), &message[5..], "unknown: as it is");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let question = Question { name: Name::root(), kind: 1, class: CLASS_IN };
            let mut message = vec![0, 7, 0x80, 0, 0, 1, 0, 3, 0, 3, 0, 3, 0, 0, 1, 0, 1];
            message.extend_from_slice(&bytes);
            if let Ok(reply) = Reply::read(&message, 7, &question) {
                let _ = (reply.lifetime(), reply.footprint());
            }
        }
    }
}
