//! [`Tap`]: a tap that a test speaks to itself, in a gateway's place, and [`Copies`], what it said. [`Target`]: whose traffic it copies.

use std::{
    collections::BTreeMap,
    fmt,
    io::{Read, Write},
    net::{IpAddr, SocketAddr},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use cli::demo::{
    entry::SCRATCH,
    namespace::{Namespace, Resolver},
    pattern::Checker,
    wiring::Wiring,
};
use gateway::tap::protocol::{Decoder, FlowNumber, FromFlow, FromTap, Opened, Record, TapStats, TappedPort, ToTap};
use link::{
    mirrored::{FrameHeader, FrameKind, Gap},
    rules::{RuleProtocol, Sample},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::{lab::PATIENCE, machine, programs};

/// Bytes of a flow that are kept as they came; all of them are compared with the pattern.
const MAX_KEPT_BYTES: usize = 1 << 20;

/// Two machines and a cable.
#[derive(Debug)]
pub struct Target {
    /// Who sends.
    pub client: Namespace,
    /// Whose traffic is copied.
    pub target: Namespace,
    directory: TempDir,
}

impl Target {
    /// The client's addresses.
    pub const CLIENT: [&str; 2] = ["10.99.0.1", "fd99::1"];
    /// The target's.
    pub const ADDRESSES: [&str; 2] = ["10.99.0.2", "fd99::2"];
    /// The cable's end at either.
    pub const DEVICE: &str = "eth0";

    /// A pair.
    #[track_caller]
    pub fn new() -> Self {
        machine::require_namespaces();
        let directory = TempDir::with_prefix_in("adit-tap-", SCRATCH).expect("a directory");
        let [client, target] = ["client", "target"]
            .map(|name| Namespace::new(name, directory.path(), &Resolver::default()).expect("a namespace"));
        let ends = [&client, &target].map(|namespace| Wiring::open(namespace).expect("netlink"));
        ends[0].add_veth(Self::DEVICE, &target, Self::DEVICE).expect("a cable");
        for end in &ends {
            end.set_up("lo").expect("up");
            end.set_up(Self::DEVICE).expect("up");
        }
        for (end, addresses) in ends.iter().zip([Self::CLIENT, Self::ADDRESSES]) {
            for (address, bits) in addresses.into_iter().zip([24, 64]) {
                end.add_address(Self::DEVICE, ip(address), bits).expect("an address");
            }
        }
        drop(ends);
        Self { client, target, directory }
    }

    /// The target's namespace as a file that any process of the test may open.
    pub fn netns(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.target.network().as_raw_fd()).into()
    }

    /// A directory of the test's own.
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }
}

impl Default for Target {
    fn default() -> Self {
        Self::new()
    }
}

/// An address that a test wrote down.
#[track_caller]
pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Every flow to a port.
pub fn port(port: u16, protocol: RuleProtocol) -> TappedPort {
    TappedPort { port, protocol, sample: Sample::ALL }
}

/// What a tap copied of a flow.
pub struct Copied {
    /// What it was when it began.
    pub opened: Opened,
    /// Payload bytes.
    pub bytes: u64,
    /// The first of them, at most a mebibyte.
    pub content: Vec<u8>,
    /// Lengths of datagrams and whether each was the beginning of the pattern.
    pub datagrams: Vec<(usize, bool)>,
    /// What is missing.
    pub gaps: Vec<Gap>,
    /// The last frame.
    pub end: Option<FrameKind>,
    /// Whether what came was the pattern, as far as there was no gap.
    checker: Checker,
    /// The largest frame.
    pub largest: usize,
}

impl fmt::Debug for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { opened, bytes, datagrams, gaps, end, .. } = self;
        write!(f, "{opened:?}: {bytes} bytes, {} datagrams, {gaps:?}, {end:?}", datagrams.len())
    }
}

impl Copied {
    /// Whether it is the pattern, up to the first gap.
    pub fn is_pattern(&self) -> bool {
        self.checker.first_difference().is_none()
    }

    /// Bytes that are missing.
    pub fn missing(&self) -> u64 {
        self.gaps.iter().map(|gap| gap.bytes).sum()
    }

