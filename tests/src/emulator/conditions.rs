//! [`Conditions`]: what a direction of an emulated link does to packets.

use std::time::Duration;

/// The properties of one direction of a link. Starts as a perfect one; set what is to be worse.
#[derive(Debug, Clone, PartialEq)]
pub struct Conditions {
    /// Time from the end of a packet's transmission to its arrival.
    pub delay: Duration,
    /// Bits a second, counted over IP packets; none is without limit.
    pub rate: Option<u64>,
    /// The most bytes that wait for transmission; a packet that finds more is dropped. Meaningless without a rate.
    pub queue_bytes: usize,
    /// The share of packets lost, each for itself: 0 to 1.
    pub loss: f64,
    /// The share of packets that arrive later by [`Self::reorder_by`].
    pub reorder: f64,
    /// How much later.
    pub reorder_by: Duration,
    /// The share of packets that arrive twice.
    pub duplicate: f64,
    /// Drops UDP, as some networks do.
    pub blocks_udp: bool,
    /// The devices' largest packet in bytes. Fixed when the link is made.
    pub mtu: u32,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            rate: None,
            queue_bytes: usize::MAX,
            loss: 0.0,
            reorder: 0.0,
            reorder_by: Duration::ZERO,
            duplicate: 0.0,
            blocks_udp: false,
            mtu: 1_500,
        }
    }
}

impl Conditions {
    /// A path of `rate` bits a second and a round trip of `rtt` (half in each direction), with a queue of 50 ms.
    pub fn path(rate: u64, rtt: Duration) -> Self {
        let queue_bytes = usize::try_from(rate / 8 / 20).unwrap_or(usize::MAX);
        Self { delay: rtt / 2, rate: Some(rate), queue_bytes, ..Self::default() }
    }

    /// The same with a share of the packets lost.
    pub fn with_loss(self, loss: f64) -> Self {
        Self { loss, ..self }
    }
}
