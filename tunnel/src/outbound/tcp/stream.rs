//! The far end of a TCP flow: the dial, and the stream that it gives. Used by [`super::TcpEntry`]; after: `gateway::outbound`.

use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use link::{
    dial::Link,
    header::{DialOutcome, StreamHeader},
};
use netstack::flow::FlowKey;
use quinn::{RecvStream, SendStream};
use tokio::time::timeout;

use super::super::{Outbound, names::Local};

/// Linux gives a SYN up after 127 s (`tcp_syn_retries` 6); a gateway that says nothing for longer must not keep the place of a flow.
const DIAL_PATIENCE: Duration = Duration::from_secs(130);

/// Where the flow's bytes go.
pub(super) enum Stream {
    /// The dial is under way.
    Dialing,
    /// To the gateway.
    Link(SendStream, RecvStream),
    /// To the resolver of this session.
    Local(Local),
}

/// What the far side of a flow did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamReset;

/// Dials through the link of the moment, or of the next moment.
pub(super) async fn dial(key: FlowKey, outbound: &Outbound) -> Result<Stream, DialOutcome> {
    timeout(DIAL_PATIENCE, try_dial(key, outbound)).await.unwrap_or(Err(DialOutcome::TimedOut))
}

async fn try_dial(key: FlowKey, outbound: &Outbound) -> Result<Stream, DialOutcome> {
    loop {
        let welcomed = outbound.links.patient().await.ok_or(DialOutcome::NetworkUnreachable)?;
        match dial_on(&welcomed.link, key).await {
            // It was told to end before it could tell: the next one has not.
            Err(DialOutcome::Busy) if !welcomed.takes_flows() => {}
            outcome => return outcome,
        }
    }
}

async fn dial_on(link: &Link, key: FlowKey) -> Result<Stream, DialOutcome> {
    // A link that ends during the dial: the kernel sends the SYN again, to the next one.
    let (mut send, mut recv) = link.connection.open_bi().await.map_err(|_| DialOutcome::Busy)?;
    let mut header = Vec::with_capacity(StreamHeader::MAX_BYTES);
    StreamHeader::Tcp(key.cluster.0).encode(&mut header);
    send.write_all(&header).await.map_err(|_| DialOutcome::Busy)?;
    let mut outcome = [0];
    recv.read_exact(&mut outcome).await.map_err(|_| DialOutcome::Busy)?;
    match DialOutcome::try_from(outcome[0]) {
        Ok(DialOutcome::Connected) => Ok(Stream::Link(send, recv)),
        Ok(outcome) => Err(outcome),
        Err(_) => Err(DialOutcome::Busy),
    }
}

impl Stream {
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, StreamReset>> {
        match self {
            Self::Dialing => Poll::Pending,
            Self::Link(send, _) => Pin::new(send).poll_write(cx, bytes).map_err(|_| StreamReset),
            Self::Local(local) => local.poll_write(cx, bytes).map_err(|_| StreamReset),
        }
    }

    /// `Ok(0)` is the end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<Result<usize, StreamReset>> {
        match self {
            Self::Dialing => Poll::Pending,
            Self::Link(_, recv) => recv.poll_read(cx, room).map_err(|_| StreamReset),
            Self::Local(local) => local.poll_read(cx, room).map_err(|_| StreamReset),
        }
    }

    /// Whether the far side stopped the stream, or its link has ended.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::Link(send, _) => {
                let stopped = pin!(send.stopped());
                let stopped = stopped.poll(&mut Context::from_waker(Waker::noop()));
                matches!(stopped, Poll::Ready(Ok(Some(_)) | Err(_)))
            }
            Self::Dialing | Self::Local(_) => false,
        }
    }

    pub(super) fn finish(&mut self) {
        match self {
            Self::Dialing => {}
            // Fails only on a stream that was stopped, which its reading direction or the stop itself reports.
            Self::Link(send, _) => drop(send.finish()),
            Self::Local(local) => local.finish(),
        }
    }

    /// Resolves when the far side stops the stream, or its link ends.
    pub(super) fn stopped(&self) -> Option<Pin<Box<dyn Future<Output = ()>>>> {
        match self {
            Self::Link(send, _) => {
                let stopped = send.stopped();
                Some(Box::pin(async move {
                    let _ = stopped.await;
                }))
            }
            Self::Dialing | Self::Local(_) => None,
        }
    }
}
