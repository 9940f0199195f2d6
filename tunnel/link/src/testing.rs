//! Two ends of a link on loopback, for the tests of this crate.

use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    RootCertStore,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio_util::task::TaskTracker;

use crate::{
    carrier::CarrierChoice,
    dial::{Dialer, Link},
    listen::{Arrived, Listener},
    version::ALPN,
};

pub(crate) const SERVER_NAME: &str = "gateway.test";

/// TLS for both sides, without client certificates: those are `certs`' and tested there.
pub(crate) fn tls() -> (Arc<rustls::ClientConfig>, Arc<rustls::ServerConfig>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([SERVER_NAME.to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let mut client = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![ALPN.to_vec()];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    server.alpn_protocols = vec![ALPN.to_vec()];
    (Arc::new(client), Arc::new(server))
}

/// A link over this carrier: the session's end, the gateway's, and the listener that must outlive them.
pub(crate) async fn linked(choice: CarrierChoice) -> (Link, Arrived, Listener) {
    let tasks = TaskTracker::new();
    let (client, server) = tls();
    let mut listener = Listener::bind("127.0.0.1:0".parse().unwrap(), server, &[7; 64], &tasks).await.unwrap();
    let dialer =
        Dialer { gateway: listener.local_addr(), tls: client, server_name: SERVER_NAME, mark: None, choice, tasks };
    let (link, arrived) = tokio::join!(dialer.dial(), listener.accept());
    (link.unwrap(), arrived.unwrap(), listener)
}
