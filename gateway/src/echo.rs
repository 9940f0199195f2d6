//! Echoes: a session's ping becomes a real one from here, and only a real answer is passed back.
//!
//! 1. [`request`] checks what the session may reach, notes who asked, and sends with a sequence number of the gateway's own.
//! 2. One task a family, [`Echoes::serve`], takes replies and ICMP errors, and [`table`] says whose they are.
//!
//! All sessions share one socket a family, so identifiers on the wire are ours and those of sessions cannot meet.
//! Before and after, towards the session: [`crate::datagrams`]. The session's side: `tunnel::outbound::icmp`.

use std::{
    io,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Instant,
};

use link::datagram::{Datagram, Unreachable};

use self::{
    packet::Family,
    socket::{EchoSocket, Event},
    table::Table,
};
use crate::{
    datagrams, errno,
    limits::Slot,
    metrics::{Dropped, Echo},
    policy::Destination,
    server::State,
    session::Session,
};

mod packet;
mod socket;
mod table;

/// The sockets for echoes, as far as this process may have them.
#[derive(Debug)]
pub(crate) struct Echoes {
    v4: Option<Pinger>,
    v6: Option<Pinger>,
}

#[derive(Debug)]
struct Pinger {
    socket: EchoSocket,
    under_way: Mutex<Table<Asked>>,
}

/// Who asked. A session that is over meanwhile is not kept alive by its echoes.
#[derive(Debug)]
struct Asked {
    session: Weak<Session>,
    id: u32,
    seq: u16,
    _slot: Slot,
}

impl Pinger {
    fn open(family: Family, ident: u16) -> io::Result<Self> {
        let socket = EchoSocket::open(family, ident)?;
        Ok(Self { socket, under_way: Mutex::new(Table::new(ident)) })
    }

    fn with_table<R>(&self, use_it: impl FnOnce(&mut Table<Asked>) -> R) -> R {
        // Nothing in the critical sections can panic half-way through a change.
        use_it(&mut self.under_way.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Echoes {
    /// Opens what may be opened, and says once in the log what may not.
    pub(crate) fn open() -> Self {
        // Only to tell replies to this process from those to another on the same raw socket.
        let ident = u16::try_from(std::process::id() & 0xffff).expect("masked to 16 bits");
        let open = |family, name| match Pinger::open(family, ident) {
            Ok(pinger) => {
                tracing::debug!(family = name, socket = pinger.socket.kind(), "echoes are sent");
                Some(pinger)
            }
            Err(error) => {
                tracing::warn!(
                    family = name,
                    %error,
                    "ping will not work: grant CAP_NET_RAW, or put the group into net.ipv4.ping_group_range"
                );
                None
            }
        };
        Self { v4: open(Family::V4, "IPv4"), v6: open(Family::V6, "IPv6") }
    }

    const fn pinger(&self, to: IpAddr) -> Option<&Pinger> {
        match to {
            IpAddr::V4(_) => self.v4.as_ref(),
            IpAddr::V6(_) => self.v6.as_ref(),
        }
    }

    /// Brings answers back to who asked, until the gateway stops.
    pub(crate) async fn serve(state: Arc<State>) {
        tokio::select! {
            () = answers(&state, state.echoes.v4.as_ref()) => {}
            () = answers(&state, state.echoes.v6.as_ref()) => {}
            () = state.stop.cancelled() => {}
        }
    }
}

async fn answers(state: &State, pinger: Option<&Pinger>) {
    let Some(pinger) = pinger else { return std::future::pending().await };
    loop {
        if let Err(error) = pinger.socket.arrivals(|event| answered(state, pinger, &event)).await {
            tracing::error!(%error, "the socket for echoes broke: ping no longer works until a restart");
            return std::future::pending().await;
        }
    }
}

fn answered(state: &State, pinger: &Pinger, event: &Event<'_>) {
    let (seq, peer) = match event {
        Event::Reply { seq, from, .. } => (*seq, *from),
        Event::Failed { seq, to, .. } => (*seq, *to),
    };
    // Late, forged, or not ours: nobody asked.
    let Some(asked) = pinger.with_table(|table| table.take(seq, peer)) else { return };
    let Some(session) = asked.session.upgrade() else { return };
    if !session.still_permits(Destination::Echo(peer)) {
        return;
    }
    let (id, seq) = (asked.id, asked.seq);
    let mut message = Vec::new();
    match *event {
        Event::Reply { ttl, payload, .. } => {
            state.metrics.echoes.count(Echo::Answered);
            Datagram::EchoIn { id, seq, ttl, payload }.encode(&mut message);
        }
        Event::Failed { why, .. } => {
            state.metrics.echoes.count(Echo::Unreachable);
            Datagram::EchoUnreachable { id, seq, why }.encode(&mut message);
        }
    }
    datagrams::send_detached(&session, message);
}

/// Sends a session's echo request to the cluster.
pub(crate) fn request(session: &Arc<Session>, id: u32, seq: u16, to: IpAddr, payload: &[u8]) {
    let state = &session.state;
    let permitted = session.permit(Destination::Echo(to)).map(|to| to.ip());
    let Some((to, pinger)) = permitted.and_then(|to| Some((to, state.echoes.pinger(to)?))) else {
        return tell_unreachable(session, id, seq, Unreachable::Prohibited);
    };
    let now = Instant::now();
    let Some(slot) = session.echoes.claim().filter(|_| session.echo_rate.allows(now)) else {
        return state.metrics.echoes.count(Echo::Limit);
    };
    let asked = Asked { session: Arc::downgrade(session), id, seq, _slot: slot };
    let Some(wire_seq) = pinger.with_table(|table| table.insert(now, to, asked)) else {
        return state.metrics.echoes.count(Echo::Limit);
    };
    if let Err(error) = pinger.socket.send(wire_seq, to, payload) {
        pinger.with_table(|table| table.take(wire_seq, to));
        match errno::unreachable(&error) {
            Some(why) => tell_unreachable(session, id, seq, why),
            None => state.metrics.dropped.count(Dropped::Refused),
        }
    }
}

fn tell_unreachable(session: &Session, id: u32, seq: u16, why: Unreachable) {
    session.state.metrics.echoes.count(Echo::Unreachable);
    let mut message = Vec::with_capacity(8);
    Datagram::EchoUnreachable { id, seq, why }.encode(&mut message);
    datagrams::send_small(session, message);
}
