//! DNS queries of a session, forwarded as they are to the cluster's nameserver, so every record type works.
//!
//! 1. [`serve`] reads the query from its stream. Whoever may reach anything may ask, and ask for any name: what an address is called is no
//!    secret to those who may dial some of them, and names cannot be told apart by who will be dialed.
//! 2. [`Nameserver::ask`] sends it by UDP, again if nothing comes, and by TCP when it is large or the answer was cut.
//! 3. The answer goes back as it came; a query without one resets the stream, and the session says SERVFAIL.
//!
//! Before: [`crate::streams`]; after: the nameserver. The session's side: `tunnel::dns`, which decides what is asked here.

use std::{io, net::SocketAddr, time::Duration};

use link::error_code::{DNS_FAILED, STREAM_LIMIT, STREAM_MALFORMED};
use quinn::{RecvStream, SendStream};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::lookup_host,
    time::{Instant, timeout, timeout_at},
};

use crate::{config, connected_udp::ConnectedUdp, dial, metrics::Dns, scratch, session::Session};

mod message;

/// The largest DNS message (its length is a `u16` over TCP).
const MAX_MESSAGE_BYTES: usize = 65_535;
/// A query must have arrived whole by then.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long each try waits for an answer; in all as long as a stub resolver waits.
const TRIES: [Duration; 3] = [Duration::from_millis(1_000), Duration::from_millis(1_500), Duration::from_millis(2_500)];
/// A larger query goes by TCP at once: this much passes every path unfragmented (DNS flag day 2020).
const MAX_UDP_QUERY_BYTES: usize = 1_232;

/// Where queries go: the addresses of one nameserver.
#[derive(Debug)]
pub(crate) struct Nameserver {
    addresses: Vec<SocketAddr>,
}

/// The configured nameserver has no address.
#[derive(Debug, Error)]
#[error("cannot resolve the nameserver {host}: correct 'dns' in [cluster], or give it as an address")]
pub struct ResolveError {
    host: String,
    source: io::Error,
}

/// No answer came; the application is told SERVFAIL.
#[derive(Debug)]
pub(crate) struct NoAnswer;

/// Serves one query.
pub(crate) async fn serve(session: &Session, mut send: SendStream, mut recv: RecvStream) {
    let refused = match answer(session, &mut recv).await {
        Ok(answer) => {
            session.state.metrics.dns.count(Dns::Answered);
            // Fails only if the session no longer wants it.
            if send.write_all(&answer).await.is_ok() {
                let _ = send.finish();
            }
            return;
        }
        Err(refused) => refused,
    };
    session.state.metrics.dns.count(refused);
    let code = match refused {
        Dns::Malformed => STREAM_MALFORMED,
        Dns::Limit => STREAM_LIMIT,
        Dns::Failed | Dns::Prohibited | Dns::Answered => DNS_FAILED,
    };
    // Each fails only if the session has ended that direction already.
    let _ = send.reset(code);
    let _ = recv.stop(code);
}

async fn answer(session: &Session, recv: &mut RecvStream) -> Result<Vec<u8>, Dns> {
    if !session.permit_names() {
        return Err(Dns::Prohibited);
    }
    let _slot = session.dns.claim().ok_or(Dns::Limit)?;
    let _descriptor = session.state.descriptors.claim_query().ok_or(Dns::Limit)?;
    let query = timeout(QUERY_TIMEOUT, recv.read_to_end(MAX_MESSAGE_BYTES)).await;
    let query = query.ok().and_then(Result::ok).filter(|query| message::is_query(query)).ok_or(Dns::Malformed)?;
    tokio::select! {
        answer = session.state.nameserver.ask(&query) => answer.map_err(|NoAnswer| Dns::Failed),
        () = session.over.cancelled() => Err(Dns::Failed),
        () = session.names_revoked() => Err(Dns::Prohibited),
    }
}

impl Nameserver {
    /// Looks a nameserver given by name up.
    ///
    /// # Errors
    /// [`ResolveError`] when the name has no address.
    pub(crate) async fn resolve(configured: &config::Nameserver) -> Result<Self, ResolveError> {
        let (host, port) = match configured {
            config::Nameserver::Address(address) => return Ok(Self { addresses: vec![*address] }),
            config::Nameserver::Name { host, port } => (host, *port),
        };
        let failed = |source| ResolveError { host: host.clone(), source };
        let addresses: Vec<_> = lookup_host((host.as_str(), port)).await.map_err(failed)?.collect();
        if addresses.is_empty() {
            return Err(failed(io::ErrorKind::NotFound.into()));
        }
        Ok(Self { addresses })
    }

    /// The answer to a query, whole: one that was cut for UDP is asked for again by TCP.
    pub(crate) async fn ask(&self, query: &[u8]) -> Result<Vec<u8>, NoAnswer> {
        let deadline = Instant::now() + TRIES.iter().sum();
        if query.len() > MAX_UDP_QUERY_BYTES {
            return self.ask_tcp(query, deadline).await.ok_or(NoAnswer);
        }
        for (patience, address) in TRIES.iter().zip(self.addresses.iter().cycle()) {
            let asked = timeout(*patience, ask_udp(*address, query)).await;
            match asked {
                Ok(Ok(answer)) if message::is_cut(&answer) => {
                    // A cut answer is better than none: the session can tell the application so.
                    return Ok(self.ask_tcp(query, deadline).await.unwrap_or(answer));
                }
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => tracing::debug!(%error, "the nameserver cannot be reached"),
                Err(_) => tracing::debug!("the nameserver does not answer"),
            }
        }
        Err(NoAnswer)
    }

    async fn ask_tcp(&self, query: &[u8], deadline: Instant) -> Option<Vec<u8>> {
        let asked = timeout_at(deadline, async {
            let len = u16::try_from(query.len()).map_err(io::Error::other)?;
            let mut stream = dial::dial_any(&self.addresses).await?;
            stream.write_all(&[&len.to_be_bytes(), query].concat()).await?;
            let len = stream.read_u16().await?;
            let mut answer = Vec::new();
            stream.take(u64::from(len)).read_to_end(&mut answer).await?;
            let is_whole = answer.len() == usize::from(len) && message::is_answer(query, &answer);
            if is_whole { Ok(answer) } else { Err(io::Error::from(io::ErrorKind::InvalidData)) }
        });
        asked.await.ok()?.inspect_err(|error| tracing::debug!(%error, "no answer by TCP")).ok()
    }
}

/// Sends the query once, from a port of its own, and waits for what answers it.
async fn ask_udp(address: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let socket = ConnectedUdp::connect(address)?;
    socket.send(query)?;
    loop {
        socket.arrival().await?;
        let received: io::Result<_> = scratch::with(|scratch| {
            let len = socket.receive(scratch)?;
            let answer = &scratch[..len];
            // Anything else is a late answer to another query from this port, or forged.
            Ok(message::is_answer(query, answer).then(|| answer.to_vec()))
        });
        match received {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
