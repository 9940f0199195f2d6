//! Who may reach and mirror what: the `[[allow]]` of `gateway.toml`. Pure.
//!
//! - Without any `[[allow]]` every identity reaches what the routes cover, and mirrors nothing.
//! - With one or more, an identity may do what the entries that match its name say together, and nothing else.
//!
//! An entry opens nothing that the routes do not: [`crate::reach`] is asked as well. Before: [`crate::config`]; after:
//! [`crate::session`], which keeps its identity's [`Permissions`] and takes new ones over when the file was read again.

use std::fmt;

use certs::IdentityName;
use link::{prefix::Prefix, printable::printable, rules::RuleProtocol};
use thiserror::Error;

use self::glob::Glob;
pub use self::{
    mirror::{MirrorPattern, NotAMirror},
    reach::{Destination, NotAReach, Protocol, ReachPattern},
};

mod glob;
mod mirror;
mod ports;
mod reach;
mod warnings;

pub use self::warnings::warnings;

/// Of a target's name as a session gave it, in what is said about it: as long as a name can be.
const TARGET_CHARS: usize = 3 * 253 + 2;

/// The identities that an `[[allow]]` is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern(Glob);

impl NamePattern {
    /// Reads a name, or a name with `*` for any characters; `None` for what can match no name.
    pub fn parse(text: &str) -> Option<Self> {
        // As long as it would be without its stars, a name must be possible.
        Glob::new(text, |byte| byte.is_ascii_alphanumeric() || b"@._-".contains(&byte)).map(Self)
    }

