//! The authority, identities and TLS configurations together: who gets through a handshake and who does not.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers as well")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use certs::{
    Authority, AuthorityError, Identity, IdentityError, SERVER_NAME, client_config, peer_identity, server_config,
};
use rustls::{CertificateError, ClientConnection, Error, NamedGroup, ServerConnection};

const DAY: Duration = Duration::from_secs(86_400);
const ALPN: &[&[u8]] = &[b"test"];

struct Fixture {
    dir: tempfile::TempDir,
    authority: Arc<Authority>,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(&dir.path().join("state"), SystemTime::now()).unwrap();
        Self { dir, authority: Arc::new(authority) }
    }

    fn issue(&self, name: &str, validity: Duration, now: SystemTime) -> PathBuf {
        let path = self.dir.path().join(format!("{name}.pem"));
        self.authority.issue_client(&name.parse().unwrap(), validity, now).unwrap().write_new(&path).unwrap();
        path
    }
}

/// Drives both ends in memory until they agree or one fails.
fn handshake(client: &Identity, gateway: &Arc<Authority>) -> Result<(ClientConnection, ServerConnection), Error> {
    let server = server_config(Arc::clone(gateway), ALPN).unwrap();
    let client = client_config(client, ALPN).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), SERVER_NAME.try_into().unwrap()).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets()?;
        bytes.clear();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok((client, server))
}

fn load(path: &Path) -> Result<Identity, IdentityError> {
    Identity::load(path, SystemTime::now())
}

