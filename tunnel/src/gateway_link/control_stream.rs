//! The control stream of a link, while it lives: what the gateway says is taken, and it is told the rules of the mirror, all of them at
//! once, at the start and after every change. Before: [`super::attempt`]; after: [`crate::mirror::rules`], `gateway::control`.

use std::{future::pending, sync::Arc};

use link::{
    control::{ControlError, ToGateway, ToSession, read_message, write_message},
    error_code::CloseCode,
    printable::printable,
    rules::RuleSet,
    transport::MAX_UNI_STREAMS,
    version::Version,
};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio_util::sync::CancellationToken;

use super::WORDS_CHARS;
use crate::{
    control::status::SessionStatus,
    mirror::{self, rules::LinkNumber},
};

/// The protocol's version that added mirroring.
const MIRRORING: Version = Version { major: 1, minor: 1 };

/// A link's control stream, whose two directions are held by [`ControlStream::hold`].
pub(super) struct ControlStream {
    pub(super) connection: Connection,
    pub(super) status: Arc<SessionStatus>,
    /// Cancelled when the gateway says that it ends.
    pub(super) draining: CancellationToken,
    /// What both sides speak.
    pub(super) version: Version,
}

impl ControlStream {
    /// Holds the stream until the link ends; its end, or nonsense on it, ends the link.
    pub(super) async fn hold(self, send: SendStream, recv: RecvStream) {
        let Self { connection, status, draining, version } = self;
        let knows = version >= MIRRORING;
        let too_old = (!knows).then(|| {
            format!("the gateway speaks protocol {version}, and mirroring came with {MIRRORING}: upgrade the gateway")
        });
        let link = status.mirror.link_up(too_old);
        let error = tokio::select! {
            error = hear(recv, &status, link, &draining) => error,
            error = tell(&connection, send, &status, link, knows) => error,
        };
        status.mirror.link_down(link);
        connection.close(CloseCode::Protocol.wire(), error.to_string().as_bytes());
    }
}

async fn hear(
    mut recv: RecvStream,
    status: &SessionStatus,
    link: LinkNumber,
    draining: &CancellationToken,
) -> ControlError {
    loop {
        match read_message::<ToSession>(&mut recv).await {
            Ok(ToSession::Draining { reason }) => {
                let reason = printable(&reason, WORDS_CHARS);
                tracing::info!(reason, "the gateway drains: the link ends when it does");
                draining.cancel();
            }
            Ok(ToSession::RulesApplied { generation, outcomes }) => status.mirror.applied(link, generation, &outcomes),
            Ok(ToSession::Mirror(report)) => status.mirror.reported(link, report),
            Ok(ToSession::Welcome(_) | ToSession::Pong { .. } | ToSession::Unknown) => {}
            Err(error) => return error,
        }
    }
}

async fn tell(
    connection: &Connection,
    mut send: SendStream,
    status: &SessionStatus,
    link: LinkNumber,
    knows: bool,
) -> ControlError {
    let mut changes = status.mirror.changes();
    loop {
        // A session that has never had a rule says nothing of them.
        let has_changed = *changes.borrow_and_update() > 0;
        let is_current = status.mirror.is_current(link);
        if knows && has_changed {
            let mut rules = status.mirror.snapshot();
            if !is_current {
                // A link that drains beside the next one: what both copied would arrive twice.
                rules = RuleSet { generation: rules.generation, rules: Vec::new() };
            }
            let streams = if rules.rules.is_empty() { MAX_UNI_STREAMS } else { mirror::MAX_FLOWS };
            connection.set_max_concurrent_uni_streams(VarInt::from_u32(streams));
            if let Err(error) = write_message(&mut send, &ToGateway::Rules(rules)).await {
                return error;
            }
        }
        if !is_current || changes.changed().await.is_err() {
            // There is nothing more to tell; the stream stays open as long as the link.
            pending::<()>().await;
        }
    }
}
