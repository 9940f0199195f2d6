//! [`Query`]: what a program asked, read from its message; and the query that we ask the cluster in its place.
//!
//! Pure. Before: `Resolver::answer`; after: `names` (who is to be asked), `encode` (the answer).

use super::{
    name::Name,
    wire::{CLASS_IN, HEADER_BYTES, Malformed, OUR_UDP_BYTES, PLAIN_UDP_BYTES, Reader, code, flag, kind},
};

/// The question: name, type and class.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) name: Name,
    pub(super) kind: u16,
    pub(super) class: u16,
}

impl Question {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { name: Name::read(reader)?, kind: reader.u16()?, class: reader.u16()? })
    }

    /// The same question, in any case of letters.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.name.is(&other.name) && self.kind == other.kind && self.class == other.class
    }
}

/// The asker's EDNS parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edns {
    /// The largest UDP answer that the asker takes, in bytes; never below 512 (RFC 6891, 6.2.3).
    pub(super) udp_bytes: u16,
    pub(super) dnssec_ok: bool,
}

/// A readable query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) id: u16,
    /// The flags as they came: opcode, RD and CD are returned.
    pub(super) flags: u16,
    pub(super) question: Question,
    pub(super) edns: Option<Edns>,
}

/// Why a message is not answered as a query, and what to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unanswerable {
    /// Too short for a header, or itself an answer: silence, or two servers could talk for ever.
    NotAQuery,
    /// Answered with this code; with the question where it could be read.
    Answered { id: u16, flags: u16, question: Option<Question>, edns: Option<Edns>, code: u16 },
}

impl Query {
    /// Reads a program's message to its end.
    pub(super) fn read(message: &[u8]) -> Result<Self, Unanswerable> {
        let mut reader = Reader::at(message, 0);
        let header = Header::read(&mut reader).map_err(|Malformed| Unanswerable::NotAQuery)?;
        if header.flags & flag::RESPONSE != 0 {
            return Err(Unanswerable::NotAQuery);
        }
        let Header { id, flags, .. } = header;
        let answered = |question, edns, code| Unanswerable::Answered { id, flags, question, edns, code };
        if header.questions != 1 {
            return Err(answered(None, None, code::FORMAT_ERROR));
        }
        let question = Question::read(&mut reader).map_err(|Malformed| answered(None, None, code::FORMAT_ERROR))?;
        match read_edns(&mut reader, &header) {
            Ok(Some((edns, version))) if version != 0 => Err(answered(Some(question), Some(edns), code::BAD_VERSION)),
            Ok(edns) => Ok(Self { id, flags, question, edns: edns.map(|(edns, _)| edns) }),
            Err(Malformed) => Err(answered(Some(question), None, code::FORMAT_ERROR)),
        }
    }

    /// Four bits: 0 is an ordinary query.
    pub(super) const fn opcode(&self) -> u16 {
        self.flags >> 11 & 0xf
    }

    pub(super) fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    pub(super) const fn checking_disabled(&self) -> bool {
        self.flags & flag::CHECKING_DISABLED != 0
    }

    /// The largest UDP answer that the asker takes, in bytes.
    pub(super) fn udp_bytes(&self) -> usize {
        usize::from(self.edns.map_or(PLAIN_UDP_BYTES, |edns| edns.udp_bytes))
    }
}

/// The first 12 bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) id: u16,
    pub(super) flags: u16,
    pub(super) questions: u16,
    pub(super) answers: u16,
    pub(super) authorities: u16,
    pub(super) additionals: u16,
}

impl Header {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            id: reader.u16()?,
            flags: reader.u16()?,
            questions: reader.u16()?,
            answers: reader.u16()?,
            authorities: reader.u16()?,
            additionals: reader.u16()?,
        })
    }

    pub(super) fn records(&self) -> usize {
        [self.answers, self.authorities, self.additionals].map(usize::from).iter().sum()
    }
}

/// Walks the records behind the question to the message's end; returns the one OPT record's content and version.
fn read_edns(reader: &mut Reader<'_>, header: &Header) -> Result<Option<(Edns, u8)>, Malformed> {
    let mut edns = None;
    for _ in 0..header.records() {
        let owner = Name::read(reader)?;
        let (kind, class, ttl) = (reader.u16()?, reader.u16()?, reader.u32()?);
        let len = reader.u16()?;
        reader.bytes(usize::from(len))?;
        if kind != kind::OPT {
            continue;
        }
        if edns.is_some() || owner != Name::root() {
            return Err(Malformed);
        }
        let [_, version, flags @ ..] = ttl.to_be_bytes();
        let dnssec_ok = u16::from_be_bytes(flags) & flag::DNSSEC_OK != 0;
        edns = Some((Edns { udp_bytes: class.max(PLAIN_UDP_BYTES), dnssec_ok }, version));
    }
    if reader.is_at_end() { Ok(edns) } else { Err(Malformed) }
}

