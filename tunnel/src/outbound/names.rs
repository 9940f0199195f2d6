//! DNS as programs speak it: datagrams and connections to port 53 of a captured nameserver, answered by the session's resolver.
//!
//! UDP queries are answered from the address they were sent to. A TCP connection ends in a flow like any other, whose far end is
//! the resolver instead of a stream. Before: [`crate::outbound`]; after: [`crate::dns`].

use std::{
    cell::{Cell, RefCell},
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use netstack::{flow::FlowKey, udp};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::{LinkDns, Outbound};
use crate::{
    control::counters::DnsCounters as StatusCounters,
    dns::{
        Arrived, DnsCounters, MAX_UNDER_WAY, MarkedSockets, Names as NameTable, Resolver, Transport,
        stream::{self, Ended},
    },
};

/// Bytes on their way between a connection's ring and the resolver, each way: one message fits.
const LOCAL_BYTES: usize = 64 << 10;
/// Connections to the resolver at once; more are left to their SYN's next try.
const MAX_CONNECTIONS: usize = 256;

type SessionResolver = Resolver<LinkDns, MarkedSockets>;

/// The captured nameservers and who answers for them.
pub struct Names {
    resolver: Arc<SessionResolver>,
    nameservers: RefCell<Vec<SocketAddr>>,
    queries: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

/// As many connections to the resolver are open as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

/// Who takes a TCP connection.
#[derive(Debug)]
enum Taker {
    /// Its address is no captured nameserver's.
    Gateway,
    /// The resolver, with a place among its connections.
    Resolver(OwnedSemaphorePermit),
    /// The resolver has all the connections it may have; the gateway must not see what it is asked.
    Nobody,
}

impl Names {
    /// Answers for `nameservers`.
    pub fn new(resolver: Arc<SessionResolver>, nameservers: Vec<SocketAddr>) -> Self {
        Self {
            resolver,
            nameservers: RefCell::new(nameservers),
            // Both sides of the resolver have as many; it answers what is above them with an error itself.
            queries: Arc::new(Semaphore::new(2 * MAX_UNDER_WAY)),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        }
    }

    /// Answers for these nameservers as well: before rules lead their queries here, or such a query would go to the gateway.
    pub fn expect(&self, nameservers: &[SocketAddr]) {
        let mut known = self.nameservers.borrow_mut();
        for nameserver in nameservers {
            if !known.contains(nameserver) {
                known.push(*nameserver);
            }
        }
    }

    /// Goes over to other nameservers and another table of names; what is under way goes on.
    pub fn replace(&self, table: NameTable, nameservers: Vec<SocketAddr>) {
        self.resolver.replace_names(table);
        self.nameservers.replace(nameservers);
    }

    pub(super) fn is_nameserver(&self, address: SocketAddr) -> bool {
        self.nameservers.borrow().contains(&address)
    }

    pub(super) fn counters(&self) -> DnsCounters {
        self.resolver.counters()
    }

    /// Who takes a TCP connection to this address.
    fn taker(&self, address: SocketAddr) -> Taker {
        if !self.is_nameserver(address) {
            return Taker::Gateway;
        }
        Arc::clone(&self.connections).try_acquire_owned().map_or(Taker::Nobody, Taker::Resolver)
    }

    /// The far end for a TCP flow to a nameserver; `None` for every other flow.
    ///
    /// # Errors
    /// Too many are open; the program's kernel sends its SYN again.
    pub(super) fn accept(&self, key: FlowKey, outbound: &Rc<Outbound>) -> Result<Option<Local>, TooMany> {
        let slot = match self.taker(key.cluster.0) {
            Taker::Gateway => return Ok(None),
            Taker::Nobody => return Err(TooMany),
            Taker::Resolver(slot) => slot,
        };
        let (near, far) = duplex(LOCAL_BYTES);
        let arrived = Arrived { nameserver: key.cluster.0, transport: Transport::Tcp };
        let resolver = Arc::clone(&self.resolver);
        let local = Local { near, broken: Rc::default() };
        let broken = Rc::clone(&local.broken);
        outbound.tasks.spawn_local(async move {
            let answer = |message: Vec<u8>| {
                let resolver = Arc::clone(&resolver);
                async move { resolver.answer(&message, arrived).await }
            };
            serve(far, answer, &broken).await;
            drop(slot);
        });
        Ok(Some(local))
    }
}

/// Serves a connection to its end; one that is misused or torn counts as broken.
async fn serve<F>(far: DuplexStream, answer: impl Fn(Vec<u8>) -> F, broken: &Cell<bool>)
where
    F: Future<Output = Option<Vec<u8>>> + Send + 'static,
{
    // The far end is gone with this, and its reader not yet told: it runs on this thread.
    let ended = stream::serve(far, answer).await;
    match ended {
        Ok(Ended::Served) => {}
        Ok(Ended::Misused) => broken.set(true),
        Err(error) => {
            tracing::debug!(%error, "a DNS connection broke");
            broken.set(true);
        }
    }
}

impl Outbound {
    /// A query in a datagram; above the limit it is dropped, and the program asks again.
    pub(super) fn query(self: &Rc<Self>, key: FlowKey, message: &[u8]) {
        let names = &self.names;
        let Ok(slot) = Arc::clone(&names.queries).try_acquire_owned() else { return };
        let (resolver, outbound, message) = (Arc::clone(&names.resolver), Rc::clone(self), message.to_vec());
        self.tasks.spawn_local(async move {
            let arrived = Arrived { nameserver: key.cluster.0, transport: Transport::Udp };
            if let Some(answer) = resolver.answer(&message, arrived).await {
                outbound.write_with(|scratch| udp::write(scratch, key.cluster, key.host, &answer));
            }
            drop(slot);
        });
    }
}

/// Raises the status's counters to the resolver's.
pub(super) fn publish(status: &StatusCounters, counters: &DnsCounters) {
    status.queries.set(counters.cluster + counters.ordinary + counters.strays + counters.malformed + counters.refused);
    status.cluster.set(counters.asked_cluster);
    status.ordinary.set(counters.ordinary);
    status.cache_hits.set(counters.cached);
    status.failures.set(counters.link_down + counters.over_limit + counters.timed_out + counters.failed);
}

/// The near end of a connection to the resolver.
pub(super) struct Local {
    near: DuplexStream,
    /// The resolver has given it up, so that its end is a reset.
    broken: Rc<Cell<bool>>,
}

impl Local {
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.near).poll_write(cx, bytes)
    }

    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(room);
        let read = Pin::new(&mut self.near).poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len());
        if self.broken.get() && matches!(read, Poll::Ready(Ok(0))) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        read
    }

    /// The program has asked all it wants to.
    pub(super) fn finish(&mut self) {
        // A duplex is shut down at once; it has no peer to wait for.
        let _ = Pin::new(&mut self.near).poll_shutdown(&mut Context::from_waker(std::task::Waker::noop()));
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::{
        dns::{NamesOptions, Resolver},
        gateway_link::LinkWatch,
    };

    fn names(nameserver: SocketAddr) -> Names {
        let options = NamesOptions { domain: "cluster.local".to_owned(), ..NamesOptions::default() };
        let table = NameTable::new(&options).unwrap();
        let resolver = Resolver::new(table, LinkDns(LinkWatch::without_link()), MarkedSockets::new(None));
        Names::new(Arc::new(resolver), vec![nameserver])
    }

    #[tokio::test]
    async fn a_nameservers_connection_above_the_limit_is_not_dialed_by_the_gateway() {
        let nameserver = "192.0.2.1:53".parse().unwrap();
        let names = names(nameserver);
        let held: Vec<_> = (0..MAX_CONNECTIONS).map(|_| names.taker(nameserver)).collect();
        assert!(held.iter().all(|taker| matches!(taker, Taker::Resolver(_))));
        assert!(matches!(names.taker(nameserver), Taker::Nobody));
        assert!(matches!(names.taker("192.0.2.1:853".parse().unwrap()), Taker::Gateway));
        drop(held);
        assert!(matches!(names.taker(nameserver), Taker::Resolver(_)));
    }

    #[tokio::test]
    async fn a_misused_connection_ends_with_a_reset_and_one_that_is_done_with_a_fin() {
        let ends = async |sent: &[u8]| {
            let (near, far) = duplex(LOCAL_BYTES);
            let mut local = Local { near, broken: Rc::default() };
            poll_fn(|cx| local.poll_write(cx, sent)).await.unwrap();
            local.finish();
            let broken = Rc::clone(&local.broken);
            serve(far, |_| async { None }, &broken).await;
            poll_fn(|cx| local.poll_read(cx, &mut [0; 8])).await.map_err(|error| error.kind())
        };
        assert_eq!(ends(b"").await, Ok(0));
        assert_eq!(ends(&[0, 1, 1]).await, Err(io::ErrorKind::ConnectionReset), "no message");
        assert_eq!(ends(&[0, 40, 1]).await, Err(io::ErrorKind::ConnectionReset), "a torn one");
    }

    #[tokio::test]
    async fn nameservers_to_come_are_answered_for_beside_those_that_are_there() {
        let (before, after) = ("192.0.2.1:53".parse().unwrap(), "192.0.2.2:53".parse().unwrap());
        let names = names(before);
        names.expect(&[before, after]);
        assert!(names.is_nameserver(before) && names.is_nameserver(after));
    }
}
