//! TCP flows, host to cluster.
//!
//! 1. [`serve`] checks the address against what the session may reach, and its limits.
//! 2. [`mod@dial`] connects, while the session still wants it.
//! 3. One [`DialOutcome`] byte tells the session, which answers the application's SYN.
//! 4. [`link::splice`] carries the bytes until both sides have finished, one is reset, or the address may no longer be reached.
//!
//! Before: [`crate::streams`]; after: the service. The session's side of the same flow: `tunnel::outbound`.

use std::{net::SocketAddr, time::Instant};

use link::{
    error_code::FLOW_RESET,
    header::DialOutcome,
    splice::{Carried, Ending, splice},
};
use quinn::{RecvStream, SendStream};
use tokio::{net::TcpStream, time::timeout};

use crate::{
    dial, errno,
    limits::Slot,
    metrics::{Dial, Held},
    policy::Destination,
    session::Session,
};

/// Serves one flow, from the dial to its end.
pub(crate) async fn serve(session: &Session, mut send: SendStream, mut recv: RecvStream, to: SocketAddr) {
    let metrics = &session.state.metrics;
    let dialed = dial(session, &mut send, to).await;
    metrics.dials.count(dialed.as_ref().map_or_else(|ended| *ended, |_| Dial::Connected));
    let outcome = match dialed {
        Ok(Dialed { socket, to, descriptor: _descriptor }) => {
            if send.write_all(&[DialOutcome::Connected as u8]).await.is_ok() {
                carry(session, socket, to, send, recv).await;
            }
            return;
        }
        Err(Dial::Abandoned) => {
            // Each fails only if the session has ended that direction already.
            let _ = send.reset(FLOW_RESET);
            let _ = recv.stop(FLOW_RESET);
            return;
        }
        Err(ended) => ended.outcome() as u8,
    };
    tracing::debug!(session = session.number, outcome, "dial failed");
    // Either fails only if the session has given up, and then nobody is left to tell.
    if send.write_all(&[outcome]).await.is_ok() {
        let _ = send.finish();
    }
    let _ = recv.stop(FLOW_RESET);
}

/// A connection to the cluster.
struct Dialed {
    socket: TcpStream,
    /// What was dialed.
    to: SocketAddr,
    descriptor: Slot,
}

/// Connects, or says how that ended. Ends early when the session stops the stream or is gone.
async fn dial(session: &Session, send: &mut SendStream, to: SocketAddr) -> Result<Dialed, Dial> {
    let limits = &session.state.limits;
    let Some(Destination::Tcp(to)) = session.permit(Destination::Tcp(to)) else { return Err(Dial::Prohibited) };
    if session.state.draining.is_cancelled() || !session.dial_rate.allows(Instant::now()) {
        return Err(Dial::Busy);
    }
    let _pending = session.pending_dials.claim().ok_or(Dial::Busy)?;
    let descriptor = session.state.descriptors.claim().ok_or(Dial::NoDescriptor)?;
    tokio::select! {
        dialed = timeout(limits.dial_timeout, dial::dial(to)) => match dialed {
            Ok(Ok(socket)) => Ok(Dialed { socket, to, descriptor }),
            Ok(Err(error)) if errno::is_out_of_descriptors(&error) => {
                session.state.descriptors.ran_out();
                Err(Dial::NoDescriptor)
            }
            Ok(Err(error)) => Err(errno::dial_outcome(&error).into()),
            Err(_) => Err(Dial::TimedOut),
        },
        _ = send.stopped() => Err(Dial::Abandoned),
        () = session.revoked(Destination::Tcp(to)) => Err(Dial::Prohibited),
    }
}

async fn carry(session: &Session, socket: TcpStream, to: SocketAddr, send: SendStream, recv: RecvStream) {
    let metrics = &session.state.metrics;
    let _held = Held::new(&metrics.tcp_flows, &metrics.ended_flows);
    let over = async {
        tokio::select! {
            () = session.over.cancelled() => {}
            () = session.revoked(Destination::Tcp(to)) => {}
        }
    };
    let ending = splice(socket, send, recv, &session.held, over, |moved: Carried| {
        metrics.bytes_to_cluster.inc_by(moved.to_socket);
        metrics.bytes_to_session.inc_by(moved.to_stream);
    })
    .await;
    match ending {
        Ending::Finished => {}
        Ending::ResetByStream | Ending::ResetBySocket => {
            tracing::debug!(session = session.number, ?ending, "flow reset");
        }
    }
}
