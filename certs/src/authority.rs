//! [`Authority`]: the gateway's own certificate authority, and what it issues.
//!
//! Before: [`crate::authority_files`] opens or makes it. Next: [`crate::identity`] reads what [`Authority::issue_client`] makes,
//! [`crate::tls`] shows what [`Authority::issue_gateway`] makes.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::CertifiedKey,
};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::{
    IdentityName, MAX_IDENTITY_VALIDITY, PrivateFileError, SERVER_NAME, material, peer::URI_PREFIX, private_file,
};

/// The gateway certificate's life, a week: it is made in memory and renewed long before, see [`crate::server_config`].
pub(crate) const GATEWAY_VALIDITY: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The gateway's certificate authority.
pub struct Authority {
    pub(crate) issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) certificate_pem: String,
}

/// A certificate cannot be issued.
#[derive(Debug, Error)]
pub enum IssueError {
    /// The asked-for life is nothing, or too long.
    #[error("an identity lives between 1 and {} days, not {days}", MAX_IDENTITY_VALIDITY.as_secs() / DAY_SECONDS)]
    Validity {
        /// What was asked for, in whole days.
        days: u64,
    },
    /// The cryptographic library failed.
    #[error("cannot issue a certificate")]
    Crypto(#[from] rcgen::Error),
    /// The TLS library does not take the key that was just made.
    #[error("cannot use the certificate just issued")]
    Tls(#[from] rustls::Error),
}

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// An identity as one file: certificate, private key, authority's certificate. Wiped when dropped.
pub struct IdentityPem(Zeroizing<String>);

impl IdentityPem {
    /// The text, private key included: it belongs into a file of mode 0600 and nowhere else.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Makes `path` with mode 0600, whole or not at all.
    ///
    /// # Errors
    /// [`PrivateFileError::Exists`] when there is such a file; it is never overwritten.
    pub fn write_new(&self, path: &Path) -> Result<(), PrivateFileError> {
        private_file::create(path, self.as_bytes())
    }
}

impl Authority {
    /// The authority's certificate, which both sides trust.
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Makes an identity with a key of its own; the authority keeps no copy of that key.
    ///
    /// # Errors
    /// [`IssueError::Validity`] for a life of nothing or of more than a year.
    pub fn issue_client(
        &self,
        name: &IdentityName,
        validity: Duration,
        now: SystemTime,
    ) -> Result<IdentityPem, IssueError> {
        if validity.is_zero() || validity > MAX_IDENTITY_VALIDITY {
            return Err(IssueError::Validity { days: validity.as_secs() / DAY_SECONDS });
        }
        let uri = format!("{URI_PREFIX}{name}").try_into()?;
        let (certificate, mut key) =
            self.issue(name.as_str(), SanType::URI(uri), ExtendedKeyUsagePurpose::ClientAuth, validity, now)?;
        let key = material::take_pem(&mut key);
        let certificate = certificate.pem();
        let mut pem = Zeroizing::new(String::with_capacity(certificate.len() + key.len() + self.certificate_pem.len()));
        for part in [certificate.as_str(), key.as_str(), self.certificate_pem.as_str()] {
            pem.push_str(part);
        }
        Ok(IdentityPem(pem))
    }

    /// Makes the gateway's own certificate for [`SERVER_NAME`], with a key that exists only in memory.
    ///
    /// # Errors
    /// [`IssueError`] when a library fails.
    pub fn issue_gateway(&self, now: SystemTime) -> Result<CertifiedKey, IssueError> {
        let name = SanType::DnsName(SERVER_NAME.try_into()?);
        let (certificate, mut key) =
            self.issue(SERVER_NAME, name, ExtendedKeyUsagePurpose::ServerAuth, GATEWAY_VALIDITY, now)?;
        let mut der = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        key.zeroize();
        let signing_key = rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&der);
        der.zeroize();
        Ok(CertifiedKey::new(vec![certificate.der().clone()], signing_key?))
    }

    fn issue(
        &self,
        common_name: &str,
        name: SanType,
        usage: ExtendedKeyUsagePurpose,
        validity: Duration,
        now: SystemTime,
    ) -> Result<(rcgen::Certificate, KeyPair), rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = material::params(common_name, validity, now);
        params.is_ca = IsCa::ExplicitNoCa;
        params.subject_alt_names = vec![name];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate, key))
    }
}
