//! Reading our own certificates: whose they are and when they end. TLS has verified them, or [`crate::identity`] does.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use thiserror::Error;
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};

use crate::IdentityName;

/// An identity's URI is this and its name.
pub(crate) const URI_PREFIX: &str = "adit://identity/";

/// Who is at the other end of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The name in the certificate.
    pub name: IdentityName,
    /// The certificate's serial number, in hexadecimal with colons: what an audit knows it by.
    pub serial: String,
    /// When the certificate begins.
    pub not_before: SystemTime,
    /// When it ends: QUIC never looks again, so the gateway closes the session then.
    pub not_after: SystemTime,
}

/// A certificate is no identity of ours.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PeerError {
    /// It cannot be read at all.
    #[error("the certificate cannot be read")]
    Malformed,
    /// It has no name, more than one, or one that no identity can have.
    #[error("the certificate names no identity")]
    NoName,
}

/// Whose certificate this is, by its one URI `adit://identity/NAME`.
///
/// # Errors
/// [`PeerError`] for a certificate that [`crate::Authority`] does not make.
pub fn peer_identity(certificate: &CertificateDer<'_>) -> Result<PeerIdentity, PeerError> {
    let (rest, certificate) = X509Certificate::from_der(certificate).map_err(|_| PeerError::Malformed)?;
    if !rest.is_empty() {
        return Err(PeerError::Malformed);
    }
    let names = certificate.subject_alternative_name().map_err(|_| PeerError::Malformed)?.ok_or(PeerError::NoName)?;
    let [GeneralName::URI(uri)] = names.value.general_names.as_slice() else {
        return Err(PeerError::NoName);
    };
    let name = uri.strip_prefix(URI_PREFIX).and_then(|name| name.parse().ok()).ok_or(PeerError::NoName)?;
    let validity = certificate.validity();
    let serial = certificate.raw_serial_as_string();
    Ok(PeerIdentity { name, serial, not_before: time(&validity.not_before), not_after: time(&validity.not_after) })
}

pub(crate) fn time(time: &ASN1Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}

/// A moment as a person reads it, in UTC.
pub(crate) fn display_time(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let time = i64::try_from(seconds).ok().and_then(|seconds| ASN1Time::from_timestamp(seconds).ok());
    time.map_or_else(|| "the end of time".to_owned(), |time| time.to_string())
}
