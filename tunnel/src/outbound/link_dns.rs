//! Cluster DNS queries on the link: one stream each, so none waits behind another. Before: [`crate::dns`]; after: `gateway::session`.

use std::io;

use link::header::StreamHeader;

use crate::{
    dns::{AskError, ClusterUpstream},
    gateway_link::LinkWatch,
};

/// The largest DNS message.
const MAX_ANSWER_BYTES: usize = 65_535;

/// Asks the cluster's nameserver through the link of the moment.
#[derive(Debug, Clone)]
pub struct LinkDns(pub LinkWatch);

impl ClusterUpstream for LinkDns {
    fn is_up(&self) -> bool {
        self.0.current().is_some()
    }

    async fn ask(&self, query: Vec<u8>) -> Result<Vec<u8>, AskError> {
        let link = self.0.current().ok_or(AskError::LinkDown)?.link;
        let (mut send, mut recv) = link.connection.open_bi().await.map_err(io::Error::from)?;
        let mut request = Vec::with_capacity(StreamHeader::MAX_BYTES + query.len());
        StreamHeader::Dns.encode(&mut request);
        request.extend_from_slice(&query);
        send.write_all(&request).await.map_err(io::Error::from)?;
        // Fails only if the gateway has stopped the stream, and then the read says so.
        let _ = send.finish();
        recv.read_to_end(MAX_ANSWER_BYTES).await.map_err(|error| AskError::Io(io::Error::other(error)))
    }
}
