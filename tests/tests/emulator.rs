//! The emulated link, as programs on both of its ends see it.

use std::{
    net::UdpSocket,
    ops::Range,
    thread,
    time::{Duration, Instant},
};

use cli::demo::plan;
use nix::time::{ClockId, clock_gettime};
use tests::{emulator::Conditions, lab::Lab, wait};

const PATIENCE: Duration = Duration::from_secs(5);
/// IPv4 and UDP headers of a packet.
const HEADER_BYTES: usize = 28;

/// Sockets of the host and of the gateway that are connected to each other over the link.
fn sockets(lab: &Lab) -> (UdpSocket, UdpSocket) {
    let near = lab.host.run(|| UdpSocket::bind((plan::UPLINK_HOST.v4, 0))).expect("bound");
    let far = lab.gateway.run(|| UdpSocket::bind((plan::UPLINK_GATEWAY.v4, 0))).expect("bound");
    near.connect(far.local_addr().expect("an address")).expect("connected");
    far.connect(near.local_addr().expect("an address")).expect("connected");
    far.set_read_timeout(Some(PATIENCE)).expect("set");
    (near, far)
}

/// Sends `bits_per_second` in packets of 1,500 bytes for `time` and gives what a program receives, in bits a second.
fn received(lab: &Lab, bits_per_second: f64, time: Duration) -> f64 {
    let (near, far) = sockets(lab);
    socket2::SockRef::from(&far).set_recv_buffer_size(8 << 20).expect("set");
    far.set_read_timeout(Some(Duration::from_millis(300))).expect("set");
    thread::scope(|scope| {
        scope.spawn(|| {
            let payload = vec![0; 1_500 - HEADER_BYTES];
            let (began, mut sent) = (Instant::now(), 0);
            while began.elapsed() < time {
                if sent as f64 * 12_000.0 <= bits_per_second * began.elapsed().as_secs_f64() {
                    near.send(&payload).expect("sent");
                    sent += 1;
                }
            }
        });
        let mut buffer = [0; 2_000];
        far.recv(&mut buffer).expect("a first packet");
        let (began, mut last, mut bytes) = (Instant::now(), Instant::now(), 0);
        while let Ok(length) = far.recv(&mut buffer) {
            bytes += length + HEADER_BYTES;
            last = Instant::now();
        }
        bytes as f64 * 8.0 / (last - began).as_secs_f64()
    })
}

/// CPU time of this thread so far.
fn thread_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("each thread has this clock").into()
}

/// Measures until a value lies within `bounds`: a machine that is busy with other tests spoils some measurements, a wrong link all.
#[track_caller]
fn becomes(bounds: Range<f64>, mut measure: impl FnMut() -> f64) {
    const MEASUREMENTS: usize = 12;
    let mut seen = Vec::new();
    while !seen.last().is_some_and(|value| bounds.contains(value)) {
        assert!(seen.len() < MEASUREMENTS, "none within {bounds:?}: {seen:?}");
        seen.push(measure());
    }
}

#[test]
fn the_rate_is_within_five_percent() {
    let lab = Lab::with_link(Conditions::path(100_000_000, Duration::from_millis(2)));
    becomes(0.95e8..1.05e8, || received(&lab, 130e6, Duration::from_secs(1)));
    assert!(lab.link().forward_counters().queue_drops > 0);
}

#[test]
fn a_gigabit_in_large_packets_leaves_half_of_a_core_idle() {
    // 83,333 packets of 1,500 bytes are 1 Gbit/s, for which 6 us of CPU time each are half of a core. How much a machine does in that time varies by
    // half within minutes, so what a program needs to send such a packet, 3.2 us then, is the measure.
    const MOST: f64 = 6.0 / 3.2;
    const PACKETS: u32 = 83_333;
    becomes(0.0..MOST, || {
        let lab = Lab::with_link(Conditions::path(1_000_000_000, Duration::from_millis(2)));
        let (near, _far) = sockets(&lab);
        let payload = vec![0; 1_500 - HEADER_BYTES];
        let arrived = || lab.link().forward_counters().arrived;
        let mut sent = 0;
        let before = thread_cpu();
        while arrived() < u64::from(PACKETS) {
            near.send(&payload).expect("sent");
            sent += 1;
            assert!(sent < 10 * PACKETS, "{:?}", lab.link().forward_counters());
        }
        let to_send = (thread_cpu() - before).as_secs_f64() / f64::from(sent);
        lab.link().forward_cpu().as_secs_f64() / arrived() as f64 / to_send
    });
}

#[test]
fn the_round_trip_is_the_delay_of_both_directions() {
    let lab = Lab::with_link(Conditions::path(1_000_000_000, Duration::from_millis(40)));
    becomes(40.0..42.0, || {
        let answer = lab.on_host(&format!("ping -c 10 -i 0.05 -q {}", plan::UPLINK_GATEWAY.v4));
        // rtt min/avg/max/mdev = 40.1/40.2/40.3/0.1 ms
        let times = answer.rsplit_once("= ").expect("a summary").1;
        let least: f64 = times.split('/').next().expect("a minimum").parse().expect("a number");
        assert!(least >= 40.0, "no load makes a packet faster: {answer}");
        least
    });
}

#[test]
fn the_loss_has_its_share() {
    let lab = Lab::with_link(Conditions::default().with_loss(0.05));
    let (near, far) = sockets(&lab);
    // A machine that is busy may drop packets before the link, so what counts is what has arrived there.
    while lab.link().forward_counters().arrived < 20_000 {
        near.send(&[0; 100]).expect("sent");
    }
    wait::until("all packets have passed the link or were lost", PATIENCE, || {
        let counters = lab.link().forward_counters();
        counters.arrived == counters.lost + counters.departed
    });
    drop(far);
    let counters = lab.link().forward_counters();
    let share = counters.lost as f64 / counters.arrived as f64;
    assert!((0.0425..0.0575).contains(&share), "{counters:?}");
}

#[test]
fn a_blackout_passes_nothing_and_ends() {
    let lab = Lab::with_link(Conditions::default());
    let (near, far) = sockets(&lab);
    let mut buffer = [0; 16];
    let arrives = |buffer: &mut [u8]| {
        near.send(b"hello").expect("sent");
        far.recv(buffer).is_ok()
    };
    assert!(arrives(&mut buffer));
    far.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
    lab.link().blackout(true);
    assert!(!arrives(&mut buffer));
    lab.link().blackout(false);
    assert!(arrives(&mut buffer));
    // The kernel has its own IPv6 announcements to make meanwhile.
    assert!(lab.link().forward_counters().blacked_out >= 1);
}

#[test]
fn both_families_cross_the_link() {
    let lab = Lab::with_link(Conditions::default());
    for address in plan::UPLINK_GATEWAY.both() {
        lab.on_host(&format!("ping -c 1 -W 2 {address}"));
    }
}
