//! A session's mirror on a real link, and a gateway that says what a test tells it to.

use std::{cell::Cell, net::SocketAddr, rc::Rc, sync::Arc, time::SystemTime};

use certs::{Authority, Identity, SERVER_NAME};
use link::{
    carrier::CarrierChoice,
    dial::{Dialer, Link},
    listen::{Arrived, Listener as LinkListener},
    mirrored::{FrameHeader, FrameKind, Gap, MirrorHeader},
    rules::{LossReason, RuleProtocol},
    version::ALPN,
};
use quinn::SendStream;
use tokio::task::LocalSet;

use super::*;
use crate::control::{
    mirror_message::{Existing, Listener, NewRule},
    mirror_status::RuleStatus,
};

pub(super) const CLIENT: &str = "10.1.0.9:4711";
pub(super) const PUSHED: FrameKind = FrameKind::Bytes { starts_segment: true, pushed: true };
pub(super) const MIDDLE: FrameKind = FrameKind::Bytes { starts_segment: false, pushed: true };

/// Files that the session of most tests takes itself to be allowed.
const FILES: usize = 1_024;

pub(super) struct World {
    pub(super) mirror: Rc<Mirror>,
    gateway: Arrived,
    next_client: Cell<u16>,
    _ends: (Link, LinkListener, tempfile::TempDir),
}

/// Runs a test with a mirror that may hold so many bytes.
pub(super) fn in_world<F: Future>(budget: usize, body: impl FnOnce(Rc<World>) -> F) -> F::Output {
    in_world_of(budget, FILES, body)
}

/// Runs a test with a mirror in a process that may have so many files open.
pub(super) fn in_world_of<F: Future>(budget: usize, files: usize, body: impl FnOnce(Rc<World>) -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let world = Rc::new(World::start(budget, files).await);
        tokio::time::timeout(Duration::from_secs(60), body(world)).await.expect("the test ends in time")
    })
}

impl World {
    async fn start(budget: usize, files: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (now, tasks) = (SystemTime::now(), TaskTracker::new());
        let authority = Authority::open_or_create(dir.path(), now).unwrap();
        let path = dir.path().join("me.pem");
        let issued = authority.issue_client(&"me".parse().unwrap(), Duration::from_secs(3_600), now);
        issued.unwrap().write_new(&path).unwrap();
        let client = Arc::new(certs::client_config(&Identity::load(&path, now).unwrap(), &[ALPN]).unwrap());
        let server = Arc::new(certs::server_config(Arc::new(authority), &[ALPN]).unwrap());
        let mut listener = LinkListener::bind("127.0.0.1:0".parse().unwrap(), server, &[7; 64], &tasks).await.unwrap();
        let dialer = Dialer {
            gateway: listener.local_addr(),
            tls: client,
            server_name: SERVER_NAME,
            mark: None,
            choice: CarrierChoice::Udp,
            tasks: tasks.clone(),
        };
        let (link, gateway) = tokio::join!(dialer.dial(), listener.accept());
        let link = link.unwrap();
        let status = Arc::default();
        let (budget, sockets) = (Budget::new(budget), Sockets::new(files));
        let mirror = Rc::new(Mirror { status, budget, sockets, tasks });
        tokio::task::spawn_local(accept(Rc::clone(&mirror), link.connection.clone()));
        let next_client = Cell::new(1);
        Self { mirror, gateway: gateway.unwrap(), next_client, _ends: (link, listener, dir) }
    }

    /// A rule, and its number.
    pub(super) fn rule(&self, listener: Listener, change: impl FnOnce(&mut NewRule)) -> u32 {
        let mut rule = NewRule {
            target: "shop/deploy/web".to_owned(),
            port: u16::try_from(self.mirror.status.mirror.statuses().len()).unwrap() + 8_080,
            protocol: RuleProtocol::Tcp,
            listener,
            replica: None,
            sample: link::rules::Sample::ALL,
            max_rate: None,
            existing: Existing::Http,
            proxy_protocol: false,
        };
        change(&mut rule);
        self.mirror.status.mirror.add(vec![rule]).unwrap().0[0]
    }

    pub(super) fn status(&self, id: u32) -> RuleStatus {
        self.mirror.status.mirror.statuses().into_iter().find(|status| status.id == id).unwrap()
    }

    /// Waits until the rule's status is so.
    pub(super) async fn until(&self, id: u32, what: impl Fn(&RuleStatus) -> bool) -> RuleStatus {
        loop {
            let status = self.status(id);
            if what(&status) {
                return status;
            }
            tokio::task::yield_now().await;
        }
    }

    pub(super) fn header(&self, rule: u32, from_start: bool) -> MirrorHeader {
        let port = self.next_client.replace(self.next_client.get() + 1);
        MirrorHeader {
            rule,
            protocol: self.mirror.status.mirror.live(rule).map_or(RuleProtocol::Tcp, |rule| rule.spec.protocol),
            from_start,
            client: SocketAddr::new("10.1.0.9".parse().unwrap(), port),
            server: "10.1.0.2:8080".parse().unwrap(),
            seen_unix_micros: 1,
            replica: "web-1".to_owned(),
        }
    }

    /// A flow of a rule.
    pub(super) async fn flow(&self, rule: u32, from_start: bool) -> Flow {
        let mut bytes = Vec::new();
        self.header(rule, from_start).encode(&mut bytes);
        self.stream(&bytes).await
    }

    /// A stream that begins with these bytes.
    pub(super) async fn stream(&self, bytes: &[u8]) -> Flow {
        let mut stream = self.gateway.connection.open_uni().await.unwrap();
        stream.write_all(bytes).await.unwrap();
        Flow(stream)
    }

    pub(super) fn close(&self) {
        self.gateway.connection.close(0u32.into(), b"gone");
    }
}

/// What the session's outbound half does with the gateway's streams.
async fn accept(mirror: Rc<Mirror>, connection: quinn::Connection) {
    connection.set_max_concurrent_uni_streams(MAX_FLOWS.into());
    while let Ok(mut stream) = connection.accept_uni().await {
        let mirror = Rc::clone(&mirror);
        mirror.tasks.clone().spawn_local(async move {
            if let Ok(Some(first)) = stream.read_chunk(usize::MAX, true).await {
                mirror.arrived(first.bytes, stream).await;
            }
        });
    }
}

/// The gateway's end of a mirrored flow.
pub(super) struct Flow(pub(super) SendStream);

impl Flow {
    pub(super) async fn frame(&mut self, kind: FrameKind, payload: &[u8]) {
        let frame = [&FrameHeader { kind, len: payload.len() }.encode()[..], payload].concat();
        // A session that has stopped the stream is what some tests are about.
        let _ = self.0.write_all(&frame).await;
    }

    /// A segment that was pushed.
    pub(super) async fn bytes(&mut self, bytes: &[u8]) {
        for segment in bytes.chunks(60_000) {
            self.frame(PUSHED, segment).await;
        }
    }

    pub(super) async fn gap(&mut self, bytes: u64) {
        let frame = Gap { reason: LossReason::Ring, bytes, datagrams: 0 }.frame();
        self.0.write_all(&frame).await.unwrap();
    }

    pub(super) async fn end(mut self, kind: FrameKind) {
        self.frame(kind, &[]).await;
        let _ = self.0.finish();
        let _ = self.0.stopped().await;
    }

    /// Whether the session has given the stream up.
    pub(super) async fn is_stopped(&mut self) -> bool {
        matches!(self.0.stopped().await, Ok(Some(_)))
    }
}
