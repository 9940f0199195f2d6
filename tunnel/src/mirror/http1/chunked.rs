//! Where a chunked body ends (RFC 9112, 7.1), with its extensions and trailers; strict, since what is read leniently is read
//! differently elsewhere. Used by [`super::request`] and [`super::answer`].

use thiserror::Error;

/// Bytes of a chunk's extensions, or of all trailers, at most.
const MAX_LINE_BYTES: u32 = 16 << 10;
/// Digits of a chunk's size: 2^60 bytes.
const MAX_DIGITS: u8 = 15;

/// The bytes are no chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no chunked body")]
pub struct NotChunked;

/// A place in a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunked {
    at: At,
    /// Bytes of the chunks so far.
    payload: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Size {
        size: u64,
        digits: u8,
    },
    Extension {
        size: u64,
        len: u32,
    },
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// In the line of a trailer, or at the line that ends the body; `total` bounds all lines.
    Trailer {
        line: u32,
        total: u32,
    },
    TrailerEnd {
        line: u32,
        total: u32,
    },
    Over,
}

impl Default for Chunked {
    fn default() -> Self {
        Self { at: At::Size { size: 0, digits: 0 }, payload: 0 }
    }
}

impl Chunked {
    /// Bytes of the chunks so far, without what frames them.
    pub const fn payload(&self) -> u64 {
        self.payload
    }

    /// Whether the body has ended.
    pub const fn is_over(&self) -> bool {
        matches!(self.at, At::Over)
    }

    /// Takes from the front of `bytes` what belongs to the body, and says how much that was; less than all only at the body's end.
    ///
    /// # Errors
    /// [`NotChunked`].
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, NotChunked> {
        let mut at = 0;
        while at < bytes.len() && !self.is_over() {
            if let At::Data { left } = self.at {
                let now = left.min((bytes.len() - at) as u64);
                self.payload += now;
                self.at = if now == left { At::DataCr } else { At::Data { left: left - now } };
                at += usize::try_from(now).expect("no more than a slice's length");
            } else {
                self.at = self.at.byte(bytes[at])?;
                at += 1;
            }
        }
        Ok(at)
    }

    /// Passes over bytes that were not seen.
    ///
    /// # Errors
    /// [`NotChunked`] when they are not all within one chunk.
    pub const fn pass(&mut self, bytes: u64) -> Result<(), NotChunked> {
        match self.at {
            At::Data { left } if bytes < left => {
                self.at = At::Data { left: left - bytes };
                Ok(())
            }
            At::Data { left } if bytes == left => {
                self.at = At::DataCr;
                Ok(())
            }
            At::Size { .. }
            | At::Extension { .. }
            | At::SizeEnd { .. }
            | At::Data { .. }
            | At::DataCr
            | At::DataLf
            | At::Trailer { .. }
            | At::TrailerEnd { .. }
            | At::Over => Err(NotChunked),
        }
    }
}

impl At {
    fn byte(self, byte: u8) -> Result<Self, NotChunked> {
        Ok(match (self, byte) {
            (Self::Size { size, digits }, digit) if digit.is_ascii_hexdigit() && digits < MAX_DIGITS => {
                let digit = (digit as char).to_digit(16).ok_or(NotChunked)?;
                Self::Size { size: size * 16 + u64::from(digit), digits: digits + 1 }
            }
            (Self::Size { size, digits: 1.. }, b';' | b' ' | b'\t') => Self::Extension { size, len: 0 },
            (Self::Size { size, digits: 1.. } | Self::Extension { size, .. }, b'\r') => Self::SizeEnd { size },
            (Self::Extension { size, len }, byte) if byte != b'\n' && len < MAX_LINE_BYTES => {
                Self::Extension { size, len: len + 1 }
            }
            (Self::SizeEnd { size: 0 }, b'\n') => Self::Trailer { line: 0, total: 0 },
            (Self::SizeEnd { size }, b'\n') => Self::Data { left: size },
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size { size: 0, digits: 0 },
            (Self::Trailer { line, total }, b'\r') => Self::TrailerEnd { line, total },
            (Self::Trailer { line, total }, byte) if byte != b'\n' && total < MAX_LINE_BYTES => {
                Self::Trailer { line: line + 1, total: total + 1 }
            }
            (Self::TrailerEnd { line: 0, .. }, b'\n') => Self::Over,
            (Self::TrailerEnd { total, .. }, b'\n') => Self::Trailer { line: 0, total: total + 1 },
            _ => return Err(NotChunked),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(chunks: &[Vec<u8>], extension: &str, trailer: &str) -> Vec<u8> {
        let mut body = Vec::new();
        for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
            body.extend_from_slice(format!("{:X}{extension}\r\n", chunk.len()).as_bytes());
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("0\r\n{trailer}\r\n").as_bytes());
        body
    }

    proptest! {
        #[test]
        fn a_body_ends_where_it_ends_however_it_is_cut(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..6),
            extended: bool, trailed: bool, cut in 1usize..50, behind: Vec<u8>,
        ) {
            let extension = if extended { ";name=\"value\"" } else { "" };
            let trailer = if trailed { "Digest: x\r\nOther: y\r\n" } else { "" };
            let body = body(&chunks, extension, trailer);
            let all = [body.clone(), behind].concat();
            let (mut chunked, mut taken) = (Chunked::default(), 0);
            for piece in all.chunks(cut) {
                taken += chunked.take(piece).unwrap();
            }
            prop_assert!(chunked.is_over());
            prop_assert_eq!(taken, body.len());
            prop_assert_eq!(chunked.payload(), chunks.iter().map(Vec::len).sum::<usize>() as u64);
        }

        #[test]
        fn any_bytes_are_taken_or_refused(bytes: Vec<u8>) {
            let mut chunked = Chunked::default();
            if let Ok(taken) = chunked.take(&bytes) {
                prop_assert!(taken == bytes.len() || chunked.is_over());
            }
        }
    }

    #[test]
    fn what_is_read_differently_elsewhere_is_refused() {
        for body in
            ["\r\n", "5\nhello", "5\r\nhelloX", "-5\r\n", "0x5\r\n", "1000000000000000\r\n", "5;a\nb\r\n", "0\r\na\nb"]
        {
            assert_eq!(Chunked::default().take(body.as_bytes()), Err(NotChunked), "{body:?}");
        }
    }

    #[test]
    fn a_gap_within_a_chunk_is_passed_over() {
        let mut chunked = Chunked::default();
        chunked.take(b"5\r\nhe").unwrap();
        assert_eq!(chunked.pass(4), Err(NotChunked));
        chunked.pass(3).unwrap();
        assert_eq!(chunked.take(b"\r\n0\r\n\r\nGET"), Ok(7));
        assert!(chunked.is_over());
    }
}
