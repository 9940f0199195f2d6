//! Whatever a client sends is followed or let go, and every byte comes out once; whatever a listener answers is taken.
//! The first byte says where the stream is joined; then pieces follow, each behind its length and its place.

use bytes::Bytes;
use tunnel::mirror::http1::{
    answer::AnswerFollower,
    head::RequestKind,
    request::{Place, RequestFollower, Step},
};

/// One input.
pub fn run(data: &[u8]) {
    let Some((start, mut rest)) = data.split_first() else { return };
    if start % 4 == 3 {
        return answers(rest);
    }
    let mut follower = match start % 4 {
        0 => RequestFollower::from_start(),
        1 => RequestFollower::from_middle(),
        _ => RequestFollower::raw(),
    };
    let (mut steps, mut taken) = (Vec::new(), 0);
    while let [len, place, more @ ..] = rest {
        let (piece, behind) = more.split_at(more.len().min(usize::from(*len)));
        rest = behind;
        if place & 0x80 != 0 {
            follower.gap(u64::from(*len) + 1, &mut steps);
        } else if !piece.is_empty() {
            taken += piece.len() as u64;
            let place = Place {
                starts_segment: place & 1 != 0,
                ends_segment: place & 2 != 0,
                pushed: place & 4 != 0,
                quiet: place & 8 != 0,
            };
            follower.take(Bytes::copy_from_slice(piece), place, &mut steps);
        }
        if place & 0x40 != 0 {
            follower.relieve(&mut steps);
            assert_eq!(follower.held(), 0);
        }
    }
    follower.finish(&mut steps);
    check(&steps, taken);
}

/// Every byte is in one step, and a request ends only where it has begun.
fn check(steps: &[Step], taken: u64) {
    let (mut bytes, mut open) = (0, false);
    for step in steps {
        match step {
            Step::Begin { head, .. } => {
                assert!(!open && head.first().is_some_and(u8::is_ascii));
                open = true;
                bytes += head.len() as u64;
            }
            Step::End { .. } | Step::Broken => open = false,
            Step::Body(piece) | Step::Raw(piece) => bytes += piece.len() as u64,
            Step::Stray(len) => bytes += len,
            Step::Missed | Step::Notice(_) => {}
        }
        if matches!(step, Step::Raw(_)) {
            // What begins behind it is part of it.
            open = false;
        }
    }
    assert_eq!(bytes, taken);
}

fn answers(bytes: &[u8]) {
    let mut follower = AnswerFollower::default();
    let mut waiting = 64;
    for piece in bytes.chunks(7) {
        follower.take(piece, || {
            waiting -= 1;
            (waiting >= 0).then_some(if waiting % 2 == 0 { RequestKind::Head } else { RequestKind::Other })
        });
    }
}
