//! DNS over a byte stream: messages behind a 16-bit length (RFC 1035, 4.2.2), pipelined and answered in any order (RFC 7766).
//!
//! Owns framing and the connection's bounds, not the answers. Before: `outbound` (a captured TCP flow); after: `Resolver::answer`.

use std::{future::Future, io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

use super::wire::HEADER_BYTES;

/// Queries of one connection under way at a time: 32. When full, nothing more is read, so that TCP's window holds the program back.
pub const MAX_PIPELINED: usize = 32;

/// The next whole message must come, and an answer must be taken, within this time: 10 s. Stubs open a connection for each query, and
/// RFC 7766 asks for "a few seconds" of idleness.
pub const IDLE_TIME: Duration = Duration::from_secs(10);

/// Room for one read: some queries, or a piece of a large one.
const READ_BYTES: usize = 2048;

/// Reads one message; `None` when the stream ends before one begins.
///
/// Not safe to cancel: a message may have been read in part.
///
/// # Errors
/// `UnexpectedEof` when the stream ends within a message, and the stream's own errors.
pub async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut len = [0; 2];
    if stream.read(&mut len[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut len[1..]).await?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

/// Writes one message, length and content at once.
///
/// # Errors
/// `InvalidInput` for a message above 65,535 bytes, and the stream's own errors.
pub async fn write_message(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let len = u16::try_from(message.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut frame = Vec::with_capacity(2 + message.len());
    frame.extend_from_slice(&len.to_be_bytes());
    frame.extend_from_slice(message);
    stream.write_all(&frame).await?;
    stream.flush().await
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The program finished its side and has all answers, or [`IDLE_TIME`] passed in silence.
    Served,
    /// A message too short to be one, one that stayed unfinished, or answers that are not taken: the connection is to be reset.
    Misused,
}

/// Serves a connection until the program is done: each message goes to `answer`, each answer back as it gets ready.
///
/// The answers run on the current runtime and end with the returned future. A message that `answer` gives `None` for is skipped.
///
/// # Errors
/// The stream's own.
pub async fn serve<S, F>(stream: S, answer: impl Fn(Vec<u8>) -> F) -> io::Result<Ended>
where
    S: AsyncRead + AsyncWrite,
    F: Future<Output = Option<Vec<u8>>> + Send + 'static,
{
    let (reader, mut writer) = tokio::io::split(stream);
    let mut frames = Frames { reader, buffer: Vec::new() };
    let mut answers: JoinSet<Option<Vec<u8>>> = JoinSet::new();
    let mut deadline = Instant::now() + IDLE_TIME;
    let mut finished = false;
    while !(finished && answers.is_empty()) {
        let may_read = !finished && answers.len() < MAX_PIPELINED;
        tokio::select! {
            Some(answered) = answers.join_next() => {
                // An answer that panicked was none.
                let Some(message) = answered.ok().flatten() else { continue };
                match timeout(IDLE_TIME, write_message(&mut writer, &message)).await {
                    Ok(written) => written?,
                    Err(_elapsed) => return Ok(Ended::Misused),
                }
            }
            frame = timeout_at(deadline, frames.next()), if may_read => match frame {
                Ok(Ok(Some(message))) if message.len() >= HEADER_BYTES => drop(answers.spawn(answer(message))),
                Ok(Ok(Some(_))) => return Ok(Ended::Misused),
                Ok(Ok(None)) => finished = true,
                Ok(Err(error)) => return Err(error),
                Err(_elapsed) if frames.buffer.is_empty() => finished = true,
                Err(_elapsed) => return Ok(Ended::Misused),
            },
        }
        deadline = Instant::now() + IDLE_TIME;
    }
    writer.shutdown().await?;
    Ok(Ended::Served)
}

/// Cuts a stream into messages; safe to cancel, since what has come stays in the buffer.
struct Frames<R> {
    reader: R,
    /// Less than one message, or the beginning of the next: under 64 KiB and one read.
    buffer: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some((len, rest)) = self.buffer.split_first_chunk() {
                let len = usize::from(u16::from_be_bytes(*len));
                if let Some(message) = rest.get(..len) {
                    let message = message.to_vec();
                    self.buffer.drain(..2 + len);
                    return Ok(Some(message));
                }
            }
            self.buffer.reserve(READ_BYTES);
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                let whole = self.buffer.is_empty();
                return if whole { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use proptest::prelude::*;
    use tokio::sync::Semaphore;

    use super::*;

    fn message(number: usize) -> Vec<u8> {
        let mut message = vec![0; HEADER_BYTES];
        message.extend_from_slice(&number.to_be_bytes());
        message
    }

    #[tokio::test]
    async fn messages_are_answered_whatever_the_order() {
        let (mut program, ours) = tokio::io::duplex(1024);
        let gate = Arc::new(Semaphore::new(0));
        let served = serve(ours, |query| {
            let gate = Arc::clone(&gate);
            async move {
                if query == message(0) {
                    gate.acquire().await.unwrap().forget();
                }
                Some(query)
            }
        });
        let asks = async {
            for number in 0..3 {
                write_message(&mut program, &message(number)).await.unwrap();
            }
            for number in 1..3 {
                assert_eq!(read_message(&mut program).await.unwrap(), Some(message(number)));
            }
            gate.add_permits(1);
            assert_eq!(read_message(&mut program).await.unwrap(), Some(message(0)));
            program.shutdown().await.unwrap();
            assert_eq!(read_message(&mut program).await.unwrap(), None);
        };
        assert_eq!(tokio::join!(served, asks).0.unwrap(), Ended::Served);
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_only_asks_is_held_back() {
        let (mut program, ours) = tokio::io::duplex(64);
        let under_way = Arc::new(AtomicUsize::new(0));
        let served = serve(ours, |_query| {
            under_way.fetch_add(1, Ordering::Relaxed);
            std::future::pending()
        });
        let asks = async {
            for number in 0.. {
                if timeout(Duration::from_secs(60), write_message(&mut program, &message(number))).await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            _ = served => panic!("it never ends"),
            () = asks => assert_eq!(under_way.load(Ordering::Relaxed), MAX_PIPELINED),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_connection_and_a_torn_message_resets_it() {
        let (_program, ours) = tokio::io::duplex(64);
        assert_eq!(serve(ours, |_| async { None }).await.unwrap(), Ended::Served);
        let (mut program, ours) = tokio::io::duplex(64);
        program.write_all(&[0, 40, 1]).await.unwrap();
        assert_eq!(serve(ours, |_| async { None }).await.unwrap(), Ended::Misused);
        let (mut program, ours) = tokio::io::duplex(64);
        program.write_all(&[0, 1, 1]).await.unwrap();
        assert_eq!(serve(ours, |_| async { None }).await.unwrap(), Ended::Misused);
        let (mut program, ours) = tokio::io::duplex(64);
        program.write_all(&[0, 40, 1]).await.unwrap();
        drop(program);
        assert!(serve(ours, |_| async { None }).await.is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_a_panic(bytes: Vec<u8>) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let (mut program, ours) = tokio::io::duplex(1 << 17);
                program.write_all(&bytes).await.unwrap();
                program.shutdown().await.unwrap();
                let _ = serve(ours, |query| async { Some(query) }).await;
            });
        }
    }
}
