//! [`Name`]: a domain name in wire format, and how it is read out of a message.
//!
//! Pure. Owns compression pointers on the way in; `encode` owns them on the way out. Before: `query` and `reply`; after: `names`.

use std::fmt;

use super::wire::{Malformed, Reader};

/// The longest name on the wire, its final zero included (RFC 1035, 2.3.4).
pub(super) const MAX_NAME_BYTES: usize = 255;

/// The longest label (RFC 1035, 2.3.4).
pub(super) const MAX_LABEL_BYTES: usize = 63;

/// A whole domain name: labels with their length bytes, ended by a zero. The case is kept; [`Name::key`] is for comparing.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Name(Box<[u8]>);

impl Name {
    /// Reads a name at the reader's place and follows compression pointers, which must lead strictly backwards: so it ends.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut wire = Vec::with_capacity(32);
        let message = reader.message();
        let mut floor = reader.position();
        // Set at the first pointer: labels then come from elsewhere and the outer reader stays behind the pointer.
        let mut elsewhere: Option<Reader<'_>> = None;
        loop {
            let current = elsewhere.as_mut().unwrap_or(reader);
            let len = current.u8()?;
            match len >> 6 {
                0 if len == 0 => break,
                0 => {
                    wire.push(len);
                    wire.extend_from_slice(current.bytes(usize::from(len))?);
                }
                0b11 => {
                    let target = usize::from(u16::from_be_bytes([len & 0x3f, current.u8()?]));
                    if target >= floor {
                        return Err(Malformed);
                    }
                    floor = target;
                    elsewhere = Some(Reader::at(message, target));
                }
                _ => return Err(Malformed),
            }
            if wire.len() >= MAX_NAME_BYTES {
                return Err(Malformed);
            }
        }
        wire.push(0);
        Ok(Self(wire.into()))
    }

    /// The name that `text` writes in dotted form, with or without a final dot. `None` for an empty or too long label or name,
    /// and for an escape: what a gateway or a resolver file names needs none.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() || text.contains('\\') {
            return None;
        }
        Self::from_labels(text.split('.').map(str::as_bytes), &Self::root())
    }

    /// `.`
    pub(super) fn root() -> Self {
        Self(Box::new([0]))
    }

    /// `labels` in front of `suffix`; `None` when a label or the whole is too long or a label empty.
    pub(super) fn from_labels<'a>(labels: impl IntoIterator<Item = &'a [u8]>, suffix: &Self) -> Option<Self> {
        let mut wire = Vec::with_capacity(64);
        for label in labels {
            if label.is_empty() || label.len() > MAX_LABEL_BYTES {
                return None;
            }
            wire.push(u8::try_from(label.len()).ok()?);
            wire.extend_from_slice(label);
        }
        wire.extend_from_slice(&suffix.0);
        (wire.len() <= MAX_NAME_BYTES).then(|| Self(wire.into()))
    }

    /// This name in front of `suffix`.
    pub(super) fn under(&self, suffix: &Self) -> Option<Self> {
        Self::from_labels(self.labels(), suffix)
    }

    /// The labels, leftmost first, without the root.
    pub(super) fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let (&len, tail) = rest.split_first()?;
            if len == 0 {
                return None;
            }
            let (label, tail) = tail.split_at(usize::from(len));
            rest = tail;
            Some(label)
        })
    }

    /// Whether this is `suffix` or under it, in any case of letters.
    pub(super) fn is_under(&self, suffix: &Self) -> bool {
        let Some(cut) = self.0.len().checked_sub(suffix.0.len()) else { return false };
        // A suffix of the bytes is a suffix of the name only where a label begins.
        let mut at = 0;
        while at < cut {
            at += 1 + usize::from(self.0[at]);
        }
        at == cut && self.0[cut..].eq_ignore_ascii_case(&suffix.0)
    }

    /// Whether the two are the same name, in any case of letters.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }

    /// The name in small letters, to be compared and hashed.
    pub(super) fn key(&self) -> Self {
        Self(self.0.to_ascii_lowercase().into())
    }

    /// The wire format.
    pub(super) const fn wire(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() == 1 {
            return f.write_str(".");
        }
        for (index, label) in self.labels().enumerate() {
            let dot = if index > 0 { "." } else { "" };
            write!(f, "{dot}{}", label.escape_ascii())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_text(text).unwrap()
    }

    #[test]
    fn a_suffix_counts_only_at_a_label() {
        assert!(name("a.Cluster.local").is_under(&name("cluster.LOCAL")));
        assert!(name("cluster.local").is_under(&name("cluster.local")));
        assert!(!name("acluster.local").is_under(&name("cluster.local")));
        assert!(!name("local").is_under(&name("cluster.local")));
        assert!(name("x").is_under(&Name::root()));
        // A label that holds the suffix's bytes, length bytes included, is no suffix.
        let tricky = Name::from_labels([b"x\x07cluster\x05local".as_slice()], &Name::root()).unwrap();
        assert!(!tricky.is_under(&name("cluster.local")));
    }

    #[test]
    fn pointers_are_followed_backwards_only() {
        let mut message = vec![3, b'w', b'e', b'b', 0, 1, b'a', 0xc0, 0];
        let mut reader = Reader::at(&message, 5);
        assert_eq!(Name::read(&mut reader), Ok(name("a.web")));
        assert_eq!(reader.position(), message.len());
        message[8] = 5;
        assert_eq!(Name::read(&mut Reader::at(&message, 5)), Err(Malformed), "a pointer to itself");
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes: Vec<u8>, at: usize) {
            if let Ok(name) = Name::read(&mut Reader::at(&bytes, at % (bytes.len() + 1))) {
                prop_assert!(name.wire().len() <= MAX_NAME_BYTES);
            }
        }

        #[test]
        fn text_survives(labels in prop::collection::vec("[a-zA-Z0-9_-]{1,20}", 1..6)) {
            let text = labels.join(".");
            prop_assert_eq!(name(&text).to_string(), text);
        }
    }
}