    fn frame(&mut self, header: FrameHeader, payload: &[u8]) {
        assert!(self.end.is_none(), "{header:?} behind the end of {:?}", self.opened);
        self.largest = self.largest.max(payload.len());
        match header.kind {
            FrameKind::Bytes { .. } => {
                assert!(!payload.is_empty(), "bytes without a byte");
                self.bytes += payload.len() as u64;
                let room = MAX_KEPT_BYTES.saturating_sub(self.content.len());
                self.content.extend_from_slice(&payload[..payload.len().min(room)]);
                if self.gaps.is_empty() {
                    self.checker.feed(payload);
                }
            }
            FrameKind::Datagram => {
                let mut checker = Checker::default();
                checker.feed(payload);
                self.bytes += payload.len() as u64;
                self.datagrams.push((payload.len(), checker.first_difference().is_none()));
            }
            FrameKind::Gap => self.gaps.push(Gap::decode(payload).expect("a gap")),
            FrameKind::Finished | FrameKind::Reset | FrameKind::Gone => self.end = Some(header.kind),
        }
    }
}

/// What a tap said.
#[derive(Debug, Default)]
pub struct Copies {
    /// Flows, in the order in which they began; a number that comes again is another flow.
    pub flows: Vec<Copied>,
    /// About itself, but for statistics.
    pub said: Vec<FromTap>,
    /// The newest statistics, and how many there were.
    pub stats: (TapStats, u64),
    /// It said nonsense.
    pub nonsense: Option<String>,
    /// The stream ended.
    pub ended: bool,
    by_number: BTreeMap<FlowNumber, usize>,
}

impl Copies {
    fn record(&mut self, record: Record) {
        match record {
            Record::Said(FromTap::Stats(stats)) => self.stats = (stats, self.stats.1 + 1),
            Record::Said(said) => self.said.push(said),
            Record::Flow(number, FromFlow::Opened(opened)) => {
                let before = self.by_number.insert(number, self.flows.len()).map(|index| &self.flows[index]);
                assert!(before.is_none_or(|flow| flow.end.is_some()), "{number:?} is two flows: {before:?}");
                self.flows.push(Copied {
                    opened,
                    bytes: 0,
                    content: Vec::new(),
                    datagrams: Vec::new(),
                    gaps: Vec::new(),
                    end: None,
                    checker: Checker::default(),
                    largest: 0,
                });
            }
            Record::Flow(number, FromFlow::Frame { header, bytes }) => {
                let index = *self.by_number.get(&number).unwrap_or_else(|| panic!("{header:?} of unknown {number:?}"));
                self.flows[index].frame(header, &bytes[FrameHeader::BYTES..]);
            }
        }
    }

    /// The flow of a client.
    pub fn of(&self, client: SocketAddr) -> Option<&Copied> {
        self.flows.iter().rev().find(|flow| flow.opened.client == client)
    }
}

type Shared = Arc<(Mutex<Copies>, Condvar)>;

/// A running tap, and the test as its gateway. Killed when dropped.
#[derive(Debug)]
pub struct Tap {
    child: Child,
    stream: UnixStream,
    shared: Shared,
    generation: u64,
}

impl Tap {
    /// A tap of a target, by its namespace's file; ready when this returns.
    #[track_caller]
    pub fn start(target: &Target) -> Self {
        let mut command = Command::new(programs::adit_gateway());
        command.args(["tap", "--netns"]).arg(target.netns());
        let tap = Self::spawn(&mut command);
        tap.wait("the tap is ready", |copies| {
            copies.said.iter().any(|said| matches!(said, FromTap::Ready { .. })).then_some(())
        });
        tap
    }

    /// A tap by a command line of the test's own.
    #[track_caller]
    pub fn spawn(command: &mut Command) -> Self {
        let (stream, other) = UnixStream::pair().expect("a pair");
        let child = command.stdin(OwnedFd::from(other)).stdout(Stdio::null()).spawn().expect("adit-gateway starts");
        // The command holds the tap's end, too; an end of file would never come.
        command.stdin(Stdio::null());
        let shared = Shared::default();
        let (reader, copies) = (stream.try_clone().expect("a descriptor"), Arc::clone(&shared));
        thread::spawn(move || read(reader, &copies));
        Self { child, stream, shared, generation: 0 }
    }

