//! A gateway in this process, and a session's half of the link without its TUN.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use certs::{Authority, Identity, SERVER_NAME};
use gateway::{Gateway, Reloader, Shutdown, StartTap, TapProgram, config::Config};
use link::{
    carrier::CarrierChoice,
    control::{ToGateway, ToSession, Welcome, read_message, write_message},
    datagram::{self, Datagram},
    dial::{Dialer, Link},
    header::{DialOutcome, StreamHeader},
    version::{ALPN, VERSION},
};
use quinn::{ConnectionError, RecvStream, SendStream};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_util::task::TaskTracker;

/// Where a gateway's keys are, and what it is configured with.
pub(crate) struct Home(pub(crate) tempfile::TempDir);

/// A gateway that runs until dropped.
pub(crate) struct Lab {
    pub(crate) home: Home,
    pub(crate) address: SocketAddr,
    pub(crate) metrics: SocketAddr,
    pub(crate) shutdown: Shutdown,
    pub(crate) running: JoinHandle<()>,
    pub(crate) reloader: Reloader,
    /// What it was started with.
    pub(crate) config: Config,
    tasks: TaskTracker,
}

/// A session that was welcomed.
pub(crate) struct Peer {
    pub(crate) link: Link,
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
    pub(crate) welcome: Welcome,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn config(&self) -> Config {
        let text = format!(
            r#"
            listen = "127.0.0.1:0"
            metrics = "127.0.0.1:0"
            state_dir = "{0}"
            audit = "{0}/audit.jsonl"
            [cluster]
            provider = "linux"
            domain = "cluster.local"
            dns = "127.0.0.1:1"
            routes = ["127.0.0.0/8", "::1/128"]
            namespaces = ["shop"]
            "#,
            self.0.path().display()
        );
        Config::parse(&text, "lab.toml".as_ref()).unwrap()
    }

    /// Issues an identity, once a name.
    pub(crate) fn identity(&self, name: &str, validity: Duration) -> PathBuf {
        let authority = Authority::open_or_create(self.0.path(), SystemTime::now()).unwrap();
        let path = self.0.path().join(format!("{name}.pem"));
        if !path.exists() {
            let issued = authority.issue_client(&name.parse().unwrap(), validity, SystemTime::now());
            issued.unwrap().write_new(&path).unwrap();
        }
        path
    }

    /// An identity that lives for an hour.
    pub(crate) fn load(&self, name: &str) -> Identity {
        Identity::load(&self.identity(name, Duration::from_secs(3_600)), SystemTime::now()).unwrap()
    }

    pub(crate) fn dialer(
        &self,
        gateway: SocketAddr,
        identity: &Identity,
        choice: CarrierChoice,
        tasks: &TaskTracker,
    ) -> Dialer {
        Dialer {
            gateway,
            tls: Arc::new(certs::client_config(identity, &[ALPN]).unwrap()),
            server_name: SERVER_NAME,
            mark: None,
            choice,
            tasks: tasks.clone(),
        }
    }
}

