//! [`Identity`]: what a session proves itself with, read from the one file that `adit-gateway identity issue` makes.
//!
//! Everything that can be wrong with the file is found here, before anything is sent, and named with its remedy.
//! Before: [`crate::authority`]; after: [`crate::tls`].

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    sign::CertifiedKey,
};
use thiserror::Error;
use zeroize::Zeroize;

use crate::{IdentityName, PrivateFileError, peer, peer::PeerIdentity, peer_identity, private_file, tls};

/// A certificate, its key, and the authority that both sides trust. `Debug` shows no key.
#[derive(Clone)]
pub struct Identity {
    pub(crate) certified: Arc<CertifiedKey>,
    pub(crate) authority: CertificateDer<'static>,
    peer: PeerIdentity,
}

/// A file cannot serve as an identity.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// There is no such file.
    #[error("the identity {} does not exist: ask whoever runs the gateway for one ('adit-gateway identity issue')", .0.display())]
    Missing(PathBuf),
    /// It cannot be read, or others could.
    #[error(transparent)]
    File(PrivateFileError),
    /// A part of the file is missing, or it is something else altogether.
    #[error("{} is no identity: it has no {what} in PEM; use a file from 'adit-gateway identity issue'", path.display())]
    NotAnIdentity {
        /// The file.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// Its time is over.
    #[error("the identity {} ({name}) expired at {ended}: ask for a new one ('adit-gateway identity issue')", path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// The identity's name.
        name: IdentityName,
        /// When, for a person.
        ended: String,
    },
    /// Its time is yet to come.
    #[error("the identity {} ({name}) is valid only from {begins}: check this machine's clock", path.display())]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// The identity's name.
        name: IdentityName,
        /// When, for a person.
        begins: String,
    },
    /// The private key is not the certificate's.
    #[error("the private key in {} is not that of its certificate: the file was put together by hand; ask for a new one", .0.display())]
    KeyMismatch(PathBuf),
    /// The certificate is not from the authority beside it, or not for a session.
    #[error("the certificate in {} was not issued to a session by the authority in the same file: ask for a new one", .0.display())]
    NotIssued(PathBuf),
}

impl Identity {
    /// Reads and checks the file: certificate, key, authority's certificate, in this order, in PEM.
    ///
    /// # Errors
    /// [`IdentityError`], which names the file and what to do.
    pub fn load(path: &Path, now: SystemTime) -> Result<Self, IdentityError> {
        let pem = private_file::read(path).map_err(|error| {
            let is_missing = matches!(error, PrivateFileError::Missing(_));
            if is_missing { IdentityError::Missing(path.to_owned()) } else { IdentityError::File(error) }
        })?;
        let not_an_identity = |what| IdentityError::NotAnIdentity { path: path.to_owned(), what };
        let mut certificates = CertificateDer::pem_slice_iter(&pem).map_while(Result::ok);
        let certificate = certificates.next().ok_or_else(|| not_an_identity("certificate"))?;
        let authority = certificates.next().ok_or_else(|| not_an_identity("authority's certificate"))?;
        let peer = peer_identity(&certificate).map_err(|_| not_an_identity("certificate of a session"))?;
        check_times(path, &peer, now)?;

        let mut key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| not_an_identity("private key"))?;
        let signing_key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key);
        key.zeroize();
        let signing_key = signing_key.map_err(|_| not_an_identity("usable private key"))?;
        let certified = CertifiedKey::new(vec![certificate], signing_key);
        certified.keys_match().map_err(|_| IdentityError::KeyMismatch(path.to_owned()))?;
        check_issued(&certified, &authority, now).ok_or_else(|| IdentityError::NotIssued(path.to_owned()))?;
        Ok(Self { certified: Arc::new(certified), authority, peer })
    }

    /// Whose it is.
    pub const fn name(&self) -> &IdentityName {
        &self.peer.name
    }

    /// When it ends.
    pub const fn not_after(&self) -> SystemTime {
        self.peer.not_after
    }
}

fn check_times(path: &Path, peer: &PeerIdentity, now: SystemTime) -> Result<(), IdentityError> {
    let (path, name) = (path.to_owned(), peer.name.clone());
    if now >= peer.not_after {
        return Err(IdentityError::Expired { path, name, ended: peer::display_time(peer.not_after) });
    }
    if now < peer.not_before {
        return Err(IdentityError::NotYetValid { path, name, begins: peer::display_time(peer.not_before) });
    }
    Ok(())
}

/// The gateway's own check, done here first.
fn check_issued(certified: &CertifiedKey, authority: &CertificateDer<'static>, now: SystemTime) -> Option<()> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).ok()?;
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let verifier = tls::client_verifier(roots).ok()?;
    let end_entity = certified.end_entity_cert().ok()?;
    verifier.verify_client_cert(end_entity, &[], UnixTime::since_unix_epoch(since_epoch)).ok().map(|_| ())
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("peer", &self.peer).finish_non_exhaustive()
    }
}
