//! Bare quinn between the same two namespaces, memory to memory: what QUIC itself costs here.
//!
//! Each end is a thread with a runtime of its own, so the thread's CPU time is the end's. quinn as it comes, with larger socket
//! buffers: larger windows than its own make it dearer here, since what waits falls out of the cache.

use std::{
    net::SocketAddr,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use cli::demo::{namespace::Namespace, plan};
use quinn::{Connection, Endpoint, EndpointConfig, TokioRuntime, VarInt};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{bulk::Way, cpu, stage::Stage};

const PORT: u16 = 7900;
const NAME: &str = "bare.test";
const CHUNK_BYTES: usize = 64 << 10;
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// What a bulk transfer took.
pub(crate) struct Bulk {
    pub(crate) cpu_per_gb: f64,
}

/// The configurations of both ends.
struct Ends {
    client: quinn::ClientConfig,
    server: quinn::ServerConfig,
}

/// One stream for this long.
pub(crate) fn bulk(stage: &Stage, way: Way, time: Duration) -> Result<Bulk> {
    let (server, client) = on_both(stage, move |connection, is_server| async move {
        let began = cpu::of_thread()?;
        let sends = is_server == (way == Way::Down);
        let bytes = if sends { send(&connection, time).await? } else { receive(&connection).await? };
        Ok((cpu::of_thread()? - began, bytes))
    })?;
    let received = if way == Way::Down { client.1 } else { server.1 };
    Ok(Bulk { cpu_per_gb: (server.0 + client.0).as_secs_f64() / (received as f64 * 1e-9) })
}

/// One-byte exchanges on one stream: the time of each.
pub(crate) fn exchanges(stage: &Stage, count: usize, gap: Duration) -> Result<Vec<Duration>> {
    let (_, client) = on_both(stage, move |connection, is_server| async move {
        if is_server {
            let (mut send, mut recv) = connection.accept_bi().await?;
            let mut byte = [0];
            while recv.read_exact(&mut byte).await.is_ok() {
                send.write_all(&byte).await?;
            }
            return Ok(Vec::new());
        }
        let (mut send, mut recv) = connection.open_bi().await?;
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let began = Instant::now();
            send.write_all(&[1]).await?;
            recv.read_exact(&mut [0]).await?;
            times.push(began.elapsed());
            if !gap.is_zero() {
                tokio::time::sleep(gap).await;
            }
        }
        Ok(times)
    })?;
    Ok(client)
}

async fn send(connection: &Connection, time: Duration) -> Result<u64> {
    let mut stream = connection.open_uni().await?;
    let chunk = vec![7; CHUNK_BYTES];
    let began = Instant::now();
    let mut sent = 0;
    while began.elapsed() < time {
        stream.write_all(&chunk).await?;
        sent += chunk.len() as u64;
    }
    stream.finish()?;
    stream.stopped().await?;
    Ok(sent)
}

async fn receive(connection: &Connection) -> Result<u64> {
    let mut stream = connection.accept_uni().await?;
    let mut received = 0;
    while let Some(chunk) = stream.read_chunk(CHUNK_BYTES, true).await? {
        received += chunk.bytes.len() as u64;
    }
    Ok(received)
}

/// Runs `work` at both ends of a fresh connection; the server's result, then the client's.
fn on_both<T, F, W>(stage: &Stage, work: W) -> Result<(T, T)>
where
    T: Send + 'static,
    F: Future<Output = Result<T>>,
    W: Fn(Connection, bool) -> F + Send + Clone + 'static,
{
    let Ends { client, server } = ends()?;
    let (ready, is_ready) = mpsc::sync_channel(1);
    let (host, gateway) = (stage.lab.host.clone(), stage.lab.gateway.clone());
    let serve = work.clone();
    let server = thread::spawn(move || {
        on_runtime(&gateway, async {
            let endpoint = endpoint(SocketAddr::from((plan::UPLINK_GATEWAY.v4, PORT)), Some(server))?;
            ready.send(())?;
            let connection = endpoint.accept().await.context("nobody came")?.await?;
            let done = serve(connection.clone(), true).await?;
            connection.closed().await;
            Ok(done)
        })
    });
    is_ready.recv()?;
    let client = thread::spawn(move || {
        on_runtime(&host, async {
            let endpoint = endpoint(SocketAddr::from((plan::UPLINK_HOST.v4, 0)), None)?;
            let address = SocketAddr::from((plan::UPLINK_GATEWAY.v4, PORT));
            let connection = endpoint.connect_with(client, address, NAME)?.await?;
            let done = work(connection.clone(), false).await?;
            connection.close(VarInt::from_u32(0), b"done");
            endpoint.wait_idle().await;
            Ok(done)
        })
    });
    let client = client.join().expect("the client's thread does not panic")?;
    let server = server.join().expect("the server's thread does not panic")?;
    Ok((server, client))
}

fn on_runtime<T>(namespace: &Namespace, work: impl Future<Output = Result<T>>) -> Result<T> {
    namespace.enter()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn endpoint(address: SocketAddr, server: Option<quinn::ServerConfig>) -> Result<Endpoint> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    Ok(Endpoint::new(EndpointConfig::default(), server, socket.into(), Arc::new(TokioRuntime))?)
}

fn ends() -> Result<Ends> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([NAME.to_owned()])?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = [&rustls::version::TLS13];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert.der().clone())?;
    let client = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)?
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)?;
    let client = quinn::ClientConfig::new(Arc::new(quinn::crypto::rustls::QuicClientConfig::try_from(client)?));
    let server = Arc::new(quinn::crypto::rustls::QuicServerConfig::try_from(server)?);
    let server = quinn::ServerConfig::with_crypto(server);
    Ok(Ends { client, server })
}
