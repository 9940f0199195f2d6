//! Taps that a test speaks for, and a session's end of what is mirrored.

use std::{
    io,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use gateway::{
    RunningTap, StartTap,
    cluster::ReplicaPlace,
    config::{Config, Place, Target},
    policy::{Allow, NamePattern},
    tap::protocol::{
        FlowNumber, FromTap, ListeningPort, Opened, PROTOCOL_VERSION, Requests, RingState, TappedPort, ToTap,
        record_header,
    },
};
use link::{
    control::{ToGateway, ToSession, read_message, write_message},
    mirrored::{FrameHeader, FrameKind, Gap, MirrorHeader},
    rules::{LossReason, MirrorReport, ReplicaReport, Rule, RuleOutcome, RuleProtocol, RuleSet, RuleState, Sample},
};
use quinn::{ReadExactError, RecvStream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::mpsc,
};

use crate::harness::{Home, Lab, Peer};

pub(crate) const TARGET: &str = "shop/deploy/web";

/// A gateway with a target of two replicas, `web-1` and `web-2`, of which the first is there.
pub(crate) struct MirrorLab {
    pub(crate) lab: Lab,
    started: mpsc::Receiver<FakeTap>,
}

/// Gives the test its end of every tap that is started.
#[derive(Debug)]
struct Scripted(mpsc::Sender<FakeTap>);

impl StartTap for Scripted {
    fn start(&self, place: &ReplicaPlace) -> io::Result<RunningTap> {
        let (ours, theirs) = UnixStream::pair()?;
        let place = place.clone();
        let tap = FakeTap { place, stream: theirs, requests: Requests::default(), generation: 0, flows: 0 };
        self.0.try_send(tap).map_err(io::Error::other)?;
        Ok(RunningTap { stream: ours, process: None })
    }
}

/// A tap that says what the test wants.
#[derive(Debug)]
pub(crate) struct FakeTap {
    pub(crate) place: ReplicaPlace,
    pub(crate) stream: UnixStream,
    requests: Requests,
    generation: u64,
    flows: u32,
}

impl MirrorLab {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let (taps, started) = mpsc::channel(64);
        let home = Home::new();
        let place = |name: &str| Place::Netns(home.0.path().join(name));
        let target = Target { name: TARGET.to_owned(), places: vec![place("web-1"), place("web-2")] };
        let allow = Allow {
            name: NamePattern::parse("*").unwrap(),
            reach: Vec::new(),
            mirror: vec!["shop/*".parse().unwrap(), "something/*".parse().unwrap()],
        };
        add_replica(home.0.path(), "web-1");
        let lab = Lab::with_taps(home, Arc::new(Scripted(taps)), |config| {
            config.targets.push(target);
            config.allows.push(allow);
            change(config);
        });
        let lab = lab.await;
        Self { lab, started }
    }

    /// The next tap that the gateway starts.
    pub(crate) async fn tap(&mut self) -> FakeTap {
        let mut tap = self.started.recv().await.unwrap();
        tap.say(&FromTap::Ready { version: PROTOCOL_VERSION, interfaces: vec!["eth0".to_owned()] }).await;
        tap
    }

    /// Whether another tap was started.
    pub(crate) fn has_started_a_tap(&mut self) -> bool {
        self.started.try_recv().is_ok()
    }

    /// A session that mirrors port 80 of the target, and the tap that was started for it.
    pub(crate) async fn mirrored(&mut self, name: &str) -> (Peer, FakeTap) {
        let mut peer = self.lab.connect(name).await;
        peer.tell(1, vec![rule(1, 80)]).await;
        let mut tap = self.tap().await;
        tap.apply().await;
        assert_eq!(peer.applied(1).await, [on(1)]);
        (peer, tap)
    }
}

/// A replica of this name begins.
pub(crate) fn add_replica(dir: &Path, name: &str) {
    symlink("/proc/self/ns/net", dir.join(name)).unwrap();
}

impl FakeTap {
    pub(crate) async fn say(&mut self, said: &FromTap) {
        self.stream.write_all(&said.record()).await.unwrap();
    }

