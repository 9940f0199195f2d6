//! The session's half of the mirror: what a target receives arrives here, flow by flow, and goes on to listeners of this machine.
//!
//! Rules, on the thread that answers commands and on the one that holds the link:
//! 1. [`commands`] carries out what a command asks, with [`own_ports`] keeping it from mirroring into the session itself;
//! 2. [`rules`] holds the rules, as a whole with a generation, and waits for what the gateway says of them ([`reports`]);
//! 3. [`crate::gateway_link`] sends them, on every link anew.
//!
//! Flows, on the thread of the data plane, one stream each:
//! 1. [`Mirror::arrived`]: [`arrival`] reads what the flow is and finds its [`live_rule`];
//! 2. [`frames`] takes its stream apart;
//! 3. [`connection`] follows a TCP connection ([`http1`], [`sniff`]) and passes it to a [`copy`], with a [`proxy_header`] if its rule
//!    says so; [`datagrams`] passes on a UDP flow; [`mod@print`] tells those who watch;
//! 4. [`budget`] bounds what all of them hold, [`sockets`] how many sockets they have.
//!
//! A stream is always read: one that is not would hold up the link's other flows. What a listener does not take is lost to that flow
//! from there on, and counted. Before: [`crate::outbound`]; after: the listener.

mod arrival;
mod budget;
pub(crate) mod commands;
mod connection;
mod copy;
mod datagrams;
mod frames;
pub mod http1;
mod live_rule;
mod own_ports;
mod print;
pub mod proxy_header;
mod reports;
pub mod rules;
mod sniff;
mod sockets;
#[cfg(test)]
mod tests;

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;
use quinn::RecvStream;
use tokio_util::task::TaskTracker;

use self::{
    budget::{BUDGET_BYTES, Budget},
    sockets::Sockets,
};
use crate::control::status::SessionStatus;

/// Mirrored flows at once: as many streams the gateway may have open while rules are on. More wait at the gateway.
pub const MAX_FLOWS: u32 = 16_384;

/// What the mirrored flows of a session share.
#[derive(Debug)]
pub struct Mirror {
    status: Arc<SessionStatus>,
    budget: Budget,
    sockets: Sockets,
    tasks: TaskTracker,
}

impl Mirror {
    /// Without flows. `status` holds the rules.
    pub fn new(status: Arc<SessionStatus>, tasks: TaskTracker) -> Rc<Self> {
        Rc::new(Self { status, budget: Budget::new(BUDGET_BYTES), sockets: Sockets::of_process(), tasks })
    }

    /// A stream that begins with [`link::mirrored::MIRRORED`], of which `first` has been read. Must be called on a `LocalSet`.
    pub async fn arrived(self: Rc<Self>, first: Bytes, recv: RecvStream) {
        arrival::carry(&self, first, recv).await;
    }
}
