//! The little that forwarding needs to know of a DNS message (RFC 1035, 4.1). Pure; the rest of a message is nobody's business here.

const HEADER_BYTES: usize = 12;
const RESPONSE: u8 = 0x80;
const TRUNCATED: u8 = 0x02;

/// Whether these bytes can be a query with a question.
pub(super) fn is_query(message: &[u8]) -> bool {
    message.len() >= HEADER_BYTES && message[2] & RESPONSE == 0 && question(message).is_some()
}

/// Whether `message` answers `query`: the same number and, where it repeats the question, the same one.
pub(super) fn is_answer(query: &[u8], message: &[u8]) -> bool {
    if message.len() < HEADER_BYTES || message[..2] != query[..2] || message[2] & RESPONSE == 0 {
        return false;
    }
    // Servers leave the question out of some errors.
    let repeats = message[4..6] != [0, 0];
    !repeats || question(message).zip(question(query)).is_some_and(|(theirs, ours)| theirs.eq_ignore_ascii_case(ours))
}

/// Whether the answer was cut to fit a UDP datagram.
pub(super) fn is_cut(message: &[u8]) -> bool {
    message.get(2).is_some_and(|flags| flags & TRUNCATED != 0)
}

/// The first question: name, type and class. A name in it is never compressed, for nothing precedes it.
fn question(message: &[u8]) -> Option<&[u8]> {
    if message.get(4..6)? == [0, 0] {
        return None;
    }
    let mut at = HEADER_BYTES;
    loop {
        let len = usize::from(*message.get(at)?);
        at += 1 + len;
        match len {
            0 => return message.get(HEADER_BYTES..at + 4),
            1..=63 => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A query for `name`'s addresses.
    pub(in crate::dns) fn query(id: u16, name: &str) -> Vec<u8> {
        let mut message = id.to_be_bytes().to_vec();
        message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in name.split('.') {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend(label.as_bytes());
        }
        message.extend([0, 0, 1, 0, 1]);
        message
    }

    pub(in crate::dns) fn answer(query: &[u8]) -> Vec<u8> {
        let mut message = query.to_vec();
        message[2] |= RESPONSE;
        message
    }

    #[test]
    fn an_answer_has_the_same_number_and_question() {
        let ours = query(7, "web.shop");
        assert!(is_query(&ours) && is_answer(&ours, &answer(&ours)));
        assert!(is_answer(&ours, &answer(&query(7, "WEB.shop"))));
        assert!(!is_answer(&ours, &answer(&query(8, "web.shop"))));
        assert!(!is_answer(&ours, &answer(&query(7, "web.shot"))));
        assert!(!is_answer(&ours, &ours));
        let mut bare = answer(&ours)[..12].to_vec();
        bare[5] = 0;
        assert!(is_answer(&ours, &bare));
    }

    #[test]
    fn what_is_no_query_is_refused() {
        let whole = query(7, "web.shop");
        for len in 0..whole.len() {
            assert!(!is_query(&whole[..len]), "{len}");
        }
        assert!(!is_query(&answer(&whole)));
        let mut compressed = whole.clone();
        compressed[12] = 0xc0;
        assert!(!is_query(&compressed));
    }
}
