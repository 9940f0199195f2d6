//! The session's end of the control socket.
//!
//! 1. [`Server::bind`] makes the socket, mode 0600, in the locked state directory.
//! 2. [`Server::serve`] accepts; a peer of another user is dropped unread.
//! 3. `answer` reads one [`Request`] and writes its [`Reply`]s.
//!
//! Before: `cli::ipc` in another process; after: [`super::status`], [`crate::mirror`].

use std::{io, sync::Arc, time::Duration};

use nix::unistd::geteuid;
use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::{
    message::{MAX_REQUEST_BYTES, MIN_WATCH_INTERVAL, Reply, Request},
    state_dir::{StateDir, restrict},
    status::{SessionStatus, State},
};
use crate::mirror::commands;

/// Commands served at once; a further one waits in the listener's backlog until one of these ends.
const MAX_COMMANDS: usize = 32;

/// A command that neither writes its request nor reads its reply for this long is cut off, so it cannot hold one of the places.
const PATIENCE: Duration = Duration::from_secs(5);

/// Events that are told in one line.
const EVENTS_A_LINE: usize = 256;

/// A line is sent at least so often, even without an event.
const PRINT_INTERVAL: Duration = Duration::from_secs(2);

/// The listening socket of a session.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    status: Arc<SessionStatus>,
    quit: CancellationToken,
}

impl Server {
    /// Listens in `dir`, whose lock the caller holds. `quit` is cancelled when a command asks the session to end.
    ///
    /// # Errors
    /// What the kernel says about the socket. Needs a tokio runtime.
    pub fn bind(dir: &StateDir, status: Arc<SessionStatus>, quit: CancellationToken) -> io::Result<Self> {
        let path = dir.socket();
        // The directory is 0700, so nobody else gets in between the two steps.
        let listener = UnixListener::bind(&path)?;
        restrict(&path)?;
        Ok(Self { listener, status, quit })
    }

    /// Serves until `stop`, which must come after the session itself has ended: whoever asked to quit waits for that.
    pub async fn serve(self, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let places = Arc::new(Semaphore::new(MAX_COMMANDS));
        while let Some(Some((stream, place))) = stop.run_until_cancelled(self.accept(&places)).await {
            let command = Command { status: Arc::clone(&self.status), quit: self.quit.clone() };
            let stop = stop.clone();
            tasks.spawn(async move {
                let ended = stop.run_until_cancelled(command.answer(stream, &stop)).await;
                if let Some(Err(error)) = ended {
                    debug!(%error, "a command went away");
                }
                drop(place);
            });
        }
        tasks.close();
        tasks.wait().await;
    }

    async fn accept(&self, places: &Arc<Semaphore>) -> Option<(UnixStream, OwnedSemaphorePermit)> {
        loop {
            let place = Arc::clone(places).acquire_owned().await.ok()?;
            match self.listener.accept().await {
                Ok((stream, _)) if is_allowed(&stream) => return Some((stream, place)),
                Ok(_) => warn!("a command of another user was turned away"),
                Err(error) => {
                    // Out of descriptors, usually: the backlog keeps the command, so trying again later is enough.
                    warn!(%error, "a command cannot be accepted");
                    tokio::time::sleep(MIN_WATCH_INTERVAL).await;
                }
            }
        }
    }
}

/// The directory's mode already keeps others out; this holds even if someone opens it up.
fn is_allowed(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == geteuid().as_raw())
}

struct Command {
    status: Arc<SessionStatus>,
    quit: CancellationToken,
}

