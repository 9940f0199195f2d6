//! The command's end of the control socket: blocking, because a command does one thing.
//! Before: [`crate::commands`]; after: `tunnel::control::server` in the session's process.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use tunnel::control::{
    message::{MAX_REPLY_BYTES, Reply, Request},
    state_dir::{LastWords, StateDir},
    status::{Status, unix_now},
};

use crate::{
    exit::{Exit, Failure},
    text,
};

/// A session that does not answer within this is stuck: it answers from memory, in less than a millisecond.
const PATIENCE: Duration = Duration::from_secs(5);

/// How to start a session.
const CONNECT: &str = "adit connect --gateway HOST:PORT --identity FILE";

/// One request in progress.
#[derive(Debug)]
pub struct Conversation {
    replies: BufReader<UnixStream>,
}

/// Asks the session of `dir`.
///
/// # Errors
/// [`Exit::NotConnected`] when there is none, [`Exit::Failed`] when it does not answer.
pub fn ask(dir: &StateDir, request: &Request) -> Result<Conversation, Failure> {
    let mut stream = UnixStream::connect(dir.socket()).map_err(|error| unconnected(dir, &error))?;
    let mut line = serde_json::to_vec(request).expect("a request is JSON");
    line.push(b'\n');
    let sent = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.write_all(&line));
    sent.map_err(|error| stuck(dir, &error))?;
    Ok(Conversation { replies: BufReader::new(stream) })
}

/// The status of the session of `dir`.
///
/// # Errors
/// As [`ask`].
pub fn status(dir: &StateDir) -> Result<Status, Failure> {
    match ask(dir, &Request::Status)?.next(dir)? {
        Some(Reply::Status(status)) => Ok(*status),
        Some(Reply::Leaving | Reply::Mirror { .. } | Reply::Printed { .. }) | None => Err(not_connected(dir)),
        Some(Reply::Refused { reason }) => Err(Failure::new(Exit::Failed, reason)),
    }
}

impl Conversation {
    /// The next reply, `None` when the session ended the conversation.
    ///
    /// # Errors
    /// [`Exit::Failed`] when the session falls silent or answers nonsense.
    pub fn next(&mut self, dir: &StateDir) -> Result<Option<Reply>, Failure> {
        let mut line = Vec::new();
        let mut reader = self.replies.by_ref().take(MAX_REPLY_BYTES as u64);
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => Ok(None),
            Ok(_) => serde_json::from_slice(&line).map(Some).map_err(|_| {
                let message =
                    format!("the session in {} answers in a way this adit does not know", dir.path().display());
                Failure::new(Exit::Failed, message).try_this("adit quit && adit connect ..., with one version of adit")
            }),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(stuck(dir, &error)),
        }
    }

    /// The socket itself, to end the conversation from another thread.
    pub fn socket(&self) -> io::Result<UnixStream> {
        self.replies.get_ref().try_clone()
    }

    /// How long [`Conversation::next`] waits.
    pub fn set_patience(&self, patience: Duration) {
        // Fails only for zero, which nobody asks for.
        let _ = self.replies.get_ref().set_read_timeout(Some(patience));
    }
}

fn unconnected(dir: &StateDir, error: &io::Error) -> Failure {
    let absent = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
    if absent && dir.is_held() {
        let message = format!("the session in {} is only starting or ending", dir.path().display());
        return Failure::new(Exit::NotConnected, message).try_this("adit status, in a moment");
    }
    if absent {
        return not_connected(dir);
    }
    if error.kind() == io::ErrorKind::PermissionDenied {
        let message = format!("the session in {} belongs to another user", dir.path().display());
        return Failure::new(Exit::NoPrivilege, message).try_this("sudo adit ...");
    }
    stuck(dir, error)
}

/// There is no session: how the last one ended, or how to start one.
pub(crate) fn not_connected(dir: &StateDir) -> Failure {
    if let Some(words) = dir.last_words() {
        return ended(dir, words);
    }
    let failure = Failure::new(Exit::NotConnected, format!("not connected (no session in {})", dir.path().display()));
    let of_root = Path::new("/run/adit");
    if dir.path() != of_root && of_root.exists() {
        failure.try_this("sudo adit status, if root connected; else adit connect")
    } else {
        failure.try_this(CONNECT)
    }
}

fn ended(dir: &StateDir, words: LastWords) -> Failure {
    let ago = words.ended_unix.map(|ended| Duration::from_secs(unix_now().saturating_sub(ended)));
    let when = ago.map_or_else(|| "has ended".to_owned(), |ago| format!("ended {} ago", text::whole_seconds(ago)));
    let (dir, log) = (dir.path().display(), words.log_file.display());
    Failure::new(
        Exit::NotConnected,
        format!("not connected: the session in {dir} {when}: {}; its log is {log}", words.reason),
    )
    .try_this(words.remedy.unwrap_or_else(|| CONNECT.to_owned()))
}

fn stuck(dir: &StateDir, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("the session in {} does not answer: {error}", dir.path().display()))
        .try_this(format!("see {}", dir.log_file().display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_ended_by_itself_is_told_with_when_why_and_where() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::new(root.path().join("adit"));
        let lock = dir.lock().unwrap();
        dir.leave_words(&lock, "the device is gone".to_owned(), Some("look at the device".to_owned())).unwrap();
        drop(lock);
        let failure = status(&dir).unwrap_err();
        assert_eq!(failure.exit, Exit::NotConnected);
        for word in ["ended 0 s ago", "the device is gone", "session.log"] {
            assert!(failure.message.contains(word), "{failure}");
        }
        assert_eq!(failure.remedy.as_deref(), Some("look at the device"));
    }
}
