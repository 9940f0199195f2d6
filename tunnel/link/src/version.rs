//! Who may talk to whom. A minor apart still talks, with what both know; a major apart does not, and says which side is older.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The protocol that this build speaks. 1.1 added mirroring.
pub const VERSION: Version = Version { major: 1, minor: 1 };

/// One ALPN for every version, so that a major apart still gets far enough to be told why.
pub const ALPN: &[u8] = b"adit";

/// The protocol's version, which is not the program's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version {
    /// Raised when an older peer would misunderstand.
    pub major: u16,
    /// Raised when something is added that an older peer can do without.
    pub minor: u16,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The two sides are a major version apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Incompatible {
    /// This machine's adit is the older one.
    #[error("the gateway speaks protocol {gateway}, this adit {session}: upgrade adit on this machine")]
    UpgradeSession {
        /// What the session speaks.
        session: Version,
        /// What the gateway speaks.
        gateway: Version,
    },
    /// The gateway is the older one.
    #[error("this adit speaks protocol {session}, the gateway {gateway}: upgrade the gateway")]
    UpgradeGateway {
        /// What the session speaks.
        session: Version,
        /// What the gateway speaks.
        gateway: Version,
    },
}

/// What two versions can speak together.
///
/// # Errors
/// [`Incompatible`] for versions that are a major apart.
pub fn negotiate(session: Version, gateway: Version) -> Result<Version, Incompatible> {
    if session.major < gateway.major {
        return Err(Incompatible::UpgradeSession { session, gateway });
    }
    if session.major > gateway.major {
        return Err(Incompatible::UpgradeGateway { session, gateway });
    }
    Ok(session.min(gateway))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn version(major: u16, minor: u16) -> Version {
        Version { major, minor }
    }

    #[test]
    fn a_minor_apart_talks_with_what_both_know() {
        assert_eq!(negotiate(version(1, 3), version(1, 5)), Ok(version(1, 3)));
        assert_eq!(negotiate(version(1, 5), version(1, 3)), Ok(version(1, 3)));
    }

    #[test]
    fn a_major_apart_names_the_older_side() {
        let error = negotiate(version(1, 9), version(2, 0)).unwrap_err().to_string();
        assert!(error.ends_with("upgrade adit on this machine"), "{error}");
        let error = negotiate(version(2, 0), version(1, 9)).unwrap_err().to_string();
        assert!(error.ends_with("upgrade the gateway"), "{error}");
    }
}
