//! A real nameserver over UDP and TCP that remembers every question it was asked.
//!
//! The log is what proves that no cluster name leaked to the ordinary nameserver, and no ordinary one to the cluster's.
//! Before it in the flow: [`super::zones`]. Next: [`super::services`].

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hickory_proto::{rr::Name, serialize::txt::Parser};
use hickory_server::{
    Server,
    net::runtime::{Time, TokioRuntimeProvider},
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    store::in_memory::InMemoryZoneHandler,
    zone_handler::{AxfrPolicy, Catalog, ZoneType},
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

use super::{services::Supervisor, zones::Zone};

/// How long a TCP client may be silent; enough for any test's pause.
const TCP_TIMEOUT: Duration = Duration::from_secs(30);
/// Answers a TCP client may leave unread before its connection waits.
const TCP_RESPONSES: usize = 64;

/// A question as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The name in lower case, absolute.
    pub name: String,
    /// `A`, `AAAA`, `TXT`...
    pub kind: String,
    /// Who asked.
    pub from: SocketAddr,
    /// Over TCP, not UDP.
    pub over_tcp: bool,
}

/// Every question a nameserver was asked, oldest first. Clones share the log.
#[derive(Debug, Clone, Default)]
pub struct QuestionLog {
    // Unbounded on purpose: it lives as long as one test or one demo.
    questions: Arc<Mutex<Vec<Question>>>,
}

impl QuestionLog {
    /// The questions so far.
    pub fn questions(&self) -> Vec<Question> {
        self.lock().clone()
    }

    /// The questions so far for `domain` and the names below it.
    pub fn below(&self, domain: &str) -> Vec<Question> {
        let domain = domain.trim_end_matches('.').to_lowercase();
        let inside = |name: &str| {
            let name = name.trim_end_matches('.');
            name == domain || name.ends_with(&format!(".{domain}"))
        };
        self.lock().iter().filter(|question| inside(&question.name)).cloned().collect()
    }

    /// Forgets the questions so far.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Question>> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers from `zones` on port 53 of each address. To be called on the runtime of [`super::services`].
pub fn serve(supervisor: &Supervisor, addresses: &[IpAddr], zones: &[Zone], log: QuestionLog) -> io::Result<()> {
    let mut server = Server::new(LoggedZones { catalog: catalog(zones)?, log });
    for address in addresses {
        let address = SocketAddr::new(*address, 53);
        let udp = bind(address, Type::DGRAM, Protocol::UDP)?;
        server.register_socket(UdpSocket::from_std(udp.into())?);
        let tcp = bind(address, Type::STREAM, Protocol::TCP)?;
        tcp.listen(64)?;
        server.register_listener(TcpListener::from_std(tcp.into())?, TCP_TIMEOUT, TCP_RESPONSES);
    }
    supervisor.spawn(async move {
        // Ends only by being dropped; a socket that failed ends this nameserver, and the test sees no answers.
        let _ = server.block_until_done().await;
    });
    Ok(())
}

fn bind(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind.nonblocking(), Some(protocol))?;
    socket.set_reuse_address(kind == Type::STREAM)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn catalog(zones: &[Zone]) -> io::Result<Catalog> {
    let mut catalog = Catalog::new();
    for zone in zones {
        let origin = Name::from_ascii(&zone.origin).map_err(io::Error::other)?;
        let parsed = Parser::new(zone.records.as_str(), None, Some(origin.clone())).parse();
        let (_, records) = parsed.map_err(|error| io::Error::other(format!("zone {}: {error}", zone.origin)))?;
        let handler = InMemoryZoneHandler::<TokioRuntimeProvider>::new(
            origin.clone(),
            records,
            ZoneType::Primary,
            AxfrPolicy::Deny,
        );
        catalog.upsert(origin.into(), vec![Arc::new(handler.map_err(io::Error::other)?)]);
    }
    Ok(catalog)
}

struct LoggedZones {
    catalog: Catalog,
    log: QuestionLog,
}

impl RequestHandler for LoggedZones {
    // Written out because the trait was made by a macro that this crate has no other use for.
    fn handle_request<'server, 'request, 'answer, R, T>(
        &'server self,
        request: &'request Request,
        response: R,
    ) -> Pin<Box<dyn Future<Output = ResponseInfo> + Send + 'answer>>
    where
        'server: 'answer,
        'request: 'answer,
        R: ResponseHandler + 'answer,
        T: Time + 'answer,
        Self: 'answer,
    {
        let asked = request.queries.queries().iter().map(|query| Question {
            name: query.name().to_string().to_lowercase(),
            kind: query.query_type().to_string(),
            from: request.src(),
            over_tcp: request.protocol() == hickory_server::net::xfer::Protocol::Tcp,
        });
        self.log.lock().extend(asked);
        self.catalog.handle_request::<R, T>(request, response)
    }
}
