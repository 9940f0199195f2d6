//! Names of flows: [`FlowKey`] and the two addresses in it, which cannot be swapped.
//!
//! Before: [`crate::segment`], [`crate::udp`], which read it from a packet; after: [`crate::flow_table`].

use std::{fmt, net::SocketAddr};

/// An address and port of an application on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostAddr(pub SocketAddr);

/// An address and port in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClusterAddr(pub SocketAddr);

/// What a flow speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Transmission Control Protocol.
    Tcp,
    /// User Datagram Protocol.
    Udp,
}

/// A flow's five-tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// The application's end.
    pub host: HostAddr,
    /// The cluster's end.
    pub cluster: ClusterAddr,
    /// What they speak.
    pub protocol: Protocol,
}

impl fmt::Display for HostAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ClusterAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{protocol} {} -> {}", self.host, self.cluster)
    }
}
