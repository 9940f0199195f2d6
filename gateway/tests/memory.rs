//! What 10,000 idle flows cost the gateway's process, and that it gives the memory back. A process of its own, for its own size.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers as well")]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use certs::{Authority, Identity, SERVER_NAME};
use link::{
    carrier::CarrierChoice,
    control::{ToGateway, ToSession, read_message, write_message},
    dial::{Dialer, Link},
    header::StreamHeader,
    version::{ALPN, VERSION},
};
use nix::{
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        signal::{Signal, kill},
    },
    unistd::Pid,
};
use quinn::{RecvStream, SendStream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_util::task::TaskTracker;

const FLOWS: usize = 10_000;
/// The bar for a flow that carried a byte each way and idles.
const MOST_BYTES_A_FLOW: usize = 6 << 10;

struct Gateway(Child);

impl Gateway {
    fn start(config: &Path) -> (Self, String) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_adit-gateway"))
            .args(["run", "--log-format", "json", "--config"])
            .arg(config)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready = lines.find_map(|line| line.ok().filter(|line| line.contains("gateway ready"))).unwrap();
        // The rest of the log is read to its end, so that the gateway never waits for a reader.
        std::thread::spawn(move || lines.count());
        (Self(child), ready)
    }

    fn resident_bytes(&self) -> usize {
        let text = fs::read_to_string(format!("/proc/{}/statm", self.0.id())).unwrap();
        text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    fn end(mut self) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), Signal::SIGTERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn connect(dir: &Path, address: &str) -> (Link, SendStream, RecvStream) {
    let authority = Authority::open_or_create(dir, SystemTime::now()).unwrap();
    let path = dir.join("alice.pem");
    let identity = authority.issue_client(&"alice".parse().unwrap(), Duration::from_secs(600), SystemTime::now());
    identity.unwrap().write_new(&path).unwrap();
    let identity = Identity::load(&path, SystemTime::now()).unwrap();
    let dialer = Dialer {
        gateway: address.parse().unwrap(),
        tls: Arc::new(certs::client_config(&identity, &[ALPN]).unwrap()),
        server_name: SERVER_NAME,
        mark: None,
        choice: CarrierChoice::Udp,
        tasks: TaskTracker::new(),
    };
    let link = dialer.dial().await.unwrap();
    let (mut send, mut recv) = open(&link, StreamHeader::Control).await;
    write_message(&mut send, &ToGateway::Hello { version: VERSION, program: String::new() }).await.unwrap();
    assert!(matches!(read_message::<ToSession>(&mut recv).await.unwrap(), ToSession::Welcome(_)));
    (link, send, recv)
}

async fn open(link: &Link, header: StreamHeader) -> (SendStream, RecvStream) {
    let mut bytes = Vec::new();
    header.encode(&mut bytes);
    let (mut send, recv) = link.connection.open_bi().await.unwrap();
    send.write_all(&bytes).await.unwrap();
    (send, recv)
}

#[tokio::test]
async fn ten_thousand_idle_flows_fit_and_are_given_back() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let flows = FLOWS.min(usize::try_from(hard).unwrap().saturating_sub(100));
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let config = dir.path().join("gateway.toml");
    let text = format!(
        "listen = \"127.0.0.1:0\"\nstate_dir = \"{}\"\n[cluster]\nprovider = \"linux\"\ndomain = \"c\"\ndns = \"127.0.0.1\"\nroutes = [\"127.0.0.0/8\"]\n",
        state.display()
    );
    fs::write(&config, text).unwrap();
    let (gateway, ready) = Gateway::start(&config);
    let address = ready.split("\"listen\":\"").nth(1).unwrap().split('"').next().unwrap();
    let (link, _send, _recv) = connect(&state, address).await;

    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = service.local_addr().unwrap();
    let before = gateway.resident_bytes();
    let mut open_flows = Vec::new();
    for _ in 0..flows {
        let ((mut send, mut recv), accepted) = tokio::join!(open(&link, StreamHeader::Tcp(to)), service.accept());
        let (mut socket, _) = accepted.unwrap();
        assert_eq!(recv.read_u8().await.unwrap(), 0);
        send.write_all(b"a").await.unwrap();
        let byte = socket.read_u8().await.unwrap();
        socket.write_u8(byte).await.unwrap();
        assert_eq!(recv.read_u8().await.unwrap(), b'a');
        open_flows.push((send, recv, socket));
    }
    let peak = gateway.resident_bytes();
    let per_flow = peak.saturating_sub(before) / flows;
    assert!(per_flow <= MOST_BYTES_A_FLOW, "{per_flow} bytes a flow");

    // quinn keeps a small part for each stream that was open at once, until the session ends.
    drop(open_flows);
    let started = Instant::now();
    let kept = loop {
        let kept = gateway.resident_bytes().saturating_sub(before);
        if kept * 2 <= peak - before || started.elapsed() > Duration::from_secs(30) {
            break kept;
        }
        // The condition is the kernel's, so nothing wakes who waits for it.
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    println!("{flows} flows: {per_flow} bytes each, {kept} bytes kept of {}", peak - before);
    assert!(kept * 2 <= peak - before, "{kept} bytes kept of {}", peak - before);
    drop(link);
    gateway.end();
}
