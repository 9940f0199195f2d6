//! [`IdentityName`]: what a person's identity is called, safe to put into a certificate, a log and a metric.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// 1 to 64 letters, digits and `@._-`: an e-mail address fits, nothing that needs quoting anywhere does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdentityName(String);

/// A text cannot be the name of an identity.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("'{0}' cannot name an identity: use 1 to 64 letters, digits, '@', '.', '_' or '-'")]
pub struct NotAName(String);

/// The common name's upper bound in X.509 (RFC 5280, ub-common-name), in characters.
const MAX_CHARACTERS: usize = 64;

impl IdentityName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IdentityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for IdentityName {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"@._-".contains(&byte);
        let fits = (1..=MAX_CHARACTERS).contains(&text.len()) && text.bytes().all(is_allowed);
        // A hostile text may be long; the error repeats no more of it than a name could have.
        fits.then(|| Self(text.to_owned())).ok_or_else(|| NotAName(text.chars().take(MAX_CHARACTERS).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_name_and_what_needs_quoting_is_not() {
        assert_eq!("alice.b-c_d@example.com".parse::<IdentityName>().unwrap().as_str(), "alice.b-c_d@example.com");
        for text in ["", "a b", "a/b", "é", "a\n", &"a".repeat(65)] {
            assert!(text.parse::<IdentityName>().is_err(), "{text:?}");
        }
    }
}
