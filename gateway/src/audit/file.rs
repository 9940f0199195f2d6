//! [`Writer`]: the audit's file, written by a thread of its own, since a disk may take its time.
//!
//! The file is 0600, only appended to, and no link is followed to it. It is opened anew on demand, for log rotation by renaming. A line that cannot be
//! written is lost and counted; the log says so once, until one can be written again. Before: [`super::Audit`].

use std::{
    fs::{File, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use nix::{errno::Errno, fcntl::OFlag};
use prometheus_client::metrics::counter::Counter;
use thiserror::Error;
use tokio::{sync::oneshot, time::timeout};

/// Lines that wait for the disk, about a mebibyte; more are lost and counted.
const QUEUE_LINES: usize = 4_096;
/// A gateway that ends waits this long for the disk.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The file of the audit cannot be used.
#[derive(Debug, Error)]
pub enum AuditError {
    /// The system does not let it be opened.
    #[error("cannot open the audit {}: make its directory, or correct `audit` in gateway.toml", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A link could lead anywhere.
    #[error("the audit {} is a symbolic link: give the file itself in gateway.toml", .0.display())]
    Link(PathBuf),
    /// A pipe or a device.
    #[error("the audit {} is no regular file: give another in gateway.toml", .0.display())]
    NotAFile(PathBuf),
    /// No thread can be made.
    #[error("cannot make a thread for the audit")]
    Thread(#[source] io::Error),
}

enum Order {
    Line(String),
    /// Nothing but to look whether the file is to be opened anew.
    Wake,
    /// To be dropped once everything before it is in the file.
    Flush(oneshot::Sender<()>),
}

/// The sending end.
#[derive(Debug)]
pub(super) struct Writer {
    orders: SyncSender<Order>,
    must_reopen: Arc<AtomicBool>,
    lost: Counter,
}

impl Writer {
    pub(super) fn start(path: &Path, lost: Counter) -> Result<Self, AuditError> {
        let file = AuditFile {
            file: open(path)?,
            path: path.to_owned(),
            lost: lost.clone(),
            is_torn: false,
            is_failing: false,
        };
        let (orders, taken) = sync_channel(QUEUE_LINES);
        let must_reopen = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&must_reopen);
        // It ends when the sending end is dropped.
        let thread = thread::Builder::new().name("audit".to_owned()).spawn(move || file.serve(&taken, &flag));
        thread.map_err(AuditError::Thread)?;
        Ok(Self { orders, must_reopen, lost })
    }

    pub(super) fn write(&self, line: String) {
        if self.orders.try_send(Order::Line(line)).is_err() {
            self.lost.inc();
        }
    }

    pub(super) fn reopen(&self) {
        self.must_reopen.store(true, Ordering::Release);
        // A full queue has lines, and each of them looks.
        let _ = self.orders.try_send(Order::Wake);
    }

    pub(super) async fn flush(&self) {
        let (flushed, wait) = oneshot::channel();
        // A queue that is full is not emptied in time either.
        if self.orders.try_send(Order::Flush(flushed)).is_ok() {
            let _ = timeout(FLUSH_TIMEOUT, wait).await;
        }
    }
}

/// The writing end.
struct AuditFile {
    file: File,
    path: PathBuf,
    lost: Counter,
    /// The last line is there in part: the next begins with a line break.
    is_torn: bool,
    is_failing: bool,
}

impl AuditFile {
    fn serve(mut self, orders: &Receiver<Order>, must_reopen: &AtomicBool) {
        for order in orders {
            if must_reopen.swap(false, Ordering::Acquire) {
                self.reopen();
            }
            match order {
                Order::Line(line) => self.write(&line),
                Order::Wake => {}
                Order::Flush(flushed) => drop(flushed),
            }
        }
    }

    fn write(&mut self, line: &str) {
        let text = format!("{}{line}\n", if self.is_torn { "\n" } else { "" });
        match write_whole(&mut self.file, text.as_bytes()) {
            Ok(()) => (self.is_torn, self.is_failing) = (false, false),
            Err((written, error)) => {
                self.lost.inc();
                // A lone line break that was written has mended the tear.
                self.is_torn = if written == 0 { self.is_torn } else { !(self.is_torn && written == 1) };
                if !self.is_failing {
                    self.is_failing = true;
                    tracing::error!(path = %self.path.display(), %error, "audit lines are lost: make room, or correct the file");
                }
            }
        }
    }

    /// What cannot be opened leaves the lines where they went until now.
    fn reopen(&mut self) {
        match open(&self.path) {
            Ok(file) => (self.file, self.is_torn) = (file, false),
            Err(error) => tracing::error!(%error, "the audit goes on in the file that was moved away"),
        }
    }
}

/// Writes all of it, or says how much was written until the error.
fn write_whole(file: &mut impl Write, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<File, AuditError> {
    // A pipe without a reader would be waited for; it is told apart below.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let opened = File::options().append(true).create(true).mode(0o600).custom_flags(flags.bits()).open(path);
    let failed = |source| AuditError::Open { path: path.to_owned(), source };
    let file = opened.map_err(|source| {
        let is_link = source.raw_os_error() == Some(Errno::ELOOP as i32);
        if is_link { AuditError::Link(path.to_owned()) } else { failed(source) }
    })?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(AuditError::NotAFile(path.to_owned()));
    }
    if metadata.mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests;
