//! Messages without a stream of their own: taken from the link and handed to [`crate::udp`] or [`crate::echo`], and given to it.
//!
//! Each is one QUIC datagram, or alone on a unidirectional stream when it does not fit one. Before: [`crate::session`].

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use link::datagram::{self, Datagram};
use quinn::RecvStream;
use tokio::{sync::Semaphore, time::timeout};

use crate::{echo, metrics::Dropped, session::Session, udp};

/// A large message must have arrived whole by then.
const LARGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Large messages read at once, 8 MiB of them; more wait in QUIC's window, which is bounded too.
const LARGE_AT_ONCE: usize = 128;
/// Messages handled before other tasks have their turn.
const AT_ONCE: usize = 64;

/// Handles datagrams until the connection ends.
pub(crate) async fn receive(session: Arc<Session>) {
    let mut handled = 0;
    while let Ok(bytes) = session.connection.read_datagram().await {
        dispatch(&session, &bytes);
        handled += 1;
        if handled % AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Handles messages that were too large for a datagram, until the connection ends.
pub(crate) async fn receive_large(session: Arc<Session>) {
    let reading = Arc::new(Semaphore::new(LARGE_AT_ONCE));
    while let Ok(permit) = Arc::clone(&reading).acquire_owned().await
        && let Ok(recv) = session.connection.accept_uni().await
    {
        let session = Arc::clone(&session);
        session.clone().tasks.spawn(async move {
            read_large(&session, recv).await;
            drop(permit);
        });
    }
}

async fn read_large(session: &Arc<Session>, mut recv: RecvStream) {
    match timeout(LARGE_TIMEOUT, recv.read_to_end(datagram::MAX_BYTES)).await {
        Ok(Ok(bytes)) => dispatch(session, &bytes),
        Ok(Err(_)) | Err(_) => session.state.metrics.dropped.count(Dropped::BadStream),
    }
}

fn dispatch(session: &Arc<Session>, bytes: &[u8]) {
    match Datagram::decode(bytes) {
        Ok(Datagram::UdpOut { flow, to, payload }) => udp::send(session, flow, to, payload),
        Ok(Datagram::EchoOut { id, seq, to, payload }) => echo::request(session, id, seq, to, payload),
        // The others go from here to the session, never the other way.
        Ok(
            Datagram::UdpIn { .. }
            | Datagram::UdpUnreachable { .. }
            | Datagram::EchoIn { .. }
            | Datagram::EchoUnreachable { .. },
        )
        | Err(_) => session.state.metrics.dropped.count(Dropped::Malformed),
    }
}

/// Gives a message to the link, waiting while it is busy. A link that is gone loses it, as it should.
pub(crate) async fn send(session: &Session, message: Vec<u8>) {
    if fits(session, &message) {
        let _ = session.connection.send_datagram_wait(message.into()).await;
        return;
    }
    if let Ok(mut stream) = session.connection.open_uni().await
        && stream.write_all(&message).await.is_ok()
    {
        let _ = stream.finish();
    }
}

/// Gives a small message to the link without waiting; when the link's queue is full its oldest goes.
pub(crate) fn send_small(session: &Session, message: Vec<u8>) {
    let _ = session.connection.send_datagram(Bytes::from(message));
}

/// Gives a message of any size to the link without waiting; a large one is dropped when too many are under way.
pub(crate) fn send_detached(session: &Arc<Session>, message: Vec<u8>) {
    if fits(session, &message) {
        return send_small(session, message);
    }
    let Some(slot) = session.large_answers.claim() else {
        return session.state.metrics.dropped.count(Dropped::Limit);
    };
    let session = Arc::clone(session);
    session.clone().tasks.spawn(async move {
        send(&session, message).await;
        drop(slot);
    });
}

fn fits(session: &Session, message: &[u8]) -> bool {
    session.connection.max_datagram_size().is_some_and(|most| message.len() <= most)
}
