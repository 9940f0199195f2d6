//! [`Revoked`]: whose identities are not believed any more although they have not expired. One file beside the authority's, a line for each
//! name: `NAME SECONDS`, every identity that was issued to the name until then, in seconds since 1970-01-01 UTC.
//!
//! By name and time, because who has to revoke an identity seldom has its file, and the next one for the same name must work.
//! Before: `adit-gateway identity revoke`; after: `gateway::session`, which asks at every hello and while a session lives.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use thiserror::Error;

use crate::{CLOCK_TOLERANCE, IdentityName, MAX_IDENTITY_VALIDITY, PeerIdentity};

/// A longer file is refused: some ten thousand names.
const MAX_BYTES: u64 = 1 << 20;

/// The list cannot be used.
#[derive(Debug, Error)]
pub enum RevokedError {
    /// The system refused, or the file is too long.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The list.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A line is no entry.
    #[error("{}:{line}: no entry like 'alice 1767225600': correct the line, or remove it", path.display())]
    Line {
        /// The list.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
}

/// Until when the identities of each name are revoked, in seconds since 1970.
type Entries = BTreeMap<IdentityName, u64>;

/// What tells one version of the file from another.
type Stamp = (i64, i64, u64, u64);

/// The list as it was last read, read again when it has changed.
#[derive(Debug)]
pub struct Revoked {
    path: PathBuf,
    known: Mutex<(Option<Stamp>, Entries)>,
}

impl Revoked {
    /// The list in a gateway's state directory; none is an empty one.
    ///
    /// # Errors
    /// [`RevokedError`]: a gateway must not start without what it may not believe.
    pub fn open(state_dir: &Path) -> Result<Self, RevokedError> {
        let revoked = Self { path: list_in(state_dir), known: Mutex::default() };
        revoked.look()?;
        Ok(revoked)
    }

    /// Reads the list again if it has changed.
    ///
    /// # Errors
    /// [`RevokedError`]; then the list stays as it was.
    pub fn look(&self) -> Result<(), RevokedError> {
        let stamp = stamp(&self.path);
        let mut known = self.known();
        if stamp != known.0 {
            *known = (stamp, read(&self.path)?);
        }
        Ok(())
    }

    /// Whether this identity is on the list as it was last read.
    pub fn holds(&self, peer: &PeerIdentity) -> bool {
        let issued = peer.not_before + CLOCK_TOLERANCE;
        self.known().1.get(&peer.name).is_some_and(|until| issued <= UNIX_EPOCH + Duration::from_secs(*until))
    }

    fn known(&self) -> MutexGuard<'_, (Option<Stamp>, Entries)> {
        // Nothing in the critical sections can panic half-way through a change.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Revokes every identity that was issued to `name` until `now`. One that is issued from the next second on is good.
///
/// # Errors
/// [`RevokedError`]; then the list is as before.
pub fn revoke(state_dir: &Path, name: &IdentityName, now: SystemTime) -> Result<(), RevokedError> {
    let path = list_in(state_dir);
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut entries = read(&path)?;
    // What these were issued for is over.
    entries.retain(|_, until| *until + MAX_IDENTITY_VALIDITY.as_secs() > seconds);
    entries.insert(name.clone(), seconds);
    let text: String = entries.iter().map(|(name, until)| format!("{name} {until}\n")).collect();
    replace(&path, text.as_bytes()).map_err(io_error("write", &path))
}

fn list_in(state_dir: &Path) -> PathBuf {
    state_dir.join("revoked")
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RevokedError {
    move |source| RevokedError::Io { action, path: path.to_owned(), source }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.mtime(), metadata.mtime_nsec(), metadata.ino(), metadata.len()))
}

fn read(path: &Path) -> Result<Entries, RevokedError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Entries::new()),
        opened => opened.map_err(io_error("read", path))?,
    };
    let mut text = String::new();
    let length = file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(io_error("read", path))?;
    if length as u64 > MAX_BYTES {
        return Err(io_error("read", path)(io::ErrorKind::FileTooLarge.into()));
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let entry = |(index, line): (usize, &str)| {
        let parts = line.trim().split_once(' ');
        let parsed = parts.and_then(|(name, until)| Some((name.parse().ok()?, until.trim().parse().ok()?)));
        parsed.ok_or_else(|| RevokedError::Line { path: path.to_owned(), line: index + 1 })
    };
    lines.map(entry).collect()
}

/// Puts a whole file in the old one's place.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued(name: &str, seconds: u64) -> PeerIdentity {
        let at = UNIX_EPOCH + Duration::from_secs(seconds);
        PeerIdentity {
            name: name.parse().unwrap(),
            serial: String::new(),
            not_before: at - CLOCK_TOLERANCE,
            not_after: at + MAX_IDENTITY_VALIDITY,
        }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn what_was_issued_until_then_is_revoked_and_what_comes_after_is_good() {
        let dir = tempfile::tempdir().unwrap();
        let revoked = Revoked::open(dir.path()).unwrap();
        assert!(!revoked.holds(&issued("alice", 1_000_000)));
        revoke(dir.path(), &"alice".parse().unwrap(), at(1_000_000)).unwrap();
        assert!(!revoked.holds(&issued("alice", 1_000_000)), "not looked at yet");
        revoked.look().unwrap();
        assert!(revoked.holds(&issued("alice", 999_999)) && revoked.holds(&issued("alice", 1_000_000)));
        assert!(!revoked.holds(&issued("alice", 1_000_001)) && !revoked.holds(&issued("bob", 1)));
        revoke(dir.path(), &"bob".parse().unwrap(), at(1_000_002)).unwrap();
        revoked.look().unwrap();
        assert!(revoked.holds(&issued("alice", 1)) && revoked.holds(&issued("bob", 1_000_002)));
    }

    #[test]
    fn entries_are_forgotten_when_all_they_hold_has_expired() {
        let dir = tempfile::tempdir().unwrap();
        revoke(dir.path(), &"alice".parse().unwrap(), at(1_000)).unwrap();
        let later = 2_000 + MAX_IDENTITY_VALIDITY.as_secs();
        revoke(dir.path(), &"bob".parse().unwrap(), at(later)).unwrap();
        assert_eq!(fs::read_to_string(list_in(dir.path())).unwrap(), format!("bob {later}\n"));
    }

    #[test]
    fn a_list_that_cannot_be_read_is_named_by_line_and_the_last_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(list_in(dir.path()), "# by hand\nalice 5\n").unwrap();
        let revoked = Revoked::open(dir.path()).unwrap();
        fs::write(list_in(dir.path()), "# by hand\nalice five\n").unwrap();
        let error = revoked.look().unwrap_err().to_string();
        assert!(error.contains("revoked:2: "), "{error}");
        assert!(revoked.holds(&issued("alice", 5)));
        assert!(Revoked::open(dir.path()).is_err());
        assert!(revoke(dir.path(), &"bob".parse().unwrap(), at(9)).is_err());
    }
}