/// The query to the cluster's nameserver: one question with EDNS, recursion desired.
///
/// The program's own message is not passed on: its EDNS options (cookies, client subnet, padding) are between it and the
/// nameserver that it meant, and a query of a known form can be merged and cached.
pub(super) fn cluster_query(id: u16, question: &Question, dnssec_ok: bool, checking_disabled: bool) -> Vec<u8> {
    let checking = if checking_disabled { flag::CHECKING_DISABLED } else { 0 };
    let mut message = Vec::with_capacity(HEADER_BYTES + question.name.wire().len() + 4 + 11);
    for number in [id, flag::RECURSION_DESIRED | checking, 1, 0, 0, 1] {
        message.extend_from_slice(&number.to_be_bytes());
    }
    put_question(&mut message, question);
    put_opt(&mut message, 0, dnssec_ok);
    message
}

/// Appends a question, its name as it was asked.
pub(super) fn put_question(message: &mut Vec<u8>, question: &Question) {
    message.extend_from_slice(question.name.wire());
    message.extend_from_slice(&question.kind.to_be_bytes());
    message.extend_from_slice(&question.class.to_be_bytes());
}

/// How many bytes [`put_opt`] appends.
pub(super) const OPT_BYTES: usize = 11;

/// Appends an OPT record of EDNS version 0: our UDP size, the code's upper bits, DO and no options.
pub(super) fn put_opt(message: &mut Vec<u8>, code: u16, dnssec_ok: bool) {
    let [_, upper] = (code >> 4).to_be_bytes();
    let flags = if dnssec_ok { flag::DNSSEC_OK } else { 0 };
    message.push(0);
    message.extend_from_slice(&kind::OPT.to_be_bytes());
    message.extend_from_slice(&OUR_UDP_BYTES.to_be_bytes());
    message.extend_from_slice(&[upper, 0]);
    message.extend_from_slice(&flags.to_be_bytes());
    message.extend_from_slice(&[0, 0]);
}

/// Whether a class is one that cluster names live in; the others (CHAOS) have no short names.
pub(super) const fn is_internet(class: u16) -> bool {
    class == CLASS_IN || class == 255
}

#[cfg(test)]
mod tests {
    use hickory_proto::{
        op::{Edns as HickoryEdns, Message, MessageType, OpCode, Query as HickoryQuery},
        rr::{Name as HickoryName, RecordType},
    };

    use super::*;

    fn question(text: &str, kind: u16) -> Question {
        Question { name: Name::from_text(text).unwrap(), kind, class: CLASS_IN }
    }

    #[test]
    fn our_query_is_read_by_another_codec() {
        let bytes = cluster_query(7, &question("web.shop.svc.cluster.local", 33), true, true);
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!(message.metadata.id, 7);
        assert!(message.metadata.recursion_desired && message.metadata.checking_disabled);
        assert_eq!(message.queries[0].name().to_string(), "web.shop.svc.cluster.local.");
        assert_eq!(message.queries[0].query_type(), RecordType::SRV);
        let edns = message.edns.unwrap();
        assert_eq!((edns.max_payload(), edns.version(), edns.flags().dnssec_ok), (OUR_UDP_BYTES, 0, true));
    }

    #[test]
    fn a_query_of_another_codec_is_read() {
        let mut message = Message::new(99, MessageType::Query, OpCode::Query);
        message.add_query(HickoryQuery::query(HickoryName::from_ascii("Web.Shop.").unwrap(), RecordType::AAAA));
        let mut edns = HickoryEdns::new();
        edns.set_max_payload(4096);
        message.set_edns(edns);
        let query = Query::read(&message.to_vec().unwrap()).unwrap();
        assert_eq!(query.id, 99);
        assert_eq!(query.question, question("Web.Shop", 28));
        assert_eq!(query.edns, Some(Edns { udp_bytes: 4096, dnssec_ok: false }));
    }

    #[test]
    fn what_is_no_query_is_not_answered() {
        let mut answer = cluster_query(1, &question("a", 1), false, false);
        answer[2] |= 0x80;
        for bytes in [&answer[..], &[], &[0; 11]] {
            assert_eq!(Query::read(bytes), Err(Unanswerable::NotAQuery));
        }
    }

    #[test]
    fn a_broken_query_is_answered_with_what_was_read() {
        let whole = cluster_query(5, &question("a.b", 1), false, false);
        let with = |code: u16, has_question: bool, bytes: &[u8]| match Query::read(bytes) {
            Err(Unanswerable::Answered { id: 5, code: found, question, .. }) => {
                assert_eq!((found, question.is_some()), (code, has_question));
            }
            other => panic!("{other:?}"),
        };
        with(code::FORMAT_ERROR, true, &whole[..whole.len() - 1]);
        with(code::FORMAT_ERROR, false, &whole[..14]);
        with(code::FORMAT_ERROR, true, &[&whole[..], &[0]].concat());
        let mut two_questions = whole.clone();
        two_questions[5] = 2;
        with(code::FORMAT_ERROR, false, &two_questions);
        let mut version_one = whole.clone();
        version_one[whole.len() - 5] = 1;
        with(code::BAD_VERSION, true, &version_one);
    }
}