#[test]
fn an_issued_identity_gets_through_with_post_quantum_keys_and_is_known_by_name() {
    let fixture = Fixture::new();
    let identity = load(&fixture.issue("alice@example.com", DAY, SystemTime::now())).unwrap();
    let (client, server) = handshake(&identity, &fixture.authority).unwrap();
    assert_eq!(client.alpn_protocol(), Some(&b"test"[..]));
    assert_eq!(client.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
    let peer = peer_identity(&server.peer_certificates().unwrap()[0]).unwrap();
    assert_eq!(&peer.name, identity.name());
    assert_eq!(peer.not_after, identity.not_after());
}

#[test]
fn a_foreign_identity_is_refused_by_both_sides() {
    let (ours, theirs) = (Fixture::new(), Fixture::new());
    let identity = load(&theirs.issue("mallory", DAY, SystemTime::now())).unwrap();
    let error = handshake(&identity, &ours.authority).unwrap_err();
    assert!(matches!(error, Error::InvalidCertificate(CertificateError::UnknownIssuer)), "{error:?}");
}

#[test]
fn the_same_authority_is_opened_again_and_its_files_are_private() {
    let fixture = Fixture::new();
    let state = fixture.dir.path().join("state");
    let again = Authority::open_or_create(&state, SystemTime::now()).unwrap();
    assert_eq!(again.certificate(), fixture.authority.certificate());
    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    for file in ["ca.pem", "ca.key"] {
        assert_eq!(fs::metadata(state.join(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
}

#[test]
fn a_lost_certificate_is_made_again_and_identities_stay_good() {
    let fixture = Fixture::new();
    let identity = load(&fixture.issue("alice", DAY, SystemTime::now())).unwrap();
    let state = fixture.dir.path().join("state");
    fs::remove_file(state.join("ca.pem")).unwrap();
    let again = Arc::new(Authority::open_or_create(&state, SystemTime::now()).unwrap());
    handshake(&identity, &again).unwrap();
}

#[test]
fn a_lost_key_is_not_replaced_in_silence() {
    let fixture = Fixture::new();
    let state = fixture.dir.path().join("state");
    fs::remove_file(state.join("ca.key")).unwrap();
    let error = Authority::open_or_create(&state, SystemTime::now()).err().unwrap();
    assert!(matches!(error, AuthorityError::KeyMissing { .. }), "{error}");
    assert!(error.to_string().contains("voids every identity"));
    assert!(!state.join("ca.key").exists());
}

#[test]
fn damaged_and_swapped_authority_files_are_named() {
    let (fixture, other) = (Fixture::new(), Fixture::new());
    let state = fixture.dir.path().join("state");
    fs::copy(other.dir.path().join("state/ca.pem"), state.join("ca.pem")).unwrap();
    let error = Authority::open_or_create(&state, SystemTime::now()).err().unwrap();
    assert!(matches!(error, AuthorityError::Mismatch { .. }), "{error}");
    fs::write(state.join("ca.key"), "no key").unwrap();
    let error = Authority::open_or_create(&state, SystemTime::now()).err().unwrap();
    assert!(error.to_string().contains("ca.key holds no usable private key"), "{error}");
}

#[test]
fn two_first_starts_at_once_agree_on_one_authority() {
    let dir = tempfile::tempdir().unwrap();
    let certificates: Vec<_> = std::thread::scope(|scope| {
        let start = || Authority::open_or_create(dir.path(), SystemTime::now()).unwrap().certificate().clone();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(certificates.iter().all(|certificate| certificate == &certificates[0]));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn an_identity_is_good_within_the_clock_tolerance_and_not_after_its_end() {
    let fixture = Fixture::new();
    let now = SystemTime::now();
    let path = fixture.issue("alice", DAY, now);
    assert!(Identity::load(&path, now - Duration::from_secs(4 * 60)).is_ok());
    let early = Identity::load(&path, now - Duration::from_secs(6 * 60)).unwrap_err();
    assert!(early.to_string().contains("check this machine's clock"), "{early}");
    let late = Identity::load(&path, now + DAY).unwrap_err();
    assert!(late.to_string().contains("alice.pem (alice) expired at "), "{late}");
}

#[test]
fn a_life_of_nothing_or_of_more_than_a_year_is_refused() {
    let fixture = Fixture::new();
    let name = "alice".parse().unwrap();
    for days in [0, 366] {
        let error = fixture.authority.issue_client(&name, DAY * days, SystemTime::now()).err().unwrap();
        assert_eq!(error.to_string(), format!("an identity lives between 1 and 365 days, not {days}"));
    }
}

#[test]
fn every_broken_identity_file_is_named_with_its_remedy() {
    let fixture = Fixture::new();
    let good = fixture.issue("alice", DAY, SystemTime::now());
    let text = fs::read_to_string(&good).unwrap();
    let other = fs::read_to_string(fixture.issue("bob", DAY, SystemTime::now())).unwrap();
    let foreign = fs::read_to_string(Fixture::new().issue("carol", DAY, SystemTime::now())).unwrap();
    let blocks = |text: &str| -> Vec<String> {
        text.split_inclusive("-----\n").collect::<Vec<_>>().chunks(2).map(|pair| pair.concat()).collect()
    };
    let (alice, bob, carol) = (blocks(&text), blocks(&other), blocks(&foreign));
    for (contents, expected) in [
        ("hello".to_owned(), "has no certificate in PEM"),
        (format!("{}{}", alice[0], alice[1]), "has no authority's certificate in PEM"),
        (format!("{}{}", alice[0], alice[2]), "has no private key in PEM"),
        (format!("{}{}{}", alice[2], alice[1], alice[2]), "has no certificate of a session in PEM"),
        (format!("{}{}{}", alice[0], bob[1], alice[2]), "is not that of its certificate"),
        (format!("{}{}{}", alice[0], alice[1], carol[2]), "by the authority in the same file"),
    ] {
        fs::write(&good, contents).unwrap();
        let error = load(&good).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("alice.pem"), "{error}");
    }
    fs::set_permissions(&good, fs::Permissions::from_mode(0o644)).unwrap();
    let error = load(&good).unwrap_err().to_string();
    assert!(error.contains("alice.pem may be read by others (mode 0644): run 'chmod 600 "), "{error}");
    let error = load(&fixture.dir.path().join("none.pem")).unwrap_err();
    assert!(error.to_string().contains("none.pem does not exist: ask"), "{error}");
}

#[test]
fn no_debug_output_shows_a_key() {
    let fixture = Fixture::new();
    let path = fixture.issue("alice", DAY, SystemTime::now());
    assert!(!format!("{:?}", load(&path).unwrap()).contains("key"));
}
