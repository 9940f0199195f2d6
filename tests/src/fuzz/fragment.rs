//! Whatever fragments a program sends, in whatever order: what is put together is a packet, and what waits stays within its bound.
//! The input is a list of packets, each behind its length (two bytes); the first byte of all is how much time passes between two.

use std::time::Duration;

use netstack::{drop_reason::DropCounters, fragment::Reassembler, moment::Moment, packet::Packet};

/// The reassembler's own bound, and the one datagram more that it may hold while it looks.
const MAX_BYTES: usize = 17 * 65_536;

/// One input.
pub fn run(data: &[u8]) {
    let Some((pause, mut rest)) = data.split_first() else { return };
    let (mut reassembler, mut drops, mut now) = (Reassembler::new(), DropCounters::default(), Moment::ORIGIN);
    while let Some((len, tail)) = rest.split_first_chunk() {
        let (bytes, tail) = tail.split_at(usize::from(u16::from_be_bytes(*len)).min(tail.len()));
        rest = tail;
        now = now + Duration::from_millis(u64::from(*pause) * 10);
        let Ok(packet) = Packet::parse(bytes) else { continue };
        if let Some(whole) = reassembler.add(&packet, now, &mut drops) {
            let whole = Packet::parse(&whole).expect("what is put together is a packet");
            assert_eq!(whole.fragment(), None);
            assert_eq!((whole.source(), whole.destination()), (packet.source(), packet.destination()));
        }
        assert!(reassembler.bytes() <= MAX_BYTES);
    }
    now = now + Duration::from_secs(3600);
    reassembler.expire(now, &mut drops);
    assert_eq!((reassembler.bytes(), reassembler.next_expiry()), (0, None));
}
