//! A request's head: where it ends, found as its bytes come, and what it says about the body behind it.
//!
//! [`HeadScan`] decides as early as it can that bytes are no HTTP/1, so that other protocols are not held back; [`Head::parse`] reads
//! a whole one. Used by [`super::request`].

use httparse::{EMPTY_HEADER, Status};
use thiserror::Error;

/// A longer head is not followed.
pub const MAX_HEAD_BYTES: usize = 64 << 10;
/// Fields of a head at most.
const MAX_FIELDS: usize = 128;
/// The longest method; registered ones have up to 17 letters.
const MAX_METHOD: u8 = 24;

/// What is known of a head so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// It looks like one, and has not ended.
    More,
    /// It ends behind so many of the bytes that were last given.
    End(usize),
    /// It is none, or is too long.
    NoHead,
}

/// A place in what may be a head.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeadScan {
    at: At,
    len: usize,
    /// Letters of the method, then bytes of the line.
    line: u8,
    /// The line's last eight bytes.
    tail: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum At {
    /// Empty lines before the first are allowed (RFC 9112, 2.2).
    #[default]
    Before,
    Method,
    Target,
    FirstLine,
    LineStart,
    Line,
}

const HTTP_1_0: u64 = u64::from_be_bytes(*b"HTTP/1.0");
const HTTP_1_1: u64 = u64::from_be_bytes(*b"HTTP/1.1");

impl HeadScan {
    /// Looks at the next bytes, up to the head's end.
    pub fn take(&mut self, bytes: &[u8]) -> Scan {
        for (at, byte) in bytes.iter().enumerate() {
            self.len += 1;
            if self.len > MAX_HEAD_BYTES {
                return Scan::NoHead;
            }
            match self.byte(*byte) {
                Scan::More => {}
                Scan::End(_) => return Scan::End(at + 1),
                Scan::NoHead => return Scan::NoHead,
            }
        }
        Scan::More
    }

    fn byte(&mut self, byte: u8) -> Scan {
        self.at = match (self.at, byte) {
            (At::Before, b'\r' | b'\n') => At::Before,
            (At::Before, b'A'..=b'Z') => {
                self.line = 1;
                At::Method
            }
            (At::Method, b'A'..=b'Z' | b'-' | b'_') if self.line < MAX_METHOD => {
                self.line += 1;
                At::Method
            }
            (At::Method, b' ') if self.line >= 3 => At::Target,
            (At::Target, b'/' | b'*' | b'h' | b'H') => At::FirstLine,
            // CONNECT has a host's name here.
            (At::Target, b'[' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9') if self.line == 7 => At::FirstLine,
            (At::FirstLine, b'\n') if self.tail == HTTP_1_1 || self.tail == HTTP_1_0 => At::LineStart,
            (At::FirstLine, b'\r') => At::FirstLine,
            (At::FirstLine, b' '..=b'~' | 0x80..) => {
                self.tail = self.tail << 8 | u64::from(byte);
                At::FirstLine
            }
            (At::LineStart, b'\n') => return Scan::End(1),
            (At::LineStart, b'\r') | (At::Line, b'\n') => At::LineStart,
            (At::LineStart | At::Line, _) => At::Line,
            (At::Before | At::Method | At::Target | At::FirstLine, _) => return Scan::NoHead,
        };
        Scan::More
    }
}

/// A request's kind, as far as its answer's framing depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// The answer has no body, whatever it says.
    Head,
    /// What follows a success is no HTTP/1.
    Connect,
    /// Any other.
    Other,
}

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes, mostly none.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// What a head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What kind of request.
    pub kind: RequestKind,
    /// Its body.
    pub framing: Framing,
    /// What follows it may be another protocol, if the server agrees.
    pub upgrade: bool,
}

/// A head that programs may read differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a head that programs may read differently")]
pub struct Ambiguous;

impl Head {
    /// Reads a whole head.
    ///
    /// # Errors
    /// [`Ambiguous`]: lengths that contradict each other or an encoding, folded lines, anything that is no field.
    pub fn parse(bytes: &[u8]) -> Result<Self, Ambiguous> {
        let mut fields = [EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(bytes) {
            Ok(Status::Complete(len)) if len == bytes.len() => {}
            Ok(_) | Err(_) => return Err(Ambiguous),
        }
        let kind = match request.method {
            Some("HEAD") => RequestKind::Head,
            Some("CONNECT") => RequestKind::Connect,
            Some(_) | None => RequestKind::Other,
        };
        let framing = framing(request.headers, request.version == Some(1))?.unwrap_or(Framing::Length(0));
        let upgrade = request.headers.iter().any(|field| field.name.eq_ignore_ascii_case("upgrade"));
        Ok(Self { kind, framing, upgrade })
    }
}

/// What the fields say about a body, `None` when they say nothing.
pub(super) fn framing(fields: &[httparse::Header<'_>], knows_chunks: bool) -> Result<Option<Framing>, Ambiguous> {
    let mut length: Option<u64> = None;
    let mut codings: Option<&[u8]> = None;
    for field in fields {
        if field.name.eq_ignore_ascii_case("content-length") {
            let value = number(field.value).ok_or(Ambiguous)?;
            if length.replace(value).is_some_and(|before| before != value) {
                return Err(Ambiguous);
            }
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") && codings.replace(field.value).is_some() {
            return Err(Ambiguous);
        }
    }
    match (length, codings) {
        (length, None) => Ok(length.map(Framing::Length)),
        (None, Some(codings)) if knows_chunks && ends_in_chunks(codings) => Ok(Some(Framing::Chunked)),
        (_, Some(_)) => Err(Ambiguous),
    }
}

fn number(value: &[u8]) -> Option<u64> {
    let digits = value.trim_ascii();
    let is_number = !digits.is_empty() && digits.len() <= 18 && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// `chunked` is the last coding, and no other.
fn ends_in_chunks(codings: &[u8]) -> bool {
    let mut codings = codings.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    codings.next_back().is_some_and(is_chunked) && !codings.any(is_chunked)
}

#[cfg(test)]
mod tests;
