//! The first bytes of a mirrored flow's stream: what it is, and whose. Before: [`super::Mirror::arrived`]; after: [`super::connection`],
//! [`super::datagrams`].

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use link::{
    error_code::{FLOW_RESET, STREAM_MALFORMED},
    mirrored::MirrorHeader,
    rules::RuleProtocol,
};
use quinn::RecvStream;
use tokio::time::timeout;

use super::{
    Mirror, connection, datagrams,
    frames::{Frames, Piece},
    live_rule::{LiveRule, Why},
};

/// A gateway writes a header at once.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Carries a flow to its listener, until its end.
pub(super) async fn carry(mirror: &Rc<Mirror>, first: Bytes, mut recv: RecvStream) {
    let Some((flow, rest)) = header(first, &mut recv).await else {
        tracing::debug!("a mirrored flow's header cannot be read");
        let _ = recv.stop(STREAM_MALFORMED);
        return;
    };
    // A flow may still be on its way when its rule is switched off or taken away.
    let rule = mirror.status.mirror.live(flow.rule).filter(|rule| rule.spec.protocol == flow.protocol);
    let Some(rule) = rule else {
        let _ = recv.stop(FLOW_RESET);
        return;
    };
    if !rule.is_on() {
        count_late(&rule, rest);
        let _ = recv.stop(FLOW_RESET);
        return;
    }
    rule.counts.open.add(1);
    match flow.protocol {
        RuleProtocol::Tcp => connection::carry(mirror, &rule, flow, recv, rest).await,
        RuleProtocol::Udp => datagrams::carry(mirror, &rule, &flow, recv, rest).await,
    }
    rule.counts.open.sub(1);
}

/// Counts a flow whose rule is off, with what of it is here.
fn count_late(rule: &LiveRule, mut here: Bytes) {
    let (mut frames, losses) = (Frames::default(), rule.losses(Why::SwitchedOff));
    losses.flows.increment();
    while let Ok(Some(piece)) = frames.next(&mut here) {
        match piece {
            Piece::Bytes { bytes, .. } => losses.bytes.add(bytes.len() as u64),
            Piece::Datagram { bytes, is_last } => {
                losses.bytes.add(bytes.len() as u64);
                losses.datagrams.add(is_last.into());
            }
            Piece::Gap(_) => {}
            Piece::End(_) => return,
        }
    }
}

/// The header, and what was read behind it. It nearly always is in the first chunk.
async fn header(first: Bytes, recv: &mut RecvStream) -> Option<(MirrorHeader, Bytes)> {
    match whole(first) {
        Ok(whole) => whole,
        Err(part) => timeout(HEADER_TIMEOUT, gather(part, recv)).await.ok()?,
    }
}

async fn gather(mut part: Bytes, recv: &mut RecvStream) -> Option<(MirrorHeader, Bytes)> {
    loop {
        let more = recv.read_chunk(usize::MAX, true).await.ok()??;
        // At most a header's length is gathered before it is whole or refused.
        match whole(Bytes::from([part, more.bytes].concat())) {
            Ok(whole) => return whole,
            Err(longer) => part = longer,
        }
    }
}

/// A header and what is behind it, `Ok(None)` when the bytes are none; or the bytes, when they are too few to tell.
fn whole(mut bytes: Bytes) -> Result<Option<(MirrorHeader, Bytes)>, Bytes> {
    let Some(prefix) = bytes.first_chunk() else { return Err(bytes) };
    let Ok(rest) = MirrorHeader::rest_len(*prefix) else { return Ok(None) };
    let len = MirrorHeader::PREFIX_BYTES + rest;
    if bytes.len() < len {
        return Err(bytes);
    }
    let header = bytes.split_to(len);
    Ok(MirrorHeader::decode_rest(&header[MirrorHeader::PREFIX_BYTES..]).ok().map(|header| (header, bytes)))
}
