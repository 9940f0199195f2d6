//! The TLS configurations of both ends: 1.3 only, a certificate on each side, no resumption.
//!
//! Resumption is off because a resumed handshake does not look at the certificate again: an identity that has expired would
//! go on connecting. Before: [`crate::identity`], [`crate::authority`]; after: `link`'s endpoints.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::{Resumption, WebPkiServerVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert, VerifierBuilderError, WebPkiClientVerifier,
        danger::ClientCertVerifier,
    },
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use thiserror::Error;

use crate::{Authority, Identity, IssueError, authority::GATEWAY_VALIDITY};

/// How old the gateway's certificate may get before the next handshake makes a new one. Half its life, so that a session whose
/// clock is days ahead still finds it valid.
const RENEW_AFTER: Duration = Duration::from_secs(GATEWAY_VALIDITY.as_secs() / 2);

/// A TLS configuration cannot be made.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The library does not take the parts.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// The authority's certificate is no trust anchor.
    #[error("the authority's certificate cannot be used to verify")]
    Verifier(#[from] VerifierBuilderError),
    /// The gateway's own certificate.
    #[error("cannot make the gateway's certificate")]
    Issue(#[from] IssueError),
}

/// The only provider; its key exchanges begin with X25519MLKEM768 (rustls' feature `prefer-post-quantum`).
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn roots(authority: &rustls::pki_types::CertificateDer<'static>) -> Result<RootCertStore, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone())?;
    Ok(roots)
}

pub(crate) fn client_verifier(roots: RootCertStore) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build()
}

/// The session's side: trusts only the identity's own authority, and offers these ALPN protocols.
///
/// # Errors
/// [`TlsError`] when the library does not take the identity.
pub fn client_config(identity: &Identity, alpn: &[&[u8]]) -> Result<ClientConfig, TlsError> {
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots(&identity.authority)?), provider()).build()?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_webpki_verifier(verifier)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&identity.certified))));
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The gateway's side: demands a certificate of this authority, and renews its own when half of its life is over.
///
/// # Errors
/// [`TlsError`] when the first certificate cannot be made.
pub fn server_config(authority: Arc<Authority>, alpn: &[&[u8]]) -> Result<ServerConfig, TlsError> {
    let verifier = client_verifier(roots(authority.certificate())?)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(Renewing::new(authority, SystemTime::now())?));
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The gateway's certificate and when it was made.
struct Renewing {
    authority: Arc<Authority>,
    current: Mutex<(Arc<CertifiedKey>, SystemTime)>,
}

impl Renewing {
    fn new(authority: Arc<Authority>, now: SystemTime) -> Result<Self, IssueError> {
        let current = Mutex::new((Arc::new(authority.issue_gateway(now)?), now));
        Ok(Self { authority, current })
    }

    /// The certificate to show at `now`. A clock that was set back renews as well.
    fn certificate(&self, now: SystemTime) -> Arc<CertifiedKey> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = now.duration_since(current.1).is_ok_and(|age| age < RENEW_AFTER);
        if !is_fresh && let Ok(renewed) = self.authority.issue_gateway(now) {
            *current = (Arc::new(renewed), now);
        }
        Arc::clone(&current.0)
    }
}

impl ResolvesServerCert for Renewing {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.certificate(SystemTime::now()))
    }
}

impl fmt::Debug for Renewing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewing").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateways_certificate_is_renewed_at_half_its_life_and_when_the_clock_is_set_back() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let authority = Arc::new(Authority::open_or_create(dir.path(), now).unwrap());
        let renewing = Renewing::new(authority, now).unwrap();
        let first = renewing.certificate(now);
        assert!(Arc::ptr_eq(&first, &renewing.certificate(now + RENEW_AFTER - Duration::from_secs(1))));
        let second = renewing.certificate(now + RENEW_AFTER);
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(!Arc::ptr_eq(&second, &renewing.certificate(now - Duration::from_secs(60))));
    }
}
