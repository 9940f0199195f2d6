//! Reads a tap and never waits for anything else: what a session does not take is that session's loss, and a tap that is not read loses
//! for all of them. Before: the tap's process; after: [`super::fanout`].

use std::time::Instant;

use bytes::BytesMut;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    task::yield_now,
};

use super::tap::Tap;
use crate::{
    metrics::Metrics,
    tap::protocol::{Decoder, FromTap, PROTOCOL_VERSION, Record, RingState, TapNonsense, TapStats},
};

/// Room for a read: with less the rest of a record, at most 128 KiB, is moved to a fresh buffer.
const LEAST_READ_BYTES: usize = 64 << 10;

/// Why a tap is not read any more.
#[derive(Debug, Error)]
pub(super) enum TapEnd {
    /// It closed the stream.
    #[error("the tap ended")]
    Ended,
    /// The stream broke.
    #[error("the tap's stream broke: {0}")]
    Io(#[from] std::io::Error),
    /// It sent what no tap sends.
    #[error(transparent)]
    Nonsense(#[from] TapNonsense),
    /// It said that it cannot do its work.
    #[error("{0}")]
    Failed(String),
    /// It is of another release.
    #[error(
        "the tap speaks version {0} and this gateway {PROTOCOL_VERSION}: restart the gateway, its program has been replaced"
    )]
    Version(u32),
}

/// Hands on what the tap says, until it does not.
pub(super) async fn read(tap: &Tap, stream: &mut (impl AsyncRead + Unpin), metrics: &Metrics) -> TapEnd {
    let mut decoder = Decoder::new();
    let mut buffer = BytesMut::with_capacity(Decoder::READ_BYTES);
    let mut counted = TapStats::default();
    loop {
        if buffer.capacity() - buffer.len() < LEAST_READ_BYTES {
            buffer.reserve(Decoder::READ_BYTES);
        }
        let read = match stream.read_buf(&mut buffer).await {
            Ok(0) => return TapEnd::Ended,
            Ok(read) => read,
            Err(error) => return error.into(),
        };
        if let Err(end) = take(tap, &mut decoder, &mut buffer, &mut counted, metrics) {
            return end;
        }
        if read >= LEAST_READ_BYTES {
            // There is more: first let the sessions write what was read.
            yield_now().await;
        }
    }
}

/// Hands on every record that is whole.
fn take(
    tap: &Tap,
    decoder: &mut Decoder,
    buffer: &mut BytesMut,
    counted: &mut TapStats,
    metrics: &Metrics,
) -> Result<(), TapEnd> {
    let now = Instant::now();
    tap.hear(now);
    // One lock for all that was read at once.
    let mut fanout = tap.fanout();
    while let Some(record) = decoder.take(buffer)? {
        match record {
            Record::Flow(number, what) => fanout.take(number, &what, now),
            Record::Said(FromTap::Ready { version, interfaces }) => {
                if version != PROTOCOL_VERSION {
                    return Err(TapEnd::Version(version));
                }
                tracing::debug!(replica = tap.replica.name, ?interfaces, "tap ready");
            }
            Record::Said(FromTap::RulesApplied { generation, ring, nobody_listens }) => {
                let nobody: Vec<_> = nobody_listens.iter().map(|port| (port.protocol, port.port)).collect();
                tap.acknowledge(&fanout, generation, &nobody);
                if let RingState::Open { bytes, reduced: true } = ring {
                    tracing::warn!(
                        bytes,
                        "the kernel gave a tap a smaller ring than asked for: it may lose at high rates"
                    );
                }
            }
            Record::Said(FromTap::Stats(stats)) => {
                tap.count(&mut fanout, &stats.ports);
                metrics.mirror_ring_drops.inc_by(stats.ring_drops.saturating_sub(counted.ring_drops));
                metrics.mirror_tap_frames.inc_by(stats.frames.saturating_sub(counted.frames));
                *counted = stats;
            }
            Record::Said(FromTap::Failed { reason }) => return Err(TapEnd::Failed(reason)),
            Record::Said(FromTap::Unknown) => {}
        }
    }
    Ok(())
}
