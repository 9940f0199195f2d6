//! What a tap and its gateway say to each other, over one byte stream that the tap has as its descriptor 0.
//!
//! To the tap: [`ToTap`], each as [`link::control::write_message`] writes it. The gateway says [`ToTap::Alive`] every [`ALIVE_EVERY`], and
//! the tap ends when it has heard nothing for [`LEASE`], or when the stream ends.
//!
//! From the tap: records, each a flow's number (64 bits, big-endian; 0 is the tap itself), a kind (8 bits), a length (24 bits) and that many
//! bytes. What follows a flow's number is exactly a frame of [`link::mirrored`], which the gateway hands on as it came, except for the two
//! kinds of [`records`]. The gateway reads them with [`Decoder`].
//!
//! Before: [`crate::tap`]; after: `gateway::mirror`.

mod decoder;
mod records;
mod requests;

use std::time::Duration;

use link::rules::{Loss, RuleProtocol, Sample};
use serde::{Deserialize, Serialize};

pub use self::{
    decoder::{Decoder, TapNonsense},
    records::{FlowNumber, FromFlow, HEADER_BYTES as RECORD_HEADER_BYTES, Opened, Record, record_header},
    requests::{Requests, RequestsError},
};

/// The version that [`FromTap::Ready`] names. Both are one program, so it differs only where a tap of another release is left over.
pub const PROTOCOL_VERSION: u32 = 1;

/// How often the gateway says that it is there.
pub const ALIVE_EVERY: Duration = Duration::from_secs(5);

/// How long a tap goes on without hearing from its gateway: six messages may be late.
pub const LEASE: Duration = Duration::from_secs(30);

/// How often the tap says [`FromTap::Stats`], whether anything changed or not: it is also the sign that the tap is alive.
pub const STATS_EVERY: Duration = Duration::from_secs(1);

/// Ports that a tap copies at most.
pub const MAX_PORTS: usize = 1_024;

/// What a gateway says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ToTap {
    /// What is to be copied from here on, whole; answered by [`FromTap::RulesApplied`]. Nothing that they leave out follows the answer.
    Rules {
        /// Raised with every change.
        generation: u64,
        /// At most [`MAX_PORTS`], of which no two have the same port and protocol; none closes the rings.
        ports: Vec<TappedPort>,
    },
    /// The gateway is there.
    Alive,
    /// A message of another version: ignored.
    #[serde(other)]
    Unknown,
}

/// A port to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TappedPort {
    /// The port that the target receives on.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: RuleProtocol,
    /// The share of flows to copy.
    #[serde(default)]
    pub sample: Sample,
}

/// What a tap says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FromTap {
    /// The first message: it is where it was sent, and may capture.
    Ready {
        /// [`PROTOCOL_VERSION`].
        version: u32,
        /// The interfaces that it looks at.
        interfaces: Vec<String>,
    },
    /// The rules are in force.
    RulesApplied {
        /// Of the rules.
        generation: u64,
        /// What the capture has open.
        ring: RingState,
        /// The ports on which no socket of the target listens. They are copied all the same.
        nobody_listens: Vec<ListeningPort>,
    },
    /// What it counted, every [`STATS_EVERY`].
    Stats(TapStats),
    /// It ends, because it cannot do what it is for.
    Failed {
        /// What is wrong and what to do, for a person.
        reason: String,
    },
    /// A message of another version: ignored.
    #[serde(other)]
    Unknown,
}

/// A port of the target and whether somebody listens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ListeningPort {
    /// The port.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: RuleProtocol,
}

/// What a tap captures into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RingState {
    /// Nothing: there is nothing to copy.
    #[default]
    Closed,
    /// Two rings of this size together.
    Open {
        /// Memory that the kernel fills.
        bytes: u64,
        /// The kernel did not give as much as a full rate needs.
        reduced: bool,
    },
}

/// What a tap counted since it started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TapStats {
    /// Frames that matched the rules and were read.
    pub frames: u64,
    /// Frames that matched and found no room in the rings, or in their slot.
    pub ring_drops: u64,
    /// Times when frames were lost; between them none was.
    pub losses: u64,
    /// Frames that cannot be read as what they say they are.
    pub malformed: u64,
    /// Frames that the target's namespace only forwards.
    pub for_others: u64,
    /// Frames longer than a slot of the ring.
    pub too_long: u64,
    /// Datagrams whose fragments did not all come, or were of no wanted port.
    pub fragments_dropped: u64,
    /// Payload bytes held back for a segment that is missing.
    pub held_bytes: u64,
    /// TCP connections that are followed.
    pub tcp_flows: u64,
    /// UDP flows that are followed.
    pub udp_flows: u64,
    /// UDP flows that had to go for others.
    pub udp_evicted: u64,
    /// A part for each port of the rules.
    pub ports: Vec<PortStats>,
}

/// One port's part of [`TapStats`], counted since its rule is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStats {
    /// The port.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: RuleProtocol,
    /// Nothing listens on it.
    #[serde(default)]
    pub nobody_listens: bool,
    /// What is not in the sample. Flows are told apart as long as there are not too many, bytes count what is sent again twice.
    #[serde(default)]
    pub left_out: Loss,
    /// UDP datagrams that the ring lost and that may have been for this port: exactly its own where there is no other port of UDP, at most so
    /// many where there is. Not in any flow's gaps.
    #[serde(default)]
    pub lost_datagrams: u64,
    /// Bytes that the ring lost of TCP connections of which nothing had been seen by then. Not in any flow's gaps.
    #[serde(default)]
    pub lost_bytes: u64,
}
