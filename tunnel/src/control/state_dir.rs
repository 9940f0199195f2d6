//! The directory that is a session's identity on this machine: its lock, its socket, its log. One directory, one session at a time.
//!
//! The lock is an OFD lock on the pid file (fcntl(2)): the kernel releases it however the session ends, what a killed session left
//! behind is recognised by a lock that can be had, and looking whether it is held does not take it. The pid file is never
//! unlinked: two starters could then lock two files.
//! Before: `cli`; after: [`super::server`], [`super::message`].

mod fault;
mod last_words;

use std::{
    env,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    unistd::geteuid,
};

pub use self::{fault::StateDirError, last_words::LastWords};

/// Where a session keeps its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir(PathBuf);

/// The right to be the session of a state directory, held until dropped.
#[derive(Debug)]
pub struct SessionLock {
    file: File,
}

impl StateDir {
    /// `ADIT_STATE_DIR`, else `/run/adit` for root, else `$XDG_RUNTIME_DIR/adit`.
    ///
    /// # Errors
    /// [`StateDirError::NoPlace`] for a user without a runtime directory.
    pub fn from_environment() -> Result<Self, StateDirError> {
        let non_empty = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(dir) = non_empty("ADIT_STATE_DIR") {
            return std::path::absolute(&dir).map(Self).map_err(|source| StateDirError::Io { dir, source });
        }
        if geteuid().is_root() {
            return Ok(Self(PathBuf::from("/run/adit")));
        }
        non_empty("XDG_RUNTIME_DIR").map(|dir| Self(dir.join("adit"))).ok_or(StateDirError::NoPlace)
    }

    /// A given directory.
    pub const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    /// The session's log.
    pub fn log_file(&self) -> PathBuf {
        self.0.join("session.log")
    }

    fn pid_file(&self) -> PathBuf {
        self.0.join("session.pid")
    }

    /// Makes the directory, only for its owner, or checks that the one which exists is so.
    ///
    /// # Errors
    /// [`StateDirError::Open`] or [`StateDirError::Io`].
    pub fn prepare(&self) -> Result<(), StateDirError> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0).map_err(|source| self.io(source))?;
        let metadata = fs::symlink_metadata(&self.0).map_err(|source| self.io(source))?;
        let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
        let is_ours = owner == geteuid().as_raw();
        let why = match (metadata.is_dir(), is_ours) {
            (false, _) => "it is no directory".to_owned(),
            (true, false) => format!("it belongs to uid {owner}"),
            (true, true) if mode & 0o077 == 0 => return Ok(()),
            (true, true) => format!("its mode is {mode:o}"),
        };
        let can_be_closed = metadata.is_dir() && is_ours && mode & 0o1000 == 0;
        Err(StateDirError::Open { dir: self.0.clone(), why, can_be_closed })
    }

    /// Becomes the session of this directory, and removes what the last one left: its words, and its socket if it was killed.
    ///
    /// # Errors
    /// [`StateDirError::Busy`] at once when a session lives there, else as [`StateDir::prepare`].
    pub fn lock(&self) -> Result<SessionLock, StateDirError> {
        self.prepare()?;
        let mut file = self.open_pid_file().map_err(|source| self.io(source))?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())) {
            Ok(_) => {}
            Err(Errno::EAGAIN | Errno::EACCES) => {
                return Err(StateDirError::Busy { dir: self.0.clone(), pid: self.pid() });
            }
            Err(errno) => return Err(self.io(errno.into())),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        // The number is for people, the lock is what counts: a full disk must not keep a session from starting.
        let _ = write(&mut file);
        for left_behind in [self.socket(), self.words_file()] {
            match fs::remove_file(left_behind) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.io(error)),
                _ => {}
            }
        }
        Ok(SessionLock { file })
    }

    /// Whether a session holds the lock, which is the truth even after a SIGKILL.
    pub fn is_held(&self) -> bool {
        let Ok(file) = File::options().read(true).write(true).open(self.pid_file()) else { return false };
        let mut lock = whole_file();
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock)).is_ok() && lock.l_type != UNLOCKED
    }

    fn open_pid_file(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        options.open(self.pid_file())
    }

    fn pid(&self) -> String {
        let mut text = String::new();
        let read = File::open(self.pid_file()).and_then(|file| file.take(32).read_to_string(&mut text));
        let pid = text.trim();
        if read.is_ok() && !pid.is_empty() { pid.to_owned() } else { "unknown".to_owned() }
    }

    fn io(&self, source: io::Error) -> StateDirError {
        StateDirError::Io { dir: self.0.clone(), source }
    }
}

impl Drop for SessionLock {
    fn drop(&mut self) {
        // An empty pid file says that the session ended in order; the lock itself goes with the descriptor.
        if !std::thread::panicking() {
            let _ = self.file.set_len(0);
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "lock kinds and whences are 0, 1 and 2")]
const UNLOCKED: libc::c_short = libc::F_UNLCK as libc::c_short;

/// An exclusive lock of a whole file, however long it is.
#[expect(clippy::cast_possible_truncation, reason = "lock kinds and whences are 0, 1 and 2")]
const fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Restricts a file that was just made to its owner.
pub(crate) fn restrict(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> (tempfile::TempDir, StateDir) {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::new(root.path().join("adit"));
        (root, dir)
    }

    #[test]
    fn a_second_session_is_told_who_holds_the_directory() {
        let (_root, dir) = fresh();
        let lock = dir.lock().unwrap();
        assert!(dir.is_held());
        let error = dir.lock().unwrap_err();
        assert!(error.to_string().ends_with(&format!("(pid {})", std::process::id())), "{error}");
        drop(lock);
        assert!(!dir.is_held());
        dir.lock().unwrap();
    }

    #[test]
    fn the_directory_and_its_files_are_only_for_their_owner() {
        let (_root, dir) = fresh();
        let _lock = dir.lock().unwrap();
        assert_eq!(fs::metadata(dir.path()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(dir.pid_file()).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_directory_open_to_others_is_refused_with_the_remedy() {
        let (_root, dir) = fresh();
        dir.prepare().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let error = dir.lock().unwrap_err();
        assert!(error.to_string().contains("755") && error.remedy().starts_with("chmod 700 "), "{error}");
    }

    #[test]
    fn what_a_killed_session_left_is_replaced() {
        let (_root, dir) = fresh();
        dir.prepare().unwrap();
        fs::write(dir.pid_file(), "4194304\n").unwrap();
        fs::write(dir.socket(), "").unwrap();
        let _lock = dir.lock().unwrap();
        assert!(!dir.socket().exists());
        assert_eq!(dir.pid(), std::process::id().to_string());
    }
}
