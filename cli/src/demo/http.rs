//! A small HTTP/1.1 server.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | a line that names the service and the address the request came from |
//! | `GET /bytes/N` | N bytes of [`super::pattern`] |
//! | `POST /upload` | `N intact` or `N differs at M` about the body, checked against the pattern |
//! | anything else | 404 |
//!
//! Next in the flow: [`super::services`].

use std::{convert::Infallible, io, net::SocketAddr, pin::Pin, sync::Arc, task::Poll};

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

type Answer = Response<Either<Full<Bytes>, PatternBody>>;

/// Serves on `address`, calling itself `name`.
pub fn serve(supervisor: &Supervisor, address: SocketAddr, name: &str) -> io::Result<()> {
    let name: Arc<str> = name.into();
    accept_each(supervisor, address, move |stream| serve_connection(stream, Arc::clone(&name)))
}

async fn serve_connection(stream: TcpStream, name: Arc<str>) {
    let Ok(peer) = stream.peer_addr() else { return };
    let service = service_fn(move |request| {
        let name = Arc::clone(&name);
        async move { Ok::<_, Infallible>(answer(request, &name, peer).await) }
    });
    // What a client does to its own connection is no concern of the server's.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, name: &str, peer: SocketAddr) -> Answer {
    let path = request.uri().path();
    if request.method() == Method::POST && path == "/upload" {
        return upload(request.into_body()).await;
    }
    if let Some(bytes) = path.strip_prefix("/bytes/").and_then(|number| number.parse().ok()) {
        return Response::new(Either::Right(PatternBody { offset: 0, end: bytes }));
    }
    match path {
        "/" => text(StatusCode::OK, format!("{name} greets {}\n", peer.ip())),
        _ => text(StatusCode::NOT_FOUND, format!("{name} has no {path}\n")),
    }
}

async fn upload(mut body: Incoming) -> Answer {
    let mut checker = Checker::default();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => frame.data_ref().into_iter().for_each(|data| checker.feed(data)),
            Err(error) => return text(StatusCode::BAD_REQUEST, format!("the body broke off: {error}\n")),
        }
    }
    text(StatusCode::OK, format!("{}\n", checker.report()))
}

fn text(status: StatusCode, body: String) -> Answer {
    let answer = Response::builder().status(status).header(CONTENT_TYPE, "text/plain; charset=utf-8");
    answer.body(Either::Left(Full::new(body.into()))).expect("a fixed header is valid")
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
