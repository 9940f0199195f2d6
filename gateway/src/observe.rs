//! Metrics and health over HTTP, on an address of their own: `/metrics` (Prometheus text), `/healthz` (the process answers),
//! `/readyz` (it takes new sessions; 503 while it drains). Unauthenticated, so the address should be one that only probes reach.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use crate::server::State;

/// Connections at once: some scrapers and probes. More wait in the kernel's backlog.
const CONNECTIONS: usize = 16;
/// A connection is for one request, which is over by then.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// The address of metrics and health cannot be had.
#[derive(Debug, Error)]
#[error("cannot listen on {address} for metrics: is another process there, and is it this machine's address?")]
pub struct ObserveError {
    address: SocketAddr,
    source: io::Error,
}

/// The listening socket.
#[derive(Debug)]
pub(crate) struct Observer {
    listener: TcpListener,
    address: SocketAddr,
}

impl Observer {
    pub(crate) async fn bind(address: SocketAddr) -> Result<Self, ObserveError> {
        let failed = |source| ObserveError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    pub(crate) const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers until the gateway stops.
    pub(crate) async fn serve(self, state: Arc<State>, tasks: TaskTracker) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let mut is_failing = false;
        while let Ok(permit) = Arc::clone(&slots).acquire_owned().await {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = state.stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    is_failing = false;
                    tasks.spawn(connection(stream, Arc::clone(&state), permit));
                }
                Err(error) => {
                    // Descriptors have run out: closing some makes room. Said once.
                    if !is_failing {
                        tracing::warn!(%error, "cannot accept a metrics connection");
                    }
                    is_failing = true;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn connection(stream: TcpStream, state: Arc<State>, permit: OwnedSemaphorePermit) {
    let service = service_fn(move |request| {
        let response = respond(&request, &state);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).keep_alive(false);
    // A peer that breaks off or is slow is its own loss.
    let _ = timeout(CONNECTION_TIMEOUT, http.serve_connection(TokioIo::new(stream), service)).await;
    drop(permit);
}

fn respond(request: &Request<Incoming>, state: &State) -> Response<Full<Bytes>> {
    const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
    const METRICS: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, kind, body) = match request.uri().path() {
        _ if !is_read => (StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".to_owned()),
        "/metrics" => (StatusCode::OK, METRICS, state.metrics.render()),
        "/healthz" => (StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/readyz" if state.draining.is_cancelled() => (StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n".to_owned()),
        "/readyz" => (StatusCode::OK, TEXT, "ok\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, TEXT, "/metrics, /healthz, /readyz\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
