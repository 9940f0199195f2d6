//! Who may talk to whom: the gateway's own authority, the identities it issues, and the TLS configurations of both ends.
//!
//! - [`Authority`]: made on the gateway's first start; issues identities, and the gateway's own certificate at run time.
//! - [`Identity`]: one file that a session proves itself with; [`IdentityName`] is the name in it.
//! - [`client_config`], [`server_config`]: TLS 1.3 with certificates on both sides, post-quantum key exchange preferred.
//! - [`peer_identity`]: whom the gateway talks to, read from a certificate that TLS has already verified.
//! - [`Revoked`]: whose identities are not believed any more.
//! - [`explain_alert`]: what a failed handshake means to a person.
//!
//! Clocks may differ by [`CLOCK_TOLERANCE`]: every certificate begins that much earlier than it is made. Private keys live in
//! files of mode 0600, are wiped from memory once loaded, and appear in no log and no `Debug`.
//! It knows neither QUIC nor the link: `gateway::server` and `tunnel::gateway_link` put the configurations to use.

mod alert;
mod authority;
mod authority_files;
mod identity;
mod material;
mod name;
mod peer;
mod private_file;
mod revoked;
mod tls;

use std::time::Duration;

pub use alert::{Side, explain_alert};
pub use authority::{Authority, IdentityPem, IssueError};
pub use authority_files::AuthorityError;
pub use identity::{Identity, IdentityError};
pub use name::{IdentityName, NotAName};
pub use peer::{PeerError, PeerIdentity, peer_identity};
pub use private_file::{PrivateFileError, open_or_create_secret};
pub use revoked::{Revoked, RevokedError, revoke};
pub use tls::{TlsError, client_config, server_config};

/// The name that every gateway's certificate carries and every session asks for: addresses change, the authority is the anchor.
pub const SERVER_NAME: &str = "gateway.adit";

/// How far two clocks may be apart: a certificate is valid from this long before it was made.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// How long an identity lives unless something else is asked: a month, so that a lost laptop is no worry for long.
pub const DEFAULT_IDENTITY_VALIDITY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The longest life of an identity, a year: as long must the gateway remember that it was revoked.
pub const MAX_IDENTITY_VALIDITY: Duration = Duration::from_secs(365 * 24 * 60 * 60);