impl Lab {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::with_taps(Home::new(), Arc::new(TapProgram::own()), change).await
    }

    /// With taps that are started in another way.
    pub(crate) async fn with_taps(home: Home, taps: Arc<dyn StartTap>, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = home.config();
        change(&mut config);
        let gateway = Gateway::start_with(&config, taps).await.unwrap();
        let (address, metrics) = (gateway.local_addr(), gateway.metrics_addr().unwrap());
        let reloader = gateway.reloader(config.clone());
        let shutdown = Shutdown::default();
        let tasks = TaskTracker::new();
        let running = tasks.spawn(gateway.run(shutdown.clone()));
        Self { home, address, metrics, shutdown, running, reloader, config, tasks }
    }

    /// Goes over to a changed configuration, as after a SIGHUP.
    pub(crate) fn reload(&self, change: impl FnOnce(&mut Config)) {
        let mut config = self.config.clone();
        change(&mut config);
        self.reloader.take_over(Ok(config));
    }

    /// The audit's lines once `is_there` says that what is waited for is among them.
    pub(crate) async fn audit(&self, is_there: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        loop {
            let text = fs::read_to_string(self.home.0.path().join("audit.jsonl")).unwrap();
            // The last line may be half there.
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let lines: Vec<Value> = whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            if is_there(&lines) {
                return lines;
            }
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn state_dir(&self) -> &Path {
        self.home.0.path()
    }

    pub(crate) fn identity(&self, name: &str, validity: Duration) -> PathBuf {
        self.home.identity(name, validity)
    }

    pub(crate) fn dialer(&self, identity: &Identity, choice: CarrierChoice) -> Dialer {
        self.home.dialer(self.address, identity, choice, &self.tasks)
    }

    /// A link that has not said hello.
    pub(crate) async fn link(&self, name: &str) -> Link {
        let identity = self.home.load(name);
        self.dialer(&identity, CarrierChoice::Udp).dial().await.unwrap()
    }

    /// A welcomed session.
    pub(crate) async fn connect(&self, name: &str) -> Peer {
        Peer::greet(self.link(name).await).await
    }

    /// The line of this metric, such as `dials_total{outcome="refused"}`, from the metrics endpoint.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let (_, body) = self.http("/metrics").await;
        let line = body.lines().find_map(|line| line.strip_prefix(&format!("adit_gateway_{name} ")).map(str::to_owned));
        line.unwrap_or_else(|| panic!("no {name} in {body}")).parse().unwrap()
    }

    /// Waits until a metric has a value.
    pub(crate) async fn metric_becomes(&self, name: &str, value: u64) {
        while self.metric(name).await != value {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn http(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.metrics).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }
}

impl Peer {
    pub(crate) async fn greet(link: Link) -> Self {
        let (mut send, mut recv) = open(&link, StreamHeader::Control).await;
        let hello = ToGateway::Hello { version: VERSION, program: "test\u{1b}[31m".to_owned() };
        write_message(&mut send, &hello).await.unwrap();
        let ToSession::Welcome(welcome) = read_message(&mut recv).await.unwrap() else { panic!("no welcome") };
        Self { link, send, recv, welcome }
    }

    /// A stream that begins with this header.
    pub(crate) async fn open(&self, header: StreamHeader) -> (SendStream, RecvStream) {
        open(&self.link, header).await
    }

    /// A TCP flow, and how its dial ended.
    pub(crate) async fn dial(&self, to: SocketAddr) -> (DialOutcome, SendStream, RecvStream) {
        let (send, mut recv) = self.open(StreamHeader::Tcp(to)).await;
        let outcome = DialOutcome::try_from(recv.read_u8().await.unwrap()).unwrap();
        (outcome, send, recv)
    }

    /// Sends a message without a stream of its own, on one if it must.
    pub(crate) async fn send(&self, message: Datagram<'_>) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        if bytes.len() <= self.link.connection.max_datagram_size().unwrap() {
            return self.link.connection.send_datagram(bytes.into()).unwrap();
        }
        let mut stream = self.link.connection.open_uni().await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.finish().unwrap();
    }

    /// The next message without a stream of its own.
    pub(crate) async fn receive(&self) -> Vec<u8> {
        tokio::select! {
            datagram = self.link.connection.read_datagram() => datagram.unwrap().to_vec(),
            stream = self.link.connection.accept_uni() => stream.unwrap().read_to_end(datagram::MAX_BYTES).await.unwrap(),
        }
    }

    /// How the gateway closed the link: code and reason.
    pub(crate) async fn closed(&self) -> (u64, String) {
        closed(&self.link).await
    }
}

pub(crate) async fn open(link: &Link, header: StreamHeader) -> (SendStream, RecvStream) {
    let mut bytes = Vec::new();
    header.encode(&mut bytes);
    let (mut send, recv) = link.connection.open_bi().await.unwrap();
    send.write_all(&bytes).await.unwrap();
    (send, recv)
}

pub(crate) async fn closed(link: &Link) -> (u64, String) {
    let error = link.connection.closed().await;
    let ConnectionError::ApplicationClosed(close) = error else { panic!("not closed by the gateway: {error}") };
    (close.error_code.into_inner(), String::from_utf8(close.reason.to_vec()).unwrap())
}
