//! A steady stream of bytes to a pod, and beside it small requests: how fast the pod is, as another pod sees it.
//!
//! Before: [`super::mirror_tour`]; after: nothing. Blocking: two threads in the asking pod.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use super::{namespace::Namespace, pattern};

/// One upload's body: a few milliseconds of the rate.
const BODY_BYTES: u64 = 1 << 20;
/// Between two small requests.
const ASK_EVERY: Duration = Duration::from_millis(2);
/// A pod that does not answer within this is not measured.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the asking pod saw.
#[derive(Debug, Clone, Copy)]
pub struct Speed {
    /// Payload bits a second that the pod took.
    pub bits_per_second: f64,
    /// Of the small requests' times, the middle one.
    pub median: Duration,
    /// The time that one in a hundred exceeded.
    pub p99: Duration,
}

/// Uploads `rate` bits a second to `target` for a while, and times small requests on another connection meanwhile.
///
/// # Errors
/// What happens to the connections.
pub fn measure(from: &Namespace, target: SocketAddr, rate: f64, during: Duration) -> io::Result<Speed> {
    from.run(|| {
        thread::scope(|scope| {
            let uploads = scope.spawn(|| upload(target, rate, during));
            let mut times = ask(target, during)?;
            let bits_per_second = uploads.join().expect("an upload reports its errors")?;
            times.sort_unstable();
            let at = |share: usize| times[(times.len() - 1) * share / 100];
            Ok(Speed { bits_per_second, median: at(50), p99: at(99) })
        })
    })
}

fn connect(target: SocketAddr) -> io::Result<(TcpStream, BufReader<TcpStream>)> {
    let stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let answers = BufReader::new(stream.try_clone()?);
    Ok((stream, answers))
}

#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
fn upload(target: SocketAddr, rate: f64, during: Duration) -> io::Result<f64> {
    let (mut requests, mut answers) = connect(target)?;
    let (begun, mut sent) = (Instant::now(), 0_u64);
    while begun.elapsed() < during {
        write!(requests, "POST /upload HTTP/1.1\r\nhost: pod\r\ncontent-length: {BODY_BYTES}\r\n\r\n")?;
        let mut left = BODY_BYTES;
        while left > 0 {
            let chunk = pattern::slice(BODY_BYTES - left, usize::try_from(left.min(64 << 10)).unwrap_or_default());
            requests.write_all(&chunk)?;
            left -= chunk.len() as u64;
        }
        answer(&mut answers)?;
        sent += BODY_BYTES;
        let due = Duration::from_secs_f64(sent as f64 * 8.0 / rate);
        thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    Ok(sent as f64 * 8.0 / begun.elapsed().as_secs_f64())
}

fn ask(target: SocketAddr, during: Duration) -> io::Result<Vec<Duration>> {
    let (mut requests, mut answers) = connect(target)?;
    let (begun, mut times) = (Instant::now(), Vec::new());
    while begun.elapsed() < during || times.is_empty() {
        let asked = Instant::now();
        requests.write_all(b"GET / HTTP/1.1\r\nhost: pod\r\n\r\n")?;
        answer(&mut answers)?;
        times.push(asked.elapsed());
        thread::sleep(ASK_EVERY.saturating_sub(asked.elapsed()));
    }
    Ok(times)
}

/// Reads an answer whose length its head says, and gives its status.
pub fn answer(answers: &mut BufReader<TcpStream>) -> io::Result<u16> {
    let (mut status, mut length, mut line) = (0, 0, String::new());
    loop {
        line.clear();
        if answers.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = line.trim_end();
        if let Some(rest) = text.strip_prefix("HTTP/1.1 ") {
            status = rest.split(' ').next().and_then(|code| code.parse().ok()).unwrap_or_default();
        }
        if let Some(value) = text.strip_prefix("content-length: ") {
            length = value.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        }
        if text.is_empty() {
            break;
        }
    }
    io::copy(&mut io::Read::take(answers, length), &mut io::sink())?;
    Ok(status)
}
