//! A small HTTP/1.1 server.
//!
//! | request | answer |
//! |---|---|
//! | `GET /`, `GET /greet/...` | a line that names the service and the address the request came from |
//! | `GET /bytes/N` | N bytes of [`super::pattern`] |
//! | `POST /upload` | `N intact` or `N differs at M` about the body, checked against the pattern |
//! | anything else | 404 |
//!
//! What it was asked can be kept in a [`RequestLog`]. Next in the flow: [`super::services`].

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Instant,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Frame, Incoming, SizeHint},
    header::CONTENT_TYPE,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{
    echo::accept_each,
    pattern::{self, Checker},
    services::Supervisor,
};

/// Bytes handed to the connection at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// Requests that a log keeps; the oldest go, and are only counted.
const KEPT_REQUESTS: usize = 4_096;

type Answer = Response<Either<Full<Bytes>, PatternBody>>;

/// What a server was asked. Clones are the same log.
#[derive(Debug, Clone, Default)]
pub struct RequestLog {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    requests: VecDeque<Seen>,
    total: u64,
    malformed: u64,
}

/// A request that a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Method and path.
    pub line: String,
    /// The status and the first line of the answer, which says whether a body came whole.
    pub answer: String,
    /// When its head had come.
    pub at: Instant,
}

impl RequestLog {
    /// The requests, the latest last.
    pub fn requests(&self) -> Vec<Seen> {
        self.lock().requests.iter().cloned().collect()
    }

    /// How many there were.
    pub fn total(&self) -> u64 {
        self.lock().total
    }

    /// Connections on which something came that is no request.
    pub fn malformed(&self) -> u64 {
        self.lock().malformed
    }

    fn add(&self, seen: Seen) {
        let mut inner = self.lock();
        inner.total += 1;
        if inner.requests.len() == KEPT_REQUESTS {
            inner.requests.pop_front();
        }
        inner.requests.push_back(seen);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves on `address`, calling itself `name`.
pub fn serve(supervisor: &Supervisor, address: SocketAddr, name: &str) -> io::Result<()> {
    serve_logged(supervisor, address, name, RequestLog::default())
}

/// The same, with a log of what is asked.
pub fn serve_logged(supervisor: &Supervisor, address: SocketAddr, name: &str, log: RequestLog) -> io::Result<()> {
    let name: Arc<str> = name.into();
    accept_each(supervisor, address, move |stream| serve_connection(stream, Arc::clone(&name), log.clone()))
}

async fn serve_connection(stream: TcpStream, name: Arc<str>, log: RequestLog) {
    let Ok(peer) = stream.peer_addr() else { return };
    let requests = log.clone();
    let service = service_fn(move |request| {
        let (name, log) = (Arc::clone(&name), requests.clone());
        async move { Ok::<_, Infallible>(logged(request, &name, peer, &log).await) }
    });
    // What a client does to its own connection is no concern of the server's, unless it is no HTTP.
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
        && error.is_parse()
    {
        log.lock().malformed += 1;
    }
}

async fn logged(request: Request<Incoming>, name: &str, peer: SocketAddr, log: &RequestLog) -> Answer {
    let (line, at) = (format!("{} {}", request.method(), request.uri().path()), Instant::now());
    let (answer, said) = answer(request, name, peer).await;
    log.add(Seen { line, answer: format!("{} {said}", answer.status().as_u16()), at });
    answer
}

/// The answer, and its line for the log.
async fn answer(request: Request<Incoming>, name: &str, peer: SocketAddr) -> (Answer, String) {
    let path = request.uri().path();
    if request.method() == Method::POST && path == "/upload" {
        return upload(request.into_body()).await;
    }
    if let Some(bytes) = path.strip_prefix("/bytes/").and_then(|number| number.parse().ok()) {
        return (Response::new(Either::Right(PatternBody { offset: 0, end: bytes })), format!("{bytes} bytes"));
    }
    match path {
        _ if path == "/" || path.starts_with("/greet/") => text(StatusCode::OK, format!("{name} greets {}", peer.ip())),
        _ => text(StatusCode::NOT_FOUND, format!("{name} has no {path}")),
    }
}

async fn upload(mut body: Incoming) -> (Answer, String) {
    let mut checker = Checker::default();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => frame.data_ref().into_iter().for_each(|data| checker.feed(data)),
            Err(error) => return text(StatusCode::BAD_REQUEST, format!("the body broke off: {error}")),
        }
    }
    text(StatusCode::OK, checker.report())
}

fn text(status: StatusCode, line: String) -> (Answer, String) {
    let answer = Response::builder().status(status).header(CONTENT_TYPE, "text/plain; charset=utf-8");
    let body = Either::Left(Full::new(format!("{line}\n").into()));
    (answer.body(body).expect("a fixed header is valid"), line)
}

/// The pattern from its start to `end`, made as the connection takes it.
#[derive(Debug)]
struct PatternBody {
    offset: u64,
    end: u64,
}

impl Body for PatternBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
        if left == 0 {
            return Poll::Ready(None);
        }
        let chunk = pattern::slice(self.offset, left.min(CHUNK_BYTES));
        self.offset += chunk.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.offset == self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end - self.offset)
    }
}
