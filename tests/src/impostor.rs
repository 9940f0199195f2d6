//! A gateway that holds the right keys and says what a test wants it to say.

use std::{net::SocketAddr, path::Path, sync::Arc, time::SystemTime};

use certs::Authority;
use cli::demo::{
    plan,
    services::{Services, Supervisor},
};
use link::{
    control::{ToGateway, ToSession, Welcome, read_message, write_message},
    header::StreamHeader,
    listen::{Arrived, Listener},
    version::{ALPN, VERSION},
};
use tokio::io::AsyncReadExt;
use tokio_util::task::TaskTracker;

use crate::lab::Lab;

/// What an honest gateway of the lab's plan would say.
pub fn honest_welcome() -> Welcome {
    Welcome {
        version: VERSION,
        program: "0.0.0".to_owned(),
        session: 1,
        identity: "alice".to_owned(),
        routes: plan::CLUSTER_ROUTES.map(|route| route.parse().expect("the plan's routes are prefixes")).to_vec(),
        domain: plan::CLUSTER_DOMAIN.to_owned(),
        namespaces: vec![plan::NAMESPACE.to_owned()],
        never: Vec::new(),
    }
}

/// Listens in the gateway's place, with the keys that issued the lab's identities, and welcomes every session with
/// `welcome`. Nothing else is answered.
#[track_caller]
pub fn start(lab: &Lab, welcome: Welcome) -> Services {
    let keys = lab.directory().join("gateway-state");
    let services = Services::start(&lab.gateway, move |supervisor| {
        let serving = serve(supervisor.clone(), keys_of(&keys)?, welcome);
        supervisor.spawn(serving);
        Ok(())
    });
    let services = services.expect("a runtime");
    lab.wait_for_gateway_port(|| {});
    services
}

fn keys_of(directory: &Path) -> std::io::Result<Arc<rustls::ServerConfig>> {
    let authority = Authority::open_or_create(directory, SystemTime::now()).map_err(std::io::Error::other)?;
    certs::server_config(Arc::new(authority), &[ALPN]).map(Arc::new).map_err(std::io::Error::other)
}

async fn serve(supervisor: Supervisor, tls: Arc<rustls::ServerConfig>, welcome: Welcome) {
    let tasks = TaskTracker::new();
    let address = SocketAddr::new(plan::UPLINK_GATEWAY.v4.into(), plan::GATEWAY_PORT);
    let mut listener = Listener::bind(address, tls, &[7; 64], &tasks).await.expect("the port is free");
    while let Some(arrived) = listener.accept().await {
        let welcome = welcome.clone();
        supervisor.spawn(async move {
            // What a session does to an impostor's connection is the test's to see, on the session's side.
            let _ = greet(arrived, welcome).await;
        });
    }
}

async fn greet(arrived: Arrived, welcome: Welcome) -> anyhow::Result<()> {
    let (mut answers, mut messages) = arrived.connection.accept_bi().await?;
    // The control stream's header is its kind alone.
    let kind = messages.read_u8().await?;
    anyhow::ensure!(StreamHeader::decode(&[kind])? == StreamHeader::Control, "the first stream is another");
    read_message::<ToGateway>(&mut messages).await?;
    write_message(&mut answers, &ToSession::Welcome(welcome)).await?;
    arrived.connection.closed().await;
    Ok(())
}
