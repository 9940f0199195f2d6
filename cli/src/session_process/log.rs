//! The session's log: a file of bounded size that never stops the session. What cannot be written is counted, and `adit status` shows
//! the count. Before: `tracing`; after: the disk.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use tracing_subscriber::EnvFilter;
use tunnel::control::status::SessionStatus;

/// At this size the log becomes `session.log.1` and a new one is begun: 8 MiB in all, days at INFO, in a directory that is often memory.
const ROTATE_BYTES: u64 = 4 << 20;

/// Sends what the session traces to `path`.
pub(super) fn start(path: &Path, filter: &str, status: &Arc<SessionStatus>) {
    let log = LogFile::open(path, ROTATE_BYTES, Arc::clone(status));
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(Mutex::new(log));
    // One is already there only in a test that runs two sessions in a process: the first one's log then holds both.
    let _ = subscriber.try_init();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "the session starts");
}

/// A log file that rotates.
struct LogFile {
    path: PathBuf,
    rotate_bytes: u64,
    open: Option<(File, u64)>,
    status: Arc<SessionStatus>,
}

impl LogFile {
    fn open(path: &Path, rotate_bytes: u64, status: Arc<SessionStatus>) -> Self {
        Self { path: path.to_owned(), rotate_bytes, open: reopen(path).ok(), status }
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.open.as_ref().is_some_and(|(_, written)| *written >= self.rotate_bytes) {
            self.open = None;
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
        }
        if self.open.is_none() {
            self.open = Some(reopen(&self.path)?);
        }
        let (file, written) = self.open.as_mut().expect("was opened above");
        file.write_all(line)?;
        *written += line.len() as u64;
        Ok(())
    }
}

fn reopen(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)?;
    let written = file.metadata()?.len();
    Ok((file, written))
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // A full disk must not reach whoever logs: the line is lost and counted.
        if self.append(line).is_err() {
            self.status.log_failures.increment();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_rotates_and_stays_within_two_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("session.log");
        let mut log = LogFile::open(&path, 100, Arc::default());
        for _ in 0..50 {
            log.write_all(&[b'x'; 30]).unwrap();
        }
        assert!(fs::metadata(&path).unwrap().len() <= 130);
        assert!(fs::metadata(dir.path().join("session.log.1")).unwrap().len() <= 130);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_full_disk_loses_lines_and_nothing_else() {
        let status = Arc::<SessionStatus>::default();
        let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut log = LogFile {
            path: "/dev/full".into(),
            rotate_bytes: u64::MAX,
            open: Some((file, 0)),
            status: Arc::clone(&status),
        };
        log.write_all(b"line\n").unwrap();
        assert_eq!(status.log_failures.value(), 1);
    }
}
