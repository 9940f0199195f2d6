//! Follows what a listener answers, only to know which requests it has begun to answer: interim answers, answers without a body,
//! lengths, chunks, and bodies that last until the end. What it can't follow it stops following. Used by [`crate::mirror::copy`].

use httparse::{EMPTY_HEADER, Status};

use super::{
    chunked::Chunked,
    head::{Framing, MAX_HEAD_BYTES, RequestKind, framing},
};

/// Fields of an answer's head at most.
const MAX_FIELDS: usize = 128;

/// A place in what a listener answers.
#[derive(Debug)]
pub struct AnswerFollower(State);

#[derive(Debug)]
enum State {
    Head(Vec<u8>),
    Length(u64),
    Chunked(Chunked),
    /// Until the connection ends, or not followed any more.
    Rest,
}

impl Default for AnswerFollower {
    fn default() -> Self {
        Self(State::Head(Vec::new()))
    }
}

impl AnswerFollower {
    /// Whether nothing of what comes is an answer that could be told.
    pub const fn is_opaque(&self) -> bool {
        matches!(self.0, State::Rest)
    }

    /// The next bytes. `answered` is called as soon as an answer's head is whole, and says what the oldest request without one was,
    /// `None` when there is none.
    pub fn take(&mut self, mut bytes: &[u8], mut answered: impl FnMut() -> Option<RequestKind>) {
        while !bytes.is_empty() {
            match &mut self.0 {
                State::Head(_) => bytes = self.head(bytes, &mut answered),
                State::Length(left) => {
                    let now = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= now as u64;
                    bytes = &bytes[now..];
                    if *left == 0 {
                        *self = Self::default();
                    }
                }
                State::Chunked(chunked) => match chunked.take(bytes) {
                    Ok(taken) => {
                        bytes = &bytes[taken..];
                        if chunked.is_over() {
                            *self = Self::default();
                        }
                    }
                    Err(_) => self.0 = State::Rest,
                },
                State::Rest => return,
            }
        }
    }

    fn head<'a>(&mut self, bytes: &'a [u8], answered: &mut impl FnMut() -> Option<RequestKind>) -> &'a [u8] {
        let State::Head(held) = &mut self.0 else { return bytes };
        let before = held.len();
        let room = MAX_HEAD_BYTES.saturating_sub(before).min(bytes.len());
        let parsed = if before == 0 {
            parse(&bytes[..room])
        } else {
            held.extend_from_slice(&bytes[..room]);
            // Looked at only when a line has ended, so that a head that comes byte by byte is not parsed for each.
            if bytes[..room].contains(&b'\n') { parse(held) } else { Parsed::More }
        };
        match parsed {
            Parsed::More if room < bytes.len() => {
                self.0 = State::Rest;
                &[]
            }
            Parsed::More => {
                if before == 0 {
                    held.extend_from_slice(bytes);
                }
                &[]
            }
            Parsed::Interim(len) => {
                self.0 = State::Head(Vec::new());
                &bytes[len.saturating_sub(before)..]
            }
            Parsed::Final { len, status, framing } => {
                let kind = answered();
                self.0 = after(kind, status, framing);
                &bytes[len.saturating_sub(before)..]
            }
            Parsed::Nonsense => {
                self.0 = State::Rest;
                &[]
            }
        }
    }
}

enum Parsed {
    More,
    Interim(usize),
    Final { len: usize, status: u16, framing: Option<Framing> },
    Nonsense,
}

fn parse(bytes: &[u8]) -> Parsed {
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(bytes) {
        Ok(Status::Complete(len)) => match (response.code, framing(response.headers, true)) {
            (Some(status @ (101 | 200..)), Ok(framing)) => Parsed::Final { len, status, framing },
            (Some(_), _) if response.code.is_some_and(|status| status < 200) => Parsed::Interim(len),
            // It is an answer all the same, whatever its body is.
            (Some(status), Err(_)) => Parsed::Final { len, status, framing: None },
            (Some(_) | None, _) => Parsed::Nonsense,
        },
        Ok(Status::Partial) => Parsed::More,
        Err(_) => Parsed::Nonsense,
    }
}

/// What follows an answer's head (RFC 9112, 6.3).
fn after(kind: Option<RequestKind>, status: u16, framing: Option<Framing>) -> State {
    let connected = kind == Some(RequestKind::Connect) && (200..300).contains(&status);
    if kind.is_none() || status == 101 || connected {
        return State::Rest;
    }
    if kind == Some(RequestKind::Head) || matches!(status, 204 | 304) {
        return State::Head(Vec::new());
    }
    match framing {
        Some(Framing::Length(0)) => State::Head(Vec::new()),
        Some(Framing::Length(length)) => State::Length(length),
        Some(Framing::Chunked) => State::Chunked(Chunked::default()),
        None => State::Rest,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn answered(bytes: &[u8], cut: usize, kinds: &[RequestKind]) -> usize {
        let mut waiting: VecDeque<_> = kinds.iter().copied().collect();
        let mut follower = AnswerFollower::default();
        for piece in bytes.chunks(cut) {
            follower.take(piece, || waiting.pop_front());
        }
        kinds.len() - waiting.len()
    }

    proptest! {
        #[test]
        fn each_answer_is_told_once_however_they_are_cut(picks in proptest::collection::vec(0usize..7, 1..12), cut in 1usize..40) {
            use RequestKind::{Head, Other};
            let answers = [
                ("HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\n\r\nxx", Other),
                ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nHTTP/\r\n0\r\n\r\n", Other),
                ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", Other),
                ("HTTP/1.1 204 No Content\r\n\r\n", Other),
                ("HTTP/1.1 304 Not Modified\r\nContent-Length: 700\r\n\r\n", Other),
                ("HTTP/1.1 200 OK\r\nContent-Length: 700\r\n\r\n", Head),
                ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.0 500 No\r\nContent-Length: 1\r\n\r\nx", Other),
            ];
            let bytes: String = picks.iter().map(|pick| answers[*pick].0).collect();
            let kinds: Vec<_> = picks.iter().map(|pick| answers[*pick].1).collect();
            prop_assert_eq!(answered(bytes.as_bytes(), cut, &kinds), kinds.len());
        }

        #[test]
        fn any_bytes_are_taken(bytes: Vec<u8>, cut in 1usize..40) {
            answered(&bytes, cut, &[RequestKind::Other; 3]);
        }
    }

    #[test]
    fn what_lasts_until_the_end_is_one_answer() {
        use RequestKind::{Connect, Other};
        for (bytes, kind) in [
            ("HTTP/1.0 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Other),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Other),
            ("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Connect),
        ] {
            assert_eq!(answered(bytes.as_bytes(), 7, &[kind, Other]), 1, "{bytes}");
        }
    }

    #[test]
    fn an_endless_head_is_not_held() {
        let bytes = [b"HTTP/1.1 200 OK\r\nA: ".as_slice(), &vec![b'a'; 2 * MAX_HEAD_BYTES]].concat();
        let mut follower = AnswerFollower::default();
        for piece in bytes.chunks(1_000) {
            follower.take(piece, || None);
        }
        assert!(follower.is_opaque());
    }
}
