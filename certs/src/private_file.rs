//! Files that hold a private key: made whole or not at all, mode 0600, and refused when anyone else could read or change them.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use thiserror::Error;
use zeroize::Zeroizing;

/// 1 MiB: no identity and no authority comes near it, so a wrong path (a disk image, a device) is not read whole.
const MAX_BYTES: u64 = 1 << 20;

/// A file or directory that holds a key cannot be used.
#[derive(Debug, Error)]
pub enum PrivateFileError {
    /// There is no such file.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// There is one already, and it is not overwritten.
    #[error("{} exists already: remove it first, or choose another file", .0.display())]
    Exists(PathBuf),
    /// Others may read it.
    #[error("{} may be read by others (mode {mode:04o}): run 'chmod 600 {}'", path.display(), path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others may put files of theirs into the directory.
    #[error("{} may be changed by others (mode {mode:04o}): run 'chmod 700 {}'", path.display(), path.display())]
    DirectoryTooOpen {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a file of keys at all.
    #[error("{} is no regular file of at most 1 MiB", .0.display())]
    NotAFile(PathBuf),
    /// A secret of another length.
    #[error("{} is no secret of 64 bytes: remove it, a new one is then made", .0.display())]
    NotASecret(PathBuf),
    /// The system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PrivateFileError {
    move |source| PrivateFileError::Io { action, path: path.to_owned(), source }
}

/// Reads a file that only its owner may read.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, PrivateFileError> {
    // A pipe without a writer would be waited for; it is told apart below.
    let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = opened.map_err(|source| {
        let is_missing = source.kind() == io::ErrorKind::NotFound;
        if is_missing { PrivateFileError::Missing(path.to_owned()) } else { io_error("read", path)(source) }
    })?;
    let metadata = file.metadata().map_err(io_error("read", path))?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Err(PrivateFileError::NotAFile(path.to_owned()));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(PrivateFileError::TooOpen { path: path.to_owned(), mode });
    }
    // Sized before reading, so that growing leaves no copy of the key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1));
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    Ok(bytes)
}

/// Makes `path` with these bytes, whole or not at all.
///
/// # Errors
/// [`PrivateFileError::Exists`] when there is one, also when another process was faster.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<(), PrivateFileError> {
    let draft = draft_path(path);
    let written = write_draft(&draft, bytes)
        .map_err(io_error("write", path))
        // Unlike a rename, a link never replaces what is there.
        .and_then(|()| match fs::hard_link(&draft, path) {
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {
                Err(PrivateFileError::Exists(path.to_owned()))
            }
            linked => linked.map_err(io_error("write", path)),
        });
    // Whatever happened, the draft has done its work; one that stays behind is 0600 and never read.
    let _ = fs::remove_file(&draft);
    written?;
    sync_directory(path).map_err(io_error("write", path))
}

/// The 64 secret random bytes kept in `path`, made on the first call. For keys that only their maker uses.
///
/// # Errors
/// [`PrivateFileError::NotASecret`] for a file of another length, the other variants as they say.
pub fn open_or_create_secret(path: &Path) -> Result<Zeroizing<[u8; 64]>, PrivateFileError> {
    let kept = match read(path) {
        Err(PrivateFileError::Missing(_)) => {
            let mut fresh = Zeroizing::new([0; 64]);
            rand::fill(fresh.as_mut_slice());
            match create(path, fresh.as_slice()) {
                Err(PrivateFileError::Exists(_)) => read(path)?,
                created => return created.map(|()| fresh),
            }
        }
        kept => kept?,
    };
    let secret = <[u8; 64]>::try_from(kept.as_slice()).map_err(|_| PrivateFileError::NotASecret(path.to_owned()))?;
    Ok(Zeroizing::new(secret))
}

/// The draft of `path`, beside it so that both are on one file system; its name differs in every process.
fn draft_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.{:08x}", std::process::id(), rand::random::<u32>()));
    path.with_file_name(name)
}

fn write_draft(draft: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// Makes the directory (and its parents) with mode 0700 if there is none, and refuses one that others may write to.
pub(crate) fn open_directory(path: &Path) -> Result<(), PrivateFileError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error("make the directory", path))?;
    let mode = fs::metadata(path).map_err(io_error("read", path))?.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(PrivateFileError::DirectoryTooOpen { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_made_once_for_its_owner_and_without_leftovers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&path, b"one").unwrap();
        assert!(matches!(create(&path, b"two"), Err(PrivateFileError::Exists(_))));
        assert_eq!(*read(&path).unwrap(), b"one");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_others_may_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&path, b"one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("(mode 0640): run 'chmod 600 ") && error.contains("key'"), "{error}");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = open_directory(dir.path()).unwrap_err().to_string();
        assert!(error.contains("(mode 0777): run 'chmod 700 "), "{error}");
    }

    #[test]
    fn a_pipe_is_refused_without_waiting_for_its_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(matches!(read(&path), Err(PrivateFileError::NotAFile(_))));
    }

    #[test]
    fn a_secret_stays_the_same_and_a_damaged_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let first = open_or_create_secret(&path).unwrap();
        assert_ne!(*first, [0; 64]);
        assert_eq!(*open_or_create_secret(&path).unwrap(), *first);
        fs::write(&path, "short").unwrap();
        assert!(open_or_create_secret(&path).unwrap_err().to_string().contains("secret is no secret of 64 bytes"));
    }

    #[test]
    fn a_missing_file_and_a_directory_are_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read(&dir.path().join("none")), Err(PrivateFileError::Missing(_))));
        assert!(matches!(read(dir.path()), Err(PrivateFileError::NotAFile(_))));
    }
}