impl Command {
    async fn answer(&self, stream: UnixStream, stop: &CancellationToken) -> io::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader.take(MAX_REQUEST_BYTES as u64));
        let mut line = Vec::new();
        timeout(PATIENCE, reader.read_until(b'\n', &mut line)).await??;
        if line.len() >= MAX_REQUEST_BYTES && !line.ends_with(b"\n") {
            let reason = format!("the request is longer than {MAX_REQUEST_BYTES} bytes: ask for less at once");
            return send(&mut writer, &Reply::Refused { reason }).await;
        }
        match serde_json::from_slice(&line).unwrap_or(Request::Unknown) {
            Request::Status => send(&mut writer, &self.reply()).await,
            Request::Watch { interval_millis } => {
                let mut ticks = interval(Duration::from_millis(interval_millis).max(MIN_WATCH_INTERVAL));
                loop {
                    ticks.tick().await;
                    send(&mut writer, &self.reply()).await?;
                }
            }
            Request::Quit => {
                self.status.enter(State::Leaving, None);
                self.quit.cancel();
                send(&mut writer, &Reply::Leaving).await?;
                stop.cancelled().await;
                Ok(())
            }
            Request::MirrorAdd { rules } => {
                let cluster = self.status.snapshot().summary.network.routes;
                let rules = commands::add(&self.status.mirror, rules, &cluster).await;
                let added: Vec<_> = rules.iter().filter_map(|reply| reply.id).collect();
                let told = send(&mut writer, &Reply::Mirror { rules }).await;
                commands::expect_watchers(&self.status.mirror, &added).await;
                told
            }
            Request::MirrorSwitch { on, which } => {
                let rules = commands::switch(&self.status.mirror, on, &which).await;
                send(&mut writer, &Reply::Mirror { rules }).await
            }
            Request::MirrorRemove { which } => {
                let rules = commands::remove(&self.status.mirror, &which).await;
                send(&mut writer, &Reply::Mirror { rules }).await
            }
            Request::Print { rules } => self.print(&rules, reader, &mut writer).await,
            Request::Unknown => {
                let reason =
                    format!("the session is adit {} and does not know this request", env!("CARGO_PKG_VERSION"));
                send(&mut writer, &Reply::Refused { reason }).await
            }
        }
    }

    /// Tells what arrives until the command goes away, or the rules do.
    async fn print(
        &self,
        rules: &[u32],
        mut reader: impl AsyncRead + Unpin,
        writer: &mut (impl AsyncWriteExt + Unpin),
    ) -> io::Result<()> {
        let Some(mut watcher) = commands::watch(&self.status.mirror, rules) else {
            let reason = "none of these rules is there any more: adit mirror list".to_owned();
            return send(writer, &Reply::Refused { reason }).await;
        };
        // The first line is empty: whoever asked knows by it that nothing is passed over from here on.
        let (mut events, mut lost) = (Vec::new(), 0);
        let printed = loop {
            if let Err(error) = send(writer, &Reply::Printed { events, lost }).await {
                break Err(error);
            }
            (events, lost) = tokio::select! {
                printed = timeout(PRINT_INTERVAL, watcher.next(EVENTS_A_LINE)) => match printed {
                    Ok(Some(printed)) => printed,
                    Ok(None) => break Ok(()),
                    Err(_) => (Vec::new(), 0),
                },
                // A command says nothing more: what can be read is its end.
                _ = reader.read_u8() => break Ok(()),
            };
        };
        commands::unwatch(&self.status.mirror, rules, watcher).await;
        printed
    }

    fn reply(&self) -> Reply {
        Reply::Status(Box::new(self.status.snapshot()))
    }
}

async fn send(writer: &mut (impl AsyncWriteExt + Unpin), message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    timeout(PATIENCE, writer.write_all(&line)).await?
}

#[cfg(test)]
mod tests {
    use std::{future::Future, os::unix::fs::MetadataExt};

    use super::*;

    async fn served<F: Future>(body: impl FnOnce(StateDir, Arc<SessionStatus>, CancellationToken) -> F) -> F::Output {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::new(root.path().join("adit"));
        let _lock = dir.lock().unwrap();
        let (status, quit, stop) =
            (Arc::<SessionStatus>::default(), CancellationToken::new(), CancellationToken::new());
        let server = Server::bind(&dir, Arc::clone(&status), quit.clone()).unwrap();
        let (output, ()) = tokio::join!(
            async {
                let output = body(dir, status, quit).await;
                stop.cancel();
                output
            },
            server.serve(stop.clone())
        );
        output
    }

    async fn ask(dir: &StateDir, request: &[u8]) -> BufReader<UnixStream> {
        let mut stream = UnixStream::connect(dir.socket()).await.unwrap();
        stream.write_all(request).await.unwrap();
        BufReader::new(stream)
    }

    async fn reply(stream: &mut BufReader<UnixStream>) -> Reply {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        serde_json::from_str(&line).unwrap()
    }

    #[tokio::test]
    async fn a_status_is_answered_and_the_connection_ends() {
        served(|dir, status, _| async move {
            assert_eq!(std::fs::metadata(dir.socket()).unwrap().mode() & 0o777, 0o600);
            status.flows.tcp_total.set(7);
            let mut stream = ask(&dir, b"{\"request\":\"status\"}\n").await;
            assert_eq!(reply(&mut stream).await, Reply::Status(Box::new(status.snapshot())));
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        })
        .await;
    }

    #[tokio::test]
    async fn a_watcher_sees_changes() {
        served(|dir, status, _| async move {
            let mut stream = ask(&dir, b"{\"request\":\"watch\",\"interval_millis\":0}\n").await;
            let _ = reply(&mut stream).await;
            status.flows.tcp_total.set(9);
            while !matches!(reply(&mut stream).await, Reply::Status(status) if status.flows.tcp_total == 9) {}
        })
        .await;
    }

    #[tokio::test]
    async fn quitting_is_told_and_waits_for_the_end() {
        served(|dir, status, quit| async move {
            let mut stream = ask(&dir, b"{\"request\":\"quit\"}\n").await;
            quit.cancelled().await;
            assert_eq!(reply(&mut stream).await, Reply::Leaving);
            assert_eq!(status.snapshot().summary.state, State::Leaving);
        })
        .await;
    }

    #[tokio::test]
    async fn nonsense_and_endless_requests_are_refused() {
        served(|dir, _, _| async move {
            for request in [b"nonsense\n".to_vec(), b"{\"request\":\"fly\"}\n".to_vec(), vec![b'x'; MAX_REQUEST_BYTES]]
            {
                let mut stream = ask(&dir, &request).await;
                assert!(matches!(reply(&mut stream).await, Reply::Refused { .. }));
            }
        })
        .await;
    }
}
