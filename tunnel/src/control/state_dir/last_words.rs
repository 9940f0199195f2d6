//! [`LastWords`]: how the last session of a state directory ended, for whoever asks when it is gone. A session that was told to quit
//! leaves none. The next session removes them, and so does `adit quit` once it has shown them.
//! Before: `cli::session_process`; after: `cli::ipc`.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use super::{SessionLock, StateDir};
use crate::control::status::unix_now;

/// Longer words are not read: what a session leaves is some sentences.
const MAX_WORDS_BYTES: u64 = 16 << 10;

/// How a session ended that nobody told to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastWords {
    /// When, in seconds since 1970-01-01 UTC; `None` for one that was killed and could not say.
    pub ended_unix: Option<u64>,
    /// Why.
    pub reason: String,
    /// What the user can do about it.
    pub remedy: Option<String>,
    /// The session's log.
    pub log_file: PathBuf,
}

impl StateDir {
    /// Writes why the session that holds `_lock` ends.
    ///
    /// # Errors
    /// The kernel's: a full disk, most likely. The log may still have them.
    pub fn leave_words(&self, _lock: &SessionLock, reason: String, remedy: Option<String>) -> io::Result<()> {
        let words = LastWords { ended_unix: Some(unix_now()), reason, remedy, log_file: self.log_file() };
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        Ok(serde_json::to_writer(options.open(self.words_file())?, &words)?)
    }

    /// How the last session ended, if it was not told to; `None` also while another one lives here.
    pub fn last_words(&self) -> Option<LastWords> {
        self.written_words().or_else(|| {
            let pid = self.pid().parse::<u32>().ok().filter(|_| !self.is_held())?;
            let reason = format!("it was killed or crashed (pid {pid})");
            Some(LastWords { ended_unix: None, reason, remedy: None, log_file: self.log_file() })
        })
    }

    /// Removes them.
    pub fn forget_words(&self) {
        if self.last_words().is_some() {
            // To become the session is to remove what the last one left; to be one no more is to leave nothing. A session that
            // was quicker has removed them already.
            drop(self.lock());
        }
    }

    pub(super) fn words_file(&self) -> PathBuf {
        self.path().join("last-words.json")
    }

    fn written_words(&self) -> Option<LastWords> {
        let mut text = String::new();
        File::open(self.words_file()).ok()?.take(MAX_WORDS_BYTES).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn fresh() -> (tempfile::TempDir, StateDir) {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::new(root.path().join("adit"));
        (root, dir)
    }

    #[test]
    fn last_words_outlive_the_session_until_the_next_one() {
        let (_root, dir) = fresh();
        assert_eq!(dir.last_words(), None);
        let lock = dir.lock().unwrap();
        dir.leave_words(&lock, "the device is gone".to_owned(), Some("adit connect".to_owned())).unwrap();
        drop(lock);
        let words = dir.last_words().unwrap();
        assert_eq!((words.reason.as_str(), words.remedy.as_deref()), ("the device is gone", Some("adit connect")));
        assert!(words.ended_unix.is_some_and(|ended| ended <= unix_now()) && words.log_file == dir.log_file());
        let _next = dir.lock().unwrap();
        assert_eq!(dir.last_words(), None);
    }

    #[test]
    fn a_killed_session_is_told_by_its_pid_file() {
        let (_root, dir) = fresh();
        let lock = dir.lock().unwrap();
        assert_eq!(dir.last_words(), None, "it lives");
        drop(lock);
        assert_eq!(dir.last_words(), None, "it ended in order");
        fs::write(dir.pid_file(), "4194304\n").unwrap();
        let words = dir.last_words().unwrap();
        assert!(words.reason.contains("killed") && words.reason.contains("4194304"), "{words:?}");
        dir.forget_words();
        assert_eq!(dir.last_words(), None);
    }

    #[test]
    fn a_session_that_panics_counts_as_killed() {
        let (_root, dir) = fresh();
        let panicked = std::thread::spawn({
            let dir = dir.clone();
            move || {
                let _lock = dir.lock().unwrap();
                panic!("as a session would");
            }
        });
        panicked.join().unwrap_err();
        assert!(dir.last_words().unwrap().reason.contains("crashed"));
    }

    #[test]
    fn words_that_are_nonsense_are_none() {
        let (_root, dir) = fresh();
        drop(dir.lock().unwrap());
        fs::write(dir.words_file(), "{\"ended_unix\": 1, \"rea").unwrap();
        assert_eq!(dir.last_words(), None);
    }
}
