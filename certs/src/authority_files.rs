//! Opening the [`Authority`]: two files of the gateway's state directory, made on its first start.
//!
//! `ca.key` is made first and `ca.pem` from it, so a crash between the two heals at the next start, and so does a lost `ca.pem`:
//! what peers trust is the key and the name, which stay. A lost `ca.key` is never replaced in silence, since that would void
//! every identity. Next: [`crate::authority`] issues.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{BasicConstraints, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::{Zeroize, Zeroizing};

use crate::{Authority, PrivateFileError, material, peer, private_file};

/// The authority's own life, ten years: longer than any installation goes without a new one.
const AUTHORITY_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// The authority's name is this and the beginning of its key's identifier: two gateways' authorities never share a name, so a
/// foreign certificate is told from a damaged one, and a certificate made anew from the key has the name of the lost one.
const COMMON_NAME: &str = "adit gateway authority";

/// The authority cannot be opened or made.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// One of its files.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The certificate is there without its key.
    #[error(
        "{} is there, but its key {} is not: restore the key, or remove the certificate as well to make a new authority, which voids every identity issued so far",
        certificate.display(), key.display()
    )]
    KeyMissing {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A file's contents are not what they should be.
    #[error("{} holds no usable {what}: restore it from a copy", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
    },
    /// The two files do not belong together.
    #[error("{} is not the certificate of {}: remove the certificate, it is then made anew from the key", certificate.display(), key.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The authority's time is over.
    #[error("the authority in {} ended at {ended}: remove ca.pem and ca.key to make a new one, and issue new identities", path.display())]
    Expired {
        /// The certificate's file.
        path: PathBuf,
        /// When, for a person.
        ended: String,
    },
    /// The cryptographic library failed.
    #[error("cannot make the authority")]
    Crypto(#[from] rcgen::Error),
}

impl Authority {
    /// Opens the authority in `dir`; makes the directory (0700) and both files (0600) if they are not there.
    ///
    /// Two processes may do this at once: the first to make a file wins, the other reads it.
    ///
    /// # Errors
    /// [`AuthorityError`], which names the file and what to do.
    pub fn open_or_create(dir: &Path, now: SystemTime) -> Result<Self, AuthorityError> {
        private_file::open_directory(dir)?;
        let (key_path, certificate_path) = (dir.join("ca.key"), dir.join("ca.pem"));
        let key = match private_file::read(&key_path) {
            Ok(pem) => parse_key(&key_path, &pem)?,
            Err(PrivateFileError::Missing(_)) if certificate_path.exists() => {
                return Err(AuthorityError::KeyMissing { certificate: certificate_path, key: key_path });
            }
            Err(PrivateFileError::Missing(_)) => create_key(&key_path)?,
            Err(error) => return Err(error.into()),
        };
        let pem = match private_file::read(&certificate_path) {
            Ok(pem) => pem,
            Err(PrivateFileError::Missing(_)) => create_certificate(&certificate_path, &key, now)?,
            Err(error) => return Err(error.into()),
        };
        Self::from_parts(key, &pem, key_path, certificate_path, now)
    }

    fn from_parts(
        key: KeyPair,
        pem: &[u8],
        key_path: PathBuf,
        certificate_path: PathBuf,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        let malformed = || AuthorityError::Malformed { path: certificate_path.clone(), what: "certificate" };
        let certificate = CertificateDer::from_pem_slice(pem).map_err(|_| malformed())?;
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| malformed())?;
        if parsed.public_key().raw != rcgen::PublicKeyData::subject_public_key_info(&key) {
            return Err(AuthorityError::Mismatch { certificate: certificate_path, key: key_path });
        }
        let not_after = peer::time(&parsed.validity().not_after);
        if not_after <= now {
            return Err(AuthorityError::Expired { path: certificate_path, ended: peer::display_time(not_after) });
        }
        let certificate_pem = String::from_utf8(pem.to_vec()).map_err(|_| malformed())?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { issuer, certificate, certificate_pem })
    }
}

fn parse_key(path: &Path, pem: &[u8]) -> Result<KeyPair, AuthorityError> {
    let malformed = || AuthorityError::Malformed { path: path.to_owned(), what: "private key" };
    let mut der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| malformed())?;
    let key = KeyPair::try_from(&der);
    der.zeroize();
    let mut key = key.map_err(|_| malformed())?;
    key.zeroize();
    Ok(key)
}

fn create_key(path: &Path) -> Result<KeyPair, AuthorityError> {
    let mut key = KeyPair::generate()?;
    let pem = material::take_pem(&mut key);
    match private_file::create(path, pem.as_bytes()) {
        Err(PrivateFileError::Exists(_)) => parse_key(path, &private_file::read(path)?),
        created => created.map(|()| key).map_err(AuthorityError::from),
    }
}

fn create_certificate(path: &Path, key: &KeyPair, now: SystemTime) -> Result<Zeroizing<Vec<u8>>, AuthorityError> {
    let mut params = material::params(COMMON_NAME, AUTHORITY_VALIDITY, now);
    let id: String = params.key_identifier(key).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name.push(DnType::CommonName, format!("{COMMON_NAME} {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let pem = params.self_signed(key)?.pem();
    match private_file::create(path, pem.as_bytes()) {
        Err(PrivateFileError::Exists(_)) => Ok(private_file::read(path)?),
        created => created.map(|()| Zeroizing::new(pem.into_bytes())).map_err(AuthorityError::from),
    }
}
