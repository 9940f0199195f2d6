//! QUIC's settings on each carrier, and the send window that is set at run time.
//!
//! The window is the queue: what a fast sender has under way waits in the receiver's socket buffer, and a small request waits
//! behind it. The stream window must be 8 MiB to fill 1 Gbit/s at 50 ms, so each side bounds what it has under way to little more
//! than what the path delivers in a round trip ([`crate::bounded`]), and here what it holds unsent and unacknowledged, which would
//! fall out of the cache, to about twice that.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::{
    Connection, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt,
    congestion::{BbrConfig, CubicConfig},
};

use crate::{
    bounded::BoundedConfig,
    carrier::{Carrier, tcp::MAX_PACKET_BYTES},
    unprobed::UnprobedConfig,
};

/// Bytes one stream may have under way: 1 Gbit/s at 50 ms is 6.25 MB.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// Bytes that all streams together may have waiting at the receiver: eight stalled readers do not stop the ninth.
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
/// UDP payloads waiting to be sent or read, each way; beyond it the oldest goes, as in a socket buffer.
const DATAGRAM_BUFFER_BYTES: usize = 4 << 20;
/// Streams for datagrams that are too large for the path: above it they wait. A session allows more while it mirrors.
pub const MAX_UNI_STREAMS: u32 = 1_024;
/// Streams a session may have open before the gateway knows who it is. Raised once it does.
const MAX_BIDI_STREAMS_AT_START: u32 = 64;
/// No packet for this long ends a connection: longer than a blackout of 10 s and the probes' back-off behind it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Often enough that a gateway that was killed refuses three packets within 5 s.
const KEEP_ALIVE: Duration = Duration::from_millis(1_500);
/// The largest IP packet that surely passes has 1,500 bytes; IPv6 and UDP take 48.
const UDP_MAX_PACKET_BYTES: u16 = 1_452;

/// How often the send window is set while bytes flow.
const WINDOW_PERIOD: Duration = Duration::from_millis(25);
/// How often it is looked at while none do.
const WINDOW_IDLE_PERIOD: Duration = Duration::from_millis(250);
/// A path idles for this long before the slow period holds: 20 fast ones.
const WINDOW_IDLE_ROUNDS: u32 = 20;
/// The greatest rate of the last half second counts,
const RATE_MEMORY: usize = 20;
/// as a mean over 100 ms: a shorter one shows the bursts of pacing, not the path.
const RATE_MEAN: usize = 4;
/// Unsent and unacknowledged bytes, in round trips: twice what may be under way, so that this bound is not the one that is met.
const WINDOW_GAIN: f64 = 2.5;
/// The least round trip of so many periods counts: 30 s while bytes flow. With more, a change of path would not be seen.
const RTT_MEMORY: usize = 30 * 40;
/// Twice the floor of what may be under way, and as much as a core's own cache holds: what eight flows leave unsent beyond it costs
/// up to a quarter more CPU a byte.
const WINDOW_FLOOR_BYTES: u64 = 1 << 20;
const WINDOW_CAP_BYTES: u64 = 32 << 20;

/// QUIC's settings for one side of a link.
pub fn transport_config(carrier: Carrier) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    let idle = IdleTimeout::try_from(IDLE_TIMEOUT).expect("30 s fit a QUIC idle timeout");
    config
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(2 * u64::from(STREAM_WINDOW_BYTES))
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_BIDI_STREAMS_AT_START))
        .max_concurrent_uni_streams(VarInt::from_u32(MAX_UNI_STREAMS))
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_BYTES))
        .datagram_send_buffer_size(DATAGRAM_BUFFER_BYTES)
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(KEEP_ALIVE));
    let mut discovery = MtuDiscoveryConfig::default();
    match carrier {
        Carrier::Udp => {
            // Cubic carries 3-5 Mbit/s at 50 ms and 1 % loss, BBR a hundred times that.
            config.congestion_controller_factory(Arc::new(BoundedConfig(Arc::new(UnprobedConfig(Arc::new(
                BbrConfig::default(),
            ))))));
            discovery.upper_bound(UDP_MAX_PACKET_BYTES);
        }
        Carrier::Tcp => {
            // TCP below controls congestion; nothing is ever lost here, so this one only grows.
            config.congestion_controller_factory(Arc::new(BoundedConfig(Arc::new(CubicConfig::default()))));
            discovery.upper_bound(MAX_PACKET_BYTES);
        }
    }
    config.mtu_discovery_config(Some(discovery));
    Arc::new(config)
}

