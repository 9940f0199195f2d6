//! Ten thousand connections, 64 at a time: for each, what the host's program got is what the target's program read. On a link that
//! loses, reorders and doubles packets it is the same, or a gap is reported that is as large as what is missing.

use std::{
    io::Write,
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use cli::demo::{pattern, plan};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tests::{
    emulator::Conditions,
    mirror::{LISTENER, Rig, accounted},
    recorder::{Recorder, Recording},
    wait,
};
use tunnel::control::mirror_status::RuleStatus;

const PORT: u16 = 9_000;
const CONNECTIONS: u64 = 10_000;
/// Each packet of a link that is emulated costs more than all else; so fewer, and slower, lest the ring lose what the link does not.
const ON_A_BAD_LINK: u64 = 2_000;
const BAD_RATE: f64 = 1.2e8;
const AT_ONCE: u64 = 64;
const LARGEST_BYTES: f64 = (4 << 20) as f64;
/// Bits a second, of all together: what a debug build on two cores bears beside the programs that send and receive. The rate that a release
/// build bears is measured, not tested.
const RATE: f64 = 6e8;
/// What a debug build on two cores needs for all of them, several times over.
const PATIENCE: Duration = Duration::from_secs(120);

/// The size of a connection: most are small, 0 and 4 MiB included.
fn size_of(connection: u64) -> u64 {
    let share: f64 = StdRng::seed_from_u64(connection).random();
    match connection % 200 {
        0 => 0,
        1 => LARGEST_BYTES as u64,
        _ => LARGEST_BYTES.powf(share * share) as u64,
    }
}

/// Sends the connection's own bytes: the pattern from a place of its own, so that no two are the same.
fn send(mut stream: TcpStream, connection: u64, sent: &AtomicU64, began: Instant, rate: f64) {
    let (size, start) = (size_of(connection), connection * 7_919);
    let mut at = 0;
    while at < size {
        let chunk = pattern::slice(start + at, usize::try_from((size - at).min(64 << 10)).expect("a chunk is small"));
        stream.write_all(&chunk).expect("the pod reads");
        at += chunk.len() as u64;
        // The rate of all together.
        let due = Duration::from_secs_f64(sent.fetch_add(chunk.len() as u64, Relaxed) as f64 * 8.0 / rate);
        thread::sleep(due.saturating_sub(began.elapsed()));
    }
    stream.shutdown(Shutdown::Write).expect("half-closed");
    // The pod's own end says that it has read all.
    let _ = std::io::Read::read(&mut stream, &mut [0]);
}

/// All connections; what the pod and the host's program got, and the rule once all are accounted for.
fn all_connections(rig: &Rig, connections: u64, rate: f64) -> (Vec<Recording>, Vec<Recording>, RuleStatus) {
    let pods = rig.lab.targets();
    let target = Recorder::tcp(&pods.web_1, SocketAddr::new([0, 0, 0, 0].into(), PORT));
    let listener = Recorder::tcp(&rig.lab.host, LISTENER);
    rig.mirror(&format!("deploy/web {PORT}:3000 --replica web-1 --existing raw"));
    let (next, sent, began) = (AtomicU64::new(0), AtomicU64::new(0), Instant::now());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            // Each thread moves into the client's pod once, for all of its connections.
            scope.spawn(|| {
                pods.client.run(|| {
                    loop {
                        let connection = next.fetch_add(1, Relaxed);
                        if connection >= connections {
                            return;
                        }
                        let stream = TcpStream::connect((plan::WEB_1.address.v4, PORT)).expect("the pod listens");
                        send(stream, connection, &sent, began, rate);
                    }
                });
            });
        }
    });
    wait::until("the pod has read all", PATIENCE, || target.ended() as u64 == connections);
    let read: u64 = target.recordings().iter().map(|recording| recording.bytes).sum();
    let deadline = Instant::now() + PATIENCE;
    let rule = loop {
        let rule = rig.rule();
        if accounted(&rule) >= read && rule.delivery.open == 0 {
            break rule;
        }
        assert!(Instant::now() < deadline, "{} of {read} bytes are accounted for: {rule:#?}", accounted(&rule));
        thread::sleep(Duration::from_millis(50));
    };
    wait::until("the copies have ended", PATIENCE, || listener.ended() == listener.recordings().len());
    assert_eq!(accounted(&rule), read, "{rule:?}");
    let got: u64 = listener.recordings().iter().map(|recording| recording.bytes).sum();
    assert_eq!(got, rule.delivery.bytes, "{rule:?}");
    (target.recordings(), listener.recordings(), rule)
}

/// Contents as often as they came.
fn contents(recordings: &[Recording]) -> Vec<(u64, u64)> {
    let mut contents: Vec<_> = recordings.iter().map(|recording| (recording.bytes, recording.hash)).collect();
    contents.sort_unstable();
    contents
}

/// One test at a time: both at once are more than two cores bear.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A machine that other suites keep busy may hold up a tap for longer than its ring lasts. Such a loss is told, and then it is tried again.
const ATTEMPTS: usize = 3;

#[test]
fn every_connection_is_equal_on_a_clean_link() {
    let _turn = turn();
    let lossless = (0..ATTEMPTS).find_map(|_| {
        let (read, got, rule) = all_connections(&Rig::new(), CONNECTIONS, RATE);
        rule.replicas.iter().all(|replica| replica.lost.is_empty()).then_some((read, got, rule))
    });
    let (read, got, rule) = lossless.expect("no loss in one of the attempts");
    assert_eq!(contents(&read), contents(&got));
    assert_eq!(rule.replicas.iter().map(|replica| replica.connections.all).sum::<u64>(), CONNECTIONS);
}

#[test]
fn on_a_bad_link_every_connection_is_equal_or_its_gap_is_told() {
    let conditions = Conditions {
        loss: 0.02,
        reorder: 0.25,
        reorder_by: Duration::from_micros(500),
        duplicate: 0.01,
        ..Conditions::default()
    };
    let _turn = turn();
    let rig = Rig::with_link(conditions);
    let (read, got, rule) = all_connections(&rig, ON_A_BAD_LINK, BAD_RATE);
    let (read, got) = (contents(&read), contents(&got));
    let missing: Vec<_> = read.iter().filter(|content| got.binary_search(content).is_err()).collect();
    let lost: u64 = rule.replicas.iter().flat_map(|replica| replica.lost.values()).map(|loss| loss.bytes).sum();
    let kept_back = rule.delivery.not_joined.bytes + rule.delivery.not_delivered.bytes;
    assert!(missing.is_empty() || lost + kept_back > 0, "{missing:?} {rule:?}");
}
