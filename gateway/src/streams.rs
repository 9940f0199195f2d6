//! The streams of a session: each is counted, its header read in time, and handed to what serves its kind.
//!
//! Before: [`crate::session`]; after: [`crate::outbound`] (TCP), [`crate::dns`].

use std::{sync::Arc, time::Duration};

use link::{
    error_code::{CloseCode, STREAM_LIMIT, STREAM_MALFORMED},
    header::StreamHeader,
};
use quinn::{RecvStream, SendStream, VarInt};
use thiserror::Error;
use tokio::time::timeout;

use crate::{dns, limits::Slot, metrics::RefusedStream, outbound, session::Session};

/// A header is in the stream's first packet; who takes longer than this is not trying.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// While the gateway drains, the last bytes of a flow have so long to arrive: some losses in a row at a round trip of 300 ms.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(3);
/// Streams that QUIC lets a session open to begin with. Its table costs memory for each, so it grows with use.
const STREAMS_AT_START: usize = 1_024;
/// Streams that QUIC allows above the session's limit, so that one too many is told so instead of waiting.
const STREAMS_BEYOND_LIMIT: usize = 64;

/// A stream's header cannot be had.
#[derive(Debug, Error)]
pub(crate) enum HeaderError {
    /// It ended or was reset first.
    #[error("the stream ended before its header")]
    Ended(#[from] quinn::ReadExactError),
    /// It is no header of this version.
    #[error("the header cannot be read")]
    Malformed(#[from] link::header::Malformed),
}

/// Reads a header, and not a byte behind it.
///
/// # Errors
/// [`HeaderError`] as its variants say.
pub(crate) async fn read_header(recv: &mut RecvStream) -> Result<StreamHeader, HeaderError> {
    let mut header = [0; StreamHeader::MAX_BYTES];
    recv.read_exact(&mut header[..1]).await?;
    let len = 1 + StreamHeader::rest_len(header[0])?;
    recv.read_exact(&mut header[1..len]).await?;
    Ok(StreamHeader::decode(&header[..len])?)
}

/// Takes streams until the connection ends.
pub(crate) async fn accept(session: Arc<Session>) {
    let most = session.state.limits.streams;
    let mut allowed = STREAMS_AT_START.min(most + STREAMS_BEYOND_LIMIT);
    allow(&session, allowed);
    while let Ok((mut send, mut recv)) = session.connection.accept_bi().await {
        match session.streams.claim() {
            Some(slot) => {
                session.flows.spawn(serve(Arc::clone(&session), send, recv, slot));
            }
            None => {
                session.state.metrics.refused_streams.count(RefusedStream::Limit);
                refuse(&mut send, &mut recv, STREAM_LIMIT);
            }
        }
        if session.streams.used() > allowed / 4 * 3 && allowed < most + STREAMS_BEYOND_LIMIT {
            allowed = (allowed * 2).min(most + STREAMS_BEYOND_LIMIT);
            allow(&session, allowed);
        }
    }
}

fn allow(session: &Session, streams: usize) {
    let streams = u32::try_from(streams).unwrap_or(u32::MAX);
    session.connection.set_max_concurrent_bi_streams(VarInt::from_u32(streams));
}

fn refuse(send: &mut SendStream, recv: &mut RecvStream, code: VarInt) {
    // Each fails only if the session has ended that direction already.
    let _ = send.reset(code);
    let _ = recv.stop(code);
}

async fn serve(session: Arc<Session>, mut send: SendStream, mut recv: RecvStream, slot: Slot) {
    let delivered = send.stopped();
    let header = timeout(HEADER_TIMEOUT, read_header(&mut recv)).await;
    match header {
        Ok(Ok(StreamHeader::Tcp(to))) => outbound::serve(&session, send, recv, to).await,
        Ok(Ok(StreamHeader::Dns)) => dns::serve(&session, send, recv).await,
        Ok(Ok(StreamHeader::Control)) => {
            session.connection.close(CloseCode::Protocol.wire(), b"a second control stream");
        }
        Ok(Err(_)) => {
            session.state.metrics.refused_streams.count(RefusedStream::Malformed);
            refuse(&mut send, &mut recv, STREAM_MALFORMED);
        }
        Err(_) => {
            session.state.metrics.refused_streams.count(RefusedStream::Slow);
            refuse(&mut send, &mut recv, STREAM_MALFORMED);
        }
    }
    drop(slot);
    if session.state.draining.is_cancelled() {
        // The session may be closed once this flow is over, and a close cuts off what the other side has not got yet.
        let _ = timeout(DELIVERY_TIMEOUT, delivered).await;
    }
}