    /// Whether the entry is for this identity.
    pub fn matches(&self, identity: &IdentityName) -> bool {
        self.0.matches(identity.as_str())
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An `[[allow]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allow {
    /// For whom.
    pub name: NamePattern,
    /// What they may reach.
    pub reach: Vec<ReachPattern>,
    /// What they may mirror.
    pub mirror: Vec<MirrorPattern>,
}

/// All that a configuration says about who may do what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    allows: Vec<Allow>,
}

/// What one identity may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    identity: IdentityName,
    /// Whether any entry is for it, or there is none at all.
    is_named: bool,
    reach: Vec<ReachPattern>,
    mirror: Vec<MirrorPattern>,
}

/// The configuration does not allow something; the text names the line that is missing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Error)]
pub enum Refused {
    /// No `[[allow]]` is for the identity, although there are some.
    #[error(
        "no [[allow]] in the gateway's gateway.toml is for '{0}': ask whoever runs the gateway to add one with name = \"{0}\""
    )]
    Unnamed(IdentityName),
    /// A port of a target may not be mirrored. Whether there is such a target is not said.
    #[error(
        "'{identity}' may not mirror {pattern}: add mirror = [\"{pattern}\"] to an [[allow]] for '{identity}' in gateway.toml"
    )]
    Mirror {
        /// Who wanted it.
        identity: IdentityName,
        /// The target as the session named it, and the port.
        pattern: String,
    },
    /// An address may not be reached.
    #[error(
        "'{identity}' may not reach {}: add reach = [\"{}\"] to an [[allow]] for '{identity}' in gateway.toml",
        to.pattern(), to.pattern()
    )]
    Reach {
        /// Who wanted it.
        identity: IdentityName,
        /// What was wanted.
        to: Destination,
    },
    /// No route leads there, for anybody.
    #[error(
        "no route leads to {0}: add a prefix to `routes` in [cluster] of gateway.toml, one of its own for a special range"
    )]
    NoRoute(Destination),
    /// Names may be asked by those who may reach something.
    #[error(
        "'{0}' may reach nothing, and so may not ask for names: add reach to an [[allow]] for '{0}' in gateway.toml"
    )]
    Names(IdentityName),
}

impl Refused {
    /// What was refused, in short: `tcp 10.96.0.30:443`, `mirror shop/deploy/web:8080`, `names` or `session`.
    pub fn what(&self) -> String {
        match self {
            Self::Unnamed(_) => "session".to_owned(),
            Self::Mirror { pattern, .. } => format!("mirror {pattern}"),
            Self::Reach { to, .. } | Self::NoRoute(to) => to.to_string(),
            Self::Names(_) => "names".to_owned(),
        }
    }
}

impl Policy {
    /// The policy of these entries.
    pub fn new(allows: Vec<Allow>) -> Self {
        Self { allows }
    }

    /// The entries, in the order of the file.
    pub fn allows(&self) -> &[Allow] {
        &self.allows
    }

    /// What this identity may do.
    pub fn for_identity(&self, identity: &IdentityName) -> Permissions {
        let entries: Vec<&Allow> = self.allows.iter().filter(|allow| allow.name.matches(identity)).collect();
        let is_open = self.allows.is_empty();
        let reach = entries.iter().flat_map(|allow| allow.reach.iter().cloned());
        Permissions {
            identity: identity.clone(),
            is_named: is_open || !entries.is_empty(),
            reach: if is_open { vec![ReachPattern::EVERYTHING] } else { reach.collect() },
            mirror: entries.iter().flat_map(|allow| allow.mirror.iter().cloned()).collect(),
        }
    }
}

impl Permissions {
    /// Whose they are.
    pub const fn identity(&self) -> &IdentityName {
        &self.identity
    }

    /// Whether it may have a session at all.
    ///
    /// # Errors
    /// [`Refused::Unnamed`] when there are entries and none is for it.
    pub fn may_connect(&self) -> Result<(), Refused> {
        if self.is_named { Ok(()) } else { Err(Refused::Unnamed(self.identity.clone())) }
    }

    /// Whether it may reach this, as far as entries are concerned. The address must be in the form in which it is dialed.
    ///
    /// # Errors
    /// [`Refused::Reach`], which names what is missing.
    pub fn may_reach(&self, to: &Destination) -> Result<(), Refused> {
        if self.reach.iter().any(|pattern| pattern.opens(to)) {
            return Ok(());
        }
        Err(Refused::Reach { identity: self.identity.clone(), to: *to })
    }

    /// Whether it may ask the cluster's nameserver: everyone may who may reach anything, since names alone are of no use.
    ///
    /// # Errors
    /// [`Refused::Names`].
    pub fn may_ask_names(&self) -> Result<(), Refused> {
        if self.reach.is_empty() { Err(Refused::Names(self.identity.clone())) } else { Ok(()) }
    }

    /// Whether it may mirror this port of this target. To be asked before the target is looked for: whoever may not mirror it is
    /// not told whether it exists.
    ///
    /// # Errors
    /// [`Refused::Mirror`], which names what is missing.
    pub fn may_mirror(&self, target: &str, port: u16, protocol: RuleProtocol) -> Result<(), Refused> {
        if self.mirror.iter().any(|pattern| pattern.opens(target, port, protocol)) {
            return Ok(());
        }
        let target = printable(target, TARGET_CHARS).replace(['"', '\\'], "");
        let protocol = match protocol {
            RuleProtocol::Tcp => "",
            RuleProtocol::Udp => "/udp",
        };
        Err(Refused::Mirror { identity: self.identity.clone(), pattern: format!("{target}:{port}{protocol}") })
    }

    /// Whether it may be told of this target, as among the nearest names: it may mirror some port of it.
    pub fn may_name(&self, target: &str) -> bool {
        self.mirror.iter().any(|pattern| pattern.names(target))
    }

    /// Those of the routes of which it may reach something, whole. What is not among them stays with the machine's own networks;
    /// within one, the gateway's refusal says what is missing, where another network could answer in the cluster's place.
    pub fn routes(&self, routes: &[Prefix]) -> Vec<Prefix> {
        let is_of_use = |route: &&Prefix| self.reach.iter().any(|pattern| pattern.overlaps(route));
        routes.iter().filter(is_of_use).copied().collect()
    }
}

#[cfg(test)]
mod tests;
