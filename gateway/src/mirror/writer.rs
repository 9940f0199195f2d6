//! The task of one mirrored flow: a stream of the link, its header, and then frames as they come. Before: [`super::feed`]; after:
//! `tunnel::mirror`.

use std::sync::Arc;

use bytes::Bytes;
use link::{error_code::MIRROR_ENDED, mirrored::MirrorHeader};
use quinn::SendStream;

use super::{feed::Feed, queue::Taken};

/// Below what programs of the developer do through the tunnel: they wait for it, and nobody waits for a mirror.
const PRIORITY: i32 = -1;

/// Writes a flow until it ended, its rule is off, or the link does not take it any more.
pub(super) async fn write(feed: Arc<Feed>, header: MirrorHeader) {
    carry(&feed, header).await;
    feed.closed();
}

async fn carry(feed: &Feed, header: MirrorHeader) {
    // Waits while the session has all the streams that it allows; what does not fit meanwhile is counted as its lag.
    let Some(Ok(mut stream)) = feed.unless_closed(feed.subscription.shared.connection.open_uni()).await else { return };
    // Fails only for a stream that has ended.
    let _ = stream.set_priority(PRIORITY);
    let mut batch = vec![encode(&header)];
    drop(header);
    // A short flow is here whole by now, and goes in one write.
    let mut taken = feed.take_now(&mut batch);
    loop {
        if batch.is_empty() {
            // The queue has ended and is empty: FIN. Fails only if the session stopped the stream.
            let _ = stream.finish();
            return;
        }
        match hand_on(feed, &mut stream, &mut batch, taken).await {
            Some(next) => taken = next,
            None => return,
        }
    }
}

/// Writes a batch and takes the next one; `None` when there is nobody to write for.
async fn hand_on(feed: &Feed, stream: &mut SendStream, batch: &mut Vec<Bytes>, taken: Taken) -> Option<Taken> {
    let written = feed.unless_closed(stream.write_all_chunks(batch)).await;
    batch.clear();
    let next = match written {
        Some(Ok(())) => {
            feed.written(taken);
            feed.take(batch).await
        }
        // The flow is closed, the session stopped the stream, or the link is gone.
        Some(Err(_)) | None => {
            feed.unwritten(taken);
            None
        }
    };
    if next.is_none() {
        // Nothing of it is sent any more, not even what the link has. Fails only for a stream that has ended.
        let _ = stream.reset(MIRROR_ENDED);
    }
    next
}

fn encode(header: &MirrorHeader) -> Bytes {
    let mut bytes = Vec::with_capacity(MirrorHeader::PREFIX_BYTES + MirrorHeader::MAX_REST_BYTES);
    header.encode(&mut bytes);
    bytes.shrink_to_fit();
    bytes.into()
}
