//! [`NamesOptions`]: what the names are decided by, and which domains and namespaces cannot be used. Before: `host_network::plan`; after:
//! [`super::Names`].

use link::{prefix::Prefix, printable::printable};
use thiserror::Error;

use super::Name;

/// The longest name, as text: of what cannot be used so much is shown.
const NAME_CHARS: usize = 253;

/// The internet's top-level domains in ASCII, after the Public Suffix List of February 2023. One that is missing costs nothing until a
/// namespace is called like it.
pub(super) const TOP_LEVEL: &str = include_str!("../top_level.txt");

/// What the names are decided by. [`Default`] has no cluster: all names are ordinary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamesOptions {
    /// The cluster's domain, such as `cluster.local`. Empty: none.
    pub domain: String,
    /// Namespaces for `<service>.<namespace>`.
    pub namespaces: Vec<String>,
    /// The namespace of single labels; without one, single labels are ordinary.
    pub default_namespace: Option<String>,
    /// Prefixes whose reverse names the cluster knows.
    pub routes: Vec<Prefix>,
    /// This machine's own search domains, from its resolver file.
    pub search: Vec<String>,
}

/// The gateway gave a name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NamesError {
    /// A domain that is none, or one that would take names that the whole machine needs.
    #[error(
        "the gateway's domain '{0}' cannot be used: set `domain` in its configuration to the cluster's own, such as cluster.local"
    )]
    Domain(String),
    /// A namespace that is none.
    #[error("the gateway's namespace '{0}' is no Kubernetes name: letters, digits and '-', at most 63")]
    Namespace(String),
}

impl NamesOptions {
    /// The cluster's domain, checked.
    pub(super) fn checked_domain(&self) -> Result<Name, NamesError> {
        let domain = Name::from_text(&self.domain).ok_or_else(|| self.wrong_domain())?;
        let taken = ["arpa", "localhost"].iter().any(|taken| self.domain.eq_ignore_ascii_case(taken));
        if taken || is_top_level(&self.domain) { Err(self.wrong_domain()) } else { Ok(domain) }
    }

    pub(super) fn wrong_domain(&self) -> NamesError {
        NamesError::Domain(printable(&self.domain, NAME_CHARS))
    }
}

/// A namespace in small letters, and whether there is a top-level domain of that name.
pub(super) fn checked_namespace(text: &str) -> Result<(Box<[u8]>, bool), NamesError> {
    let label = text.to_ascii_lowercase().into_bytes().into_boxed_slice();
    if is_namespace(&label) {
        Ok((label, is_top_level(text)))
    } else {
        Err(NamesError::Namespace(printable(text, NAME_CHARS)))
    }
}

fn is_top_level(label: &str) -> bool {
    TOP_LEVEL.split_ascii_whitespace().any(|domain| label.eq_ignore_ascii_case(domain))
}

/// An RFC 1035 label, as Kubernetes wants for a service: a letter, then letters, digits and hyphens, no hyphen last.
pub(super) fn is_service(label: &[u8]) -> bool {
    label.first().is_some_and(u8::is_ascii_alphabetic) && is_namespace(label)
}

/// An RFC 1123 label, as Kubernetes wants for a namespace.
fn is_namespace(label: &[u8]) -> bool {
    let inside = label.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    let ends = label.first().is_some_and(|byte| *byte != b'-') && label.last().is_some_and(|byte| *byte != b'-');
    inside && ends && label.len() <= 63
}