    /// Switches to these ports and waits until they are in force; what the tap said of it.
    #[track_caller]
    pub fn apply(&mut self, ports: &[TappedPort]) -> FromTap {
        self.generation += 1;
        let generation = self.generation;
        self.say(&ToTap::Rules { generation, ports: ports.to_vec() });
        self.wait("rules in force", |copies| {
            let applied =
                |said: &&FromTap| matches!(said, FromTap::RulesApplied { generation: of, .. } if *of == generation);
            copies.said.iter().find(applied).cloned()
        })
    }

    /// Says something.
    #[track_caller]
    pub fn say(&mut self, message: &ToTap) {
        let body = serde_json::to_vec(message).expect("JSON");
        self.say_bytes(&[&u32::try_from(body.len()).expect("short").to_be_bytes()[..], &body].concat());
    }

    /// Says anything.
    #[track_caller]
    pub fn say_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the tap listens");
    }

    /// Waits until `look` finds something in what it said.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, look: impl FnMut(&Copies) -> Option<T>) -> T {
        self.wait_within(what, PATIENCE, look)
    }

    /// The same with a patience of its own.
    #[track_caller]
    pub fn wait_within<T>(&self, what: &str, patience: Duration, mut look: impl FnMut(&Copies) -> Option<T>) -> T {
        let deadline = Instant::now() + patience;
        let mut copies = self.copies();
        loop {
            assert!(copies.nonsense.is_none(), "{:?}", copies.nonsense);
            if let Some(found) = look(&copies) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "not within {patience:?}: {what}; {copies:?}");
            copies = self.shared.1.wait_timeout(copies, left).expect("no reader panicked").0;
        }
    }

    /// The flow of a client, when it has ended.
    #[track_caller]
    pub fn ended(&self, client: SocketAddr) -> FlowSummary {
        self.wait("the flow's end", |copies| {
            let flow = copies.of(client).filter(|flow| flow.end.is_some())?;
            Some(FlowSummary {
                bytes: flow.bytes,
                missing: flow.missing(),
                gaps: flow.gaps.len(),
                is_pattern: flow.is_pattern(),
                from_start: flow.opened.from_start,
                largest: flow.largest,
                end: flow.end?,
            })
        })
    }

    /// Statistics of after this call.
    #[track_caller]
    pub fn stats(&self) -> TapStats {
        let before = self.copies().stats.1;
        // The next may have been under way.
        self.wait("statistics", |copies| (copies.stats.1 > before + 1).then(|| copies.stats.0.clone()))
    }

    /// All that it said so far.
    pub fn copies(&self) -> MutexGuard<'_, Copies> {
        self.shared.0.lock().expect("no reader panicked")
    }

    /// Takes nothing from the tap until the result is dropped, as a gateway that is stopped.
    pub fn take_nothing(&self) -> MutexGuard<'_, Copies> {
        self.copies()
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id().cast_signed()), signal).expect("not reaped yet");
    }

    /// Closes the stream, as a gateway that ends.
    pub fn close(&self) {
        self.stream.shutdown(std::net::Shutdown::Both).expect("it was open");
    }

    /// Waits for its end.
    #[track_caller]
    pub fn exit(&mut self, patience: Duration) -> ExitStatus {
        crate::wait::until_some("the tap ends", patience, || self.child.try_wait().expect("a child"))
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A flow that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowSummary {
    /// Payload bytes.
    pub bytes: u64,
    /// Bytes of gaps.
    pub missing: u64,
    /// Gaps.
    pub gaps: usize,
    /// What came before the first gap was the pattern.
    pub is_pattern: bool,
    /// It was seen from its start.
    pub from_start: bool,
    /// The largest frame.
    pub largest: usize,
    /// How it ended.
    pub end: FrameKind,
}

fn read(mut stream: UnixStream, shared: &Shared) {
    let (mut decoder, mut buffer) = (Decoder::new(), BytesMut::new());
    let mut chunk = vec![0; Decoder::READ_BYTES];
    loop {
        let read = stream.read(&mut chunk).unwrap_or(0);
        buffer.extend_from_slice(&chunk[..read]);
        let mut copies = shared.0.lock().expect("no other reader");
        copies.ended = read == 0;
        loop {
            match decoder.take(&mut buffer) {
                Ok(Some(record)) => copies.record(record),
                Ok(None) => break,
                Err(error) => {
                    copies.nonsense = Some(error.to_string());
                    break;
                }
            }
        }
        shared.1.notify_all();
        if read == 0 || copies.nonsense.is_some() {
            return;
        }
    }
}