    /// The next message that is not a sign of life.
    pub(crate) async fn told(&mut self) -> ToTap {
        loop {
            match self.requests.take().unwrap() {
                Some(ToTap::Alive) => {}
                Some(message) => return message,
                None => {
                    let mut bytes = [0; 4_096];
                    let read = self.stream.read(&mut bytes).await.unwrap();
                    assert!(read > 0, "the gateway ended the tap");
                    self.requests.extend(&bytes[..read]);
                }
            }
        }
    }

    /// Waits for rules and acknowledges them.
    pub(crate) async fn apply(&mut self) -> Vec<TappedPort> {
        self.apply_with(Vec::new()).await
    }

    pub(crate) async fn apply_with(&mut self, nobody_listens: Vec<ListeningPort>) -> Vec<TappedPort> {
        let ToTap::Rules { generation, ports } = self.told().await else { panic!("no rules") };
        self.generation = generation;
        let ring = RingState::Open { bytes: 64 << 20, reduced: false };
        self.say(&FromTap::RulesApplied { generation, ring, nobody_listens }).await;
        ports
    }

    /// Waits until the gateway ends the tap.
    pub(crate) async fn ended(mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).await.unwrap();
    }

    pub(crate) async fn open(&mut self, port: u16) -> FlowNumber {
        self.open_as(port, true, 0).await
    }

    pub(crate) async fn open_as(&mut self, port: u16, from_start: bool, sample_number: u32) -> FlowNumber {
        self.flows += 1;
        let number = FlowNumber::tcp(self.flows);
        let seen_unix_micros =
            u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
        let opened = Opened {
            protocol: RuleProtocol::Tcp,
            from_start,
            client: client(self.flows),
            server: SocketAddr::from(([10, 0, 0, 9], port)),
            sample_number,
            seen_unix_micros,
        };
        self.stream.write_all(&opened.record(number)).await.unwrap();
        number
    }

    pub(crate) async fn send(&mut self, flow: FlowNumber, payload: &[u8]) {
        self.frame(flow, FrameKind::Bytes { starts_segment: true, pushed: true }, payload).await;
    }

    pub(crate) async fn gap(&mut self, flow: FlowNumber, reason: LossReason, bytes: u64) {
        self.frame(flow, FrameKind::Gap, &Gap { reason, bytes, datagrams: 0 }.encode()).await;
    }

    pub(crate) async fn finish(&mut self, flow: FlowNumber) {
        self.frame(flow, FrameKind::Finished, &[]).await;
    }

    async fn frame(&mut self, flow: FlowNumber, kind: FrameKind, payload: &[u8]) {
        let mut record = record_header(flow, FrameHeader { kind, len: payload.len() }).to_vec();
        record.extend_from_slice(payload);
        self.stream.write_all(&record).await.unwrap();
    }
}

/// The client of the tap's `count`th flow.
pub(crate) fn client(count: u32) -> SocketAddr {
    SocketAddr::from(([10, 0, 1, 1], 10_000 + u16::try_from(count % 50_000).unwrap()))
}

pub(crate) fn rule(id: u32, port: u16) -> Rule {
    Rule {
        id,
        target: TARGET.to_owned(),
        port,
        protocol: RuleProtocol::Tcp,
        replica: None,
        sample: Sample::ALL,
        max_rate: None,
        skip_existing: false,
    }
}

pub(crate) fn on(id: u32) -> RuleOutcome {
    RuleOutcome { id, state: RuleState::On }
}

/// A mirrored flow at its session.
#[derive(Debug)]
pub(crate) struct Copy {
    pub(crate) header: MirrorHeader,
    stream: RecvStream,
}

/// What a copy said until its end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) bytes: Vec<u8>,
    /// Where in `bytes`, why, and how much.
    pub(crate) gaps: Vec<(usize, LossReason, u64)>,
    pub(crate) end: Option<FrameKind>,
}

impl Carried {
    pub(crate) fn lost(&self) -> u64 {
        self.gaps.iter().map(|gap| gap.2).sum()
    }
}

impl Peer {
    /// Sends a set of rules.
    pub(crate) async fn tell(&mut self, generation: u64, rules: Vec<Rule>) {
        write_message(&mut self.send, &ToGateway::Rules(RuleSet { generation, rules })).await.unwrap();
    }

