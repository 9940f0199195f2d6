//! [`LinkWatch`]: the link of the moment as flows see it, or a short wait for one. Before: [`super::GatewayLink`], which publishes; after:
//! [`crate::outbound`].

use std::{net::SocketAddr, sync::Arc, time::Duration};

use link::{control::Welcome, dial::Link};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

/// A new flow waits this long for a link that is being made: longer than the restart of a gateway's process.
const PATIENCE: Duration = Duration::from_secs(3);

/// A link that has said hello and was welcomed.
#[derive(Debug, Clone)]
pub struct Welcomed {
    /// The link.
    pub link: Link,
    /// The gateway's answer.
    pub welcome: Arc<Welcome>,
    /// The gateway's address.
    pub gateway: SocketAddr,
    /// Cancelled when the gateway says that it drains: what is open goes on, new flows belong on the next link.
    pub draining: CancellationToken,
}

impl Welcomed {
    /// Whether new flows belong on this link.
    pub fn takes_flows(&self) -> bool {
        !self.draining.is_cancelled()
    }
}

/// What a flow holds: the link of the moment, if there is one.
#[derive(Debug, Clone)]
pub struct LinkWatch(pub(super) watch::Receiver<Option<Welcomed>>);

impl LinkWatch {
    /// The link if it is there, without waiting; one that drains until the next is there, for datagrams and queries still pass it.
    pub fn current(&self) -> Option<Welcomed> {
        self.0.borrow().clone()
    }

    /// A link that takes new flows, or a short wait for one that is being made; `None` when there is none in that time.
    pub async fn patient(&self) -> Option<Welcomed> {
        let mut watch = self.0.clone();
        let there = watch.wait_for(|link| link.as_ref().is_some_and(Welcomed::takes_flows));
        timeout(PATIENCE, there).await.ok()?.ok()?.clone()
    }

    /// A watch without a link, and without anybody who makes one.
    #[cfg(test)]
    pub(crate) fn without_link() -> Self {
        Self(watch::channel(None).1)
    }

    /// Resolves when the link changes; `Err` when the session ends.
    ///
    /// # Errors
    /// The keeper is gone.
    pub async fn changed(&mut self) -> Result<Option<Welcomed>, watch::error::RecvError> {
        self.0.changed().await?;
        Ok(self.0.borrow_and_update().clone())
    }
}