/// The endpoint's settings: what it tells the peer it can receive.
pub fn endpoint_config(carrier: Carrier) -> EndpointConfig {
    let mut config = EndpointConfig::default();
    let max = match carrier {
        Carrier::Udp => UDP_MAX_PACKET_BYTES + 20,
        Carrier::Tcp => MAX_PACKET_BYTES,
    };
    config.max_udp_payload_size(max).expect("both are above QUIC's least of 1,200");
    config
}

/// Bounds what this side has unsent and unacknowledged, until the connection ends: the greatest recent rate times the least recent round trip
/// times [`WINDOW_GAIN`], and a floor.
pub async fn govern_send_window(connection: Connection) {
    let mut window = SendWindow::default();
    let mut idle_rounds = 0;
    loop {
        let period = if idle_rounds < WINDOW_IDLE_ROUNDS { WINDOW_PERIOD } else { WINDOW_IDLE_PERIOD };
        tokio::select! {
            () = tokio::time::sleep(period) => {}
            _ = connection.closed() => return,
        }
        let stats = connection.stats();
        let sent = window.observe(Instant::now(), stats.udp_tx.bytes, stats.path.rtt);
        idle_rounds = if sent > 16_384 { 0 } else { idle_rounds.saturating_add(1) };
        connection.set_send_window(window.bytes());
    }
}

/// What a path delivered lately.
#[derive(Debug, Default)]
struct SendWindow {
    last: Option<(Instant, u64)>,
    /// Seconds and bytes of each period.
    sent: VecDeque<(f64, f64)>,
    rtts: VecDeque<Duration>,
}

impl SendWindow {
    /// Takes the total sent so far; returns what was sent since the last time.
    fn observe(&mut self, now: Instant, total: u64, rtt: Duration) -> u64 {
        let (then, before) = self.last.replace((now, total)).unwrap_or((now, total));
        let sent = total - before;
        let elapsed = now.saturating_duration_since(then).as_secs_f64();
        if elapsed > 0.0 {
            #[expect(clippy::cast_precision_loss, reason = "bytes of a period, far below 2^52")]
            remember(&mut self.sent, (elapsed, sent as f64), RATE_MEMORY);
            remember(&mut self.rtts, rtt, RTT_MEMORY);
        }
        sent
    }

    /// Bytes a second.
    fn rate(&self) -> f64 {
        let periods: Vec<_> = self.sent.iter().copied().collect();
        let mean = |periods: &[(f64, f64)]| {
            let (seconds, bytes) = periods.iter().fold((0.0, 0.0), |sum, next| (sum.0 + next.0, sum.1 + next.1));
            bytes / seconds
        };
        let few = periods.len().min(RATE_MEAN);
        if few == 0 { 0.0 } else { periods.windows(few).map(mean).fold(0.0, f64::max) }
    }

    fn bytes(&self) -> u64 {
        let rtt = self.rtts.iter().min().copied().unwrap_or_default();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped below, and never negative"
        )]
        let delivered = (WINDOW_GAIN * self.rate() * rtt.as_secs_f64()) as u64;
        delivered.saturating_add(WINDOW_FLOOR_BYTES).min(WINDOW_CAP_BYTES)
    }
}

fn remember<T>(memory: &mut VecDeque<T>, value: T, most: usize) {
    if memory.len() == most {
        memory.pop_front();
    }
    memory.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_a_round_trip_of_the_greatest_mean_rate_with_a_gain_and_a_floor() {
        let mut window = SendWindow::default();
        assert_eq!(window.bytes(), WINDOW_FLOOR_BYTES);
        let start = Instant::now();
        let rtt = Duration::from_millis(20);
        // 100 ms at 100 MB/s, sent in one burst, then nothing.
        for round in 0..=8 {
            let total = if round == 0 { 0 } else { 10_000_000 };
            window.observe(start + WINDOW_PERIOD * round, total, rtt * (round + 1));
        }
        let rtt_of_first_period = rtt * 2;
        let expected = WINDOW_GAIN * 100e6 * rtt_of_first_period.as_secs_f64();
        assert!((window.bytes() - WINDOW_FLOOR_BYTES).abs_diff(expected as u64) < 1_000, "{}", window.bytes());
    }

    #[test]
    fn an_old_rate_and_an_old_round_trip_are_forgotten() {
        let mut window = SendWindow::default();
        let start = Instant::now();
        window.observe(start, 0, Duration::from_millis(1));
        for round in 1..=2 * u32::try_from(RTT_MEMORY).unwrap() {
            window.observe(start + WINDOW_PERIOD * round, 1_000, Duration::from_millis(80));
        }
        assert_eq!(window.bytes(), WINDOW_FLOOR_BYTES);
        assert_eq!(window.rtts.iter().min(), Some(&Duration::from_millis(80)));
    }
}