    /// What became of the rules of this set.
    pub(crate) async fn applied(&mut self, expected: u64) -> Vec<RuleOutcome> {
        loop {
            let message = read_message::<ToSession>(&mut self.recv).await.unwrap();
            if let ToSession::RulesApplied { generation, outcomes } = message {
                assert_eq!(generation, expected);
                return outcomes;
            }
            assert!(matches!(message, ToSession::Mirror(_)), "{message:?}");
        }
    }

    pub(crate) async fn report(&mut self) -> MirrorReport {
        loop {
            let message = read_message::<ToSession>(&mut self.recv).await.unwrap();
            if let ToSession::Mirror(report) = message {
                return report;
            }
            assert!(matches!(message, ToSession::RulesApplied { .. }), "{message:?}");
        }
    }

    /// Waits until a report has this of the first rule's first replica.
    pub(crate) async fn reported(&mut self, is_it: impl Fn(&ReplicaReport) -> bool) -> ReplicaReport {
        loop {
            let report = self.report().await;
            let replica = report.rules.into_iter().next().and_then(|rule| rule.replicas.into_iter().next());
            if let Some(replica) = replica.filter(&is_it) {
                return replica;
            }
        }
    }

    /// The next mirrored flow.
    pub(crate) async fn copy(&self) -> Copy {
        let mut stream = self.link.connection.accept_uni().await.unwrap();
        let mut prefix = [0; MirrorHeader::PREFIX_BYTES];
        stream.read_exact(&mut prefix).await.unwrap();
        let mut rest = vec![0; MirrorHeader::rest_len(prefix).unwrap()];
        stream.read_exact(&mut rest).await.unwrap();
        Copy { header: MirrorHeader::decode_rest(&rest).unwrap(), stream }
    }

    /// Whether a mirrored flow comes within a moment.
    pub(crate) async fn gets_a_copy(&self) -> bool {
        tokio::time::timeout(Duration::from_millis(100), self.link.connection.accept_uni()).await.is_ok()
    }
}

impl Copy {
    /// Reads until so many bytes have come, carried and lost.
    pub(crate) async fn read(&mut self, bytes: u64) -> Carried {
        let mut carried = Carried::default();
        while carried.bytes.len() as u64 + carried.lost() < bytes {
            assert!(self.read_frame(&mut carried).await.unwrap(), "it ended too early: {:?}", carried.end);
        }
        carried
    }

    /// Reads until the stream's end.
    pub(crate) async fn read_all(&mut self) -> Carried {
        let mut carried = Carried::default();
        while self.read_frame(&mut carried).await.unwrap() {}
        carried
    }

    /// Reads until the stream breaks; with what code it was reset.
    pub(crate) async fn reset(&mut self) -> u64 {
        let mut carried = Carried::default();
        loop {
            match self.read_frame(&mut carried).await {
                Ok(true) => {}
                Err(ReadExactError::ReadError(quinn::ReadError::Reset(code))) => return code.into_inner(),
                other => panic!("{other:?} after {} bytes", carried.bytes.len()),
            }
        }
    }

    async fn read_frame(&mut self, carried: &mut Carried) -> Result<bool, ReadExactError> {
        let mut head = [0; FrameHeader::BYTES];
        match self.stream.read_exact(&mut head).await {
            Ok(()) => {}
            Err(ReadExactError::FinishedEarly(0)) => return Ok(false),
            Err(error) => return Err(error),
        }
        let header = FrameHeader::decode(head).unwrap();
        let mut payload = vec![0; header.len];
        self.stream.read_exact(&mut payload).await?;
        match header.kind {
            FrameKind::Bytes { .. } | FrameKind::Datagram => carried.bytes.extend(payload),
            FrameKind::Gap => {
                let gap = Gap::decode(&payload).unwrap();
                carried.gaps.push((carried.bytes.len(), gap.reason, gap.bytes));
            }
            FrameKind::Finished | FrameKind::Reset | FrameKind::Gone => carried.end = Some(header.kind),
        }
        Ok(true)
    }
}
