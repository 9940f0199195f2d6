//! [`Glob`]: a text in which `*` stands for any characters, none included. Under [`super::NamePattern`] and [`super::mirror`]. Pure.

use std::fmt;

/// A pattern for one identity, or for one part of a target's name. Small and large letters differ, as in the names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob(Box<str>);

impl Glob {
    /// Takes a pattern whose other bytes are all allowed; `None` for an empty one, and for `**`, which elsewhere means more than
    /// it could here.
    pub(super) fn new(text: &str, is_allowed: impl Fn(u8) -> bool) -> Option<Self> {
        let is_pattern = !text.is_empty() && text.bytes().all(|byte| byte == b'*' || is_allowed(byte));
        (is_pattern && !text.contains("**")).then(|| Self(text.into()))
    }

    /// Whether the whole of `text` is what the pattern describes. Takes at most as many steps as the product of both lengths.
    pub(super) fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut at_pattern, mut at_text) = (0, 0);
        // Behind the last `*`, and where in the text what it stands for ends.
        let mut retry: Option<(usize, usize)> = None;
        while at_text < text.len() {
            match pattern.get(at_pattern) {
                Some(b'*') => {
                    at_pattern += 1;
                    retry = Some((at_pattern, at_text));
                }
                Some(byte) if *byte == text[at_text] => {
                    at_pattern += 1;
                    at_text += 1;
                }
                Some(_) | None => {
                    let Some((behind_star, end)) = retry else { return false };
                    // The star takes one more; those before it need no other try, since this one began as early as it could.
                    retry = Some((behind_star, end + 1));
                    (at_pattern, at_text) = (behind_star, end + 1);
                }
            }
        }
        pattern[at_pattern..].iter().all(|byte| *byte == b'*')
    }

    /// Whether the pattern is `*` alone.
    pub(super) fn is_star(&self) -> bool {
        &*self.0 == "*"
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn glob(text: &str) -> Glob {
        Glob::new(text, |byte| byte.is_ascii_alphanumeric() || byte == b'-').unwrap()
    }

    #[test]
    fn a_star_stands_for_any_characters_and_for_none() {
        for (pattern, yes, no) in [
            ("alice", &["alice"][..], &["", "alic", "alice2", "Alice"][..]),
            ("*", &["", "a", "alice"], &[]),
            ("ci-*", &["ci-", "ci-7"], &["ci", "xci-7"]),
            ("*-bot", &["-bot", "a-bot", "a-bot-bot"], &["bot", "a-bots"]),
            ("a*b*c", &["abc", "axbxc", "abbcc", "abcbc"], &["ab", "acb", "abcd"]),
        ] {
            for text in yes {
                assert!(glob(pattern).matches(text), "{pattern} {text}");
            }
            for text in no {
                assert!(!glob(pattern).matches(text), "{pattern} {text}");
            }
        }
    }

    #[test]
    fn an_empty_pattern_two_stars_together_and_other_characters_are_none() {
        for text in ["", "a**", "a?", "a b", "a/b", "[ab]"] {
            assert_eq!(Glob::new(text, |byte| byte.is_ascii_alphanumeric()), None, "{text}");
        }
    }

    /// The definition itself, which takes exponential time.
    fn defined(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|taken| defined(rest, &text[taken..])),
            Some((byte, rest)) => text.split_first().is_some_and(|(first, text)| first == byte && defined(rest, text)),
        }
    }

    proptest! {
        #[test]
        fn matching_is_what_it_is_defined_as(pattern in "(\\*?[ab]{1,2}){0,4}\\*?", text in "[ab]{0,10}") {
            if let Some(glob) = Glob::new(&pattern, |byte| byte.is_ascii_alphanumeric()) {
                prop_assert_eq!(glob.matches(&text), defined(pattern.as_bytes(), text.as_bytes()), "{} {}", pattern, text);
            }
        }

        #[test]
        fn any_text_is_a_pattern_or_none_without_a_panic(pattern: String, text: String) {
            if let Some(glob) = Glob::new(&pattern, |_| true) {
                glob.matches(&text);
            }
        }
    }

    #[test]
    fn a_pattern_made_to_be_slow_is_not() {
        let pattern = "a*".repeat(32) + "b";
        assert!(!glob(&pattern).matches(&"a".repeat(4_096)));
    }
}
