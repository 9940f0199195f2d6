//! Requests are followed whole, from the start, from the middle and behind gaps, however their bytes are cut.

use proptest::prelude::*;

use super::*;

const PUSHED: Place = Place { starts_segment: true, ends_segment: true, pushed: true, quiet: false };

/// Requests whose bodies hold what looks like requests, at their front and behind.
fn requests() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let decoy = "GET /decoy HTTP/1.1\r\nHost: decoy\r\n\r\n";
    let one = (0usize..5, 0usize..400, any::<bool>()).prop_map(move |(kind, len, fooling)| {
        let filler = "x".repeat(len);
        let body = if fooling { format!("{decoy}{filler}") } else { filler };
        match kind {
            0 => "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            1 => "HEAD /h HTTP/1.0\r\n\r\n".to_owned(),
            2 => format!("POST /p HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
            3 => format!(
                "PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}z\r\n0\r\nT: t\r\n\r\n",
                body.len() + 1
            ),
            _ => format!("POST /e HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
        }
        .into_bytes()
    });
    proptest::collection::vec(one, 1..8)
}

/// What a listener that gets the steps would see: each request, whole or not, then what is raw.
#[derive(Default)]
struct Seen {
    whole: Vec<Vec<u8>>,
    open: Option<Vec<u8>>,
    raw: Vec<u8>,
    missed: u64,
    stray: u64,
    bytes: u64,
}

fn seen(steps: Vec<Step>) -> Seen {
    let mut seen = Seen::default();
    for step in steps {
        match step {
            Step::Begin { head, .. } => {
                assert!(seen.open.is_none());
                seen.bytes += head.len() as u64;
                seen.open = Some(head.to_vec());
            }
            Step::Body(bytes) => {
                seen.bytes += bytes.len() as u64;
                // Behind a break the rest of the request still comes, and is nobody's.
                if let Some(open) = &mut seen.open {
                    open.extend_from_slice(&bytes);
                }
            }
            Step::End { .. } => seen.whole.extend(seen.open.take()),
            Step::Broken => seen.open = None,
            Step::Missed => seen.missed += 1,
            Step::Stray(bytes) => seen.stray += bytes,
            Step::Raw(bytes) => seen.raw.extend_from_slice(&bytes),
            Step::Notice(_) => {}
        }
    }
    seen
}

/// Cuts a stream into segments, each request beginning one, as senders do.
fn segments(requests: &[Vec<u8>], size: usize) -> Vec<(Bytes, Place)> {
    let mut segments = Vec::new();
    for request in requests {
        let last = request.len().div_ceil(size) - 1;
        for (at, piece) in request.chunks(size).enumerate() {
            let place = Place { pushed: at == last, ..PUSHED };
            segments.push((Bytes::copy_from_slice(piece), place));
        }
    }
    segments
}

proptest! {
    #[test]
    fn from_the_start_every_request_is_followed_however_it_is_cut(requests in requests(), size in 1usize..500) {
        let all = requests.concat();
        let (mut follower, mut steps) = (RequestFollower::from_start(), Vec::new());
        for piece in all.chunks(size) {
            follower.take(Bytes::copy_from_slice(piece), Place::default(), &mut steps);
        }
        let seen = seen(steps);
        prop_assert_eq!(seen.whole, requests);
        prop_assert!(seen.raw.is_empty() && seen.stray == 0 && follower.held() == 0);
    }

    #[test]
    fn from_the_middle_only_whole_requests_are_seen(requests in requests(), size in 60usize..500, skip in 0usize..30) {
        let segments = segments(&requests, size);
        let skip = skip % segments.len();
        let (mut follower, mut steps) = (RequestFollower::from_middle(), Vec::new());
        let mut bytes = 0;
        for (piece, place) in segments.into_iter().skip(skip) {
            bytes += piece.len() as u64;
            follower.take(piece, place, &mut steps);
        }
        follower.finish(&mut steps);
        let seen = seen(steps);
        for whole in &seen.whole {
            prop_assert!(requests.contains(whole), "{}", String::from_utf8_lossy(whole));
        }
        prop_assert!(seen.raw.is_empty() && seen.open.is_none());
        prop_assert_eq!(seen.whole.iter().map(|whole| whole.len() as u64).sum::<u64>() + seen.stray, bytes);
    }

    #[test]
    fn a_gap_leaves_only_whole_requests(requests in requests(), size in 60usize..500, from in 0usize..40, len in 1usize..8) {
        let segments = segments(&requests, size);
        let from = from % segments.len();
        let (mut follower, mut steps) = (RequestFollower::from_start(), Vec::new());
        let mut gap = 0;
        for (at, (piece, place)) in segments.into_iter().enumerate() {
            if (from..from + len).contains(&at) {
                gap += piece.len() as u64;
                continue;
            }
            if gap > 0 {
                follower.gap(std::mem::take(&mut gap), &mut steps);
            }
            follower.take(piece, place, &mut steps);
        }
        let seen = seen(steps);
        for whole in &seen.whole {
            prop_assert!(requests.contains(whole), "{}", String::from_utf8_lossy(whole));
        }
        prop_assert!(seen.raw.is_empty());
    }

    #[test]
    fn every_byte_comes_out_once(pieces in proptest::collection::vec(("(GET / HTTP/1.1\r\n\r\n|POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n|[ -~]{1,9}|5\r\n)", any::<[bool; 4]>(), 0u64..40), 1..20), start in 0u8..3) {
        let mut follower = match start { 0 => RequestFollower::from_start(), 1 => RequestFollower::from_middle(), _ => RequestFollower::raw() };
        let (mut steps, mut bytes) = (Vec::new(), 0);
        for (text, [starts_segment, ends_segment, pushed, quiet], gap) in pieces {
            bytes += text.len() as u64;
            follower.take(Bytes::from(text), Place { starts_segment, ends_segment, pushed, quiet }, &mut steps);
            if gap < 5 {
                follower.gap(gap + 1, &mut steps);
            }
        }
        follower.finish(&mut steps);
        let mut counted = 0;
        for step in &steps {
            counted += match step {
                Step::Begin { head, .. } => head.len() as u64,
                Step::Body(bytes) | Step::Raw(bytes) => bytes.len() as u64,
                Step::Stray(bytes) => *bytes,
                Step::End { .. } | Step::Broken | Step::Missed | Step::Notice(_) => 0,
            };
        }
        prop_assert_eq!(counted, bytes);
        prop_assert_eq!(follower.held(), 0);
    }
}

fn steps(mut follower: RequestFollower, pieces: &[&str]) -> Vec<Step> {
    let mut steps = Vec::new();
    for piece in pieces {
        follower.take(Bytes::copy_from_slice(piece.as_bytes()), PUSHED, &mut steps);
    }
    steps
}

#[test]
fn a_body_that_carries_a_request_is_not_joined() {
    // It begins a segment behind a pushed one, but does not end where one ends.
    let steps = steps(
        RequestFollower::from_middle(),
        &["tail of a body", "GET / HTTP/1.1\r\n\r\n and more of the body", "GET /a HTTP/1.1\r\n\r\n"],
    );
    let seen = seen(steps);
    assert_eq!(seen.whole, [b"GET /a HTTP/1.1\r\n\r\n".to_vec()]);
}

#[test]
fn the_end_of_a_request_is_no_part_of_the_next_one() {
    let seen = seen(steps(RequestFollower::from_middle(), &["\r\n\r\n", "GET /a HTTP/1.1\r\n\r\n"]));
    assert_eq!((seen.whole, seen.stray), (vec![b"GET /a HTTP/1.1\r\n\r\n".to_vec()], 4));
}

#[test]
fn another_protocol_behind_an_upgrade_goes_on_raw() {
    let upgrade = "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    for follower in [RequestFollower::from_start(), RequestFollower::from_middle()] {
        assert_eq!(
            seen(steps(follower, &[upgrade, "\u{1}\u{2}frames", "GET / HTTP/1.1\r\n\r\n"])).raw,
            b"\x01\x02framesGET / HTTP/1.1\r\n\r\n"
        );
    }
    // The server may not agree, and then the next request comes.
    assert_eq!(seen(steps(RequestFollower::from_start(), &[upgrade, "GET / HTTP/1.1\r\n\r\n"])).whole.len(), 2);
}

#[test]
fn what_is_behind_a_connect_is_raw() {
    let seen = seen(steps(RequestFollower::from_start(), &["CONNECT a:1 HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"]));
    assert_eq!((seen.whole.len(), seen.raw.len()), (1, 18));
}

#[test]
fn an_ambiguous_head_goes_on_raw_and_is_told() {
    let head = "POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n";
    let told = steps(RequestFollower::from_start(), &[head, "rest"]);
    assert_eq!(told[0], Step::Notice(NoticeKind::AmbiguousFraming));
    assert_eq!(seen(told).raw.len(), head.len() + 4);
    let strays = steps(RequestFollower::from_middle(), &[head, "rest"]);
    assert_eq!(seen(strays).stray as usize, head.len() + 4);
}

#[test]
fn what_is_no_http_goes_on_whole_and_at_once() {
    for first in ["*3\r\n$3\r\nSET\r\n", "hello\n", "GET", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut follower = RequestFollower::from_start();
        let mut steps = Vec::new();
        follower.take(Bytes::copy_from_slice(first.as_bytes()), PUSHED, &mut steps);
        assert!(first == "GET" || !steps.is_empty(), "{first:?}");
        follower.finish(&mut steps);
        assert_eq!(seen(steps).raw, first.as_bytes());
    }
}

#[test]
fn a_raw_connection_with_a_gap_is_over() {
    let (mut follower, mut steps) = (RequestFollower::from_start(), Vec::new());
    follower.take(Bytes::from_static(b"raw"), PUSHED, &mut steps);
    follower.gap(3, &mut steps);
    follower.take(Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n"), PUSHED, &mut steps);
    assert_eq!(steps[1..], [Step::Broken, Step::Stray(18)]);
}

#[test]
fn a_head_without_an_end_is_let_go() {
    let (mut follower, mut steps) = (RequestFollower::from_start(), Vec::new());
    follower.take(Bytes::from_static(b"GET / HTTP/1.1\r\nA: "), PUSHED, &mut steps);
    assert!(steps.is_empty() && follower.held() > 0);
    follower.relieve(&mut steps);
    assert_eq!((seen(steps).raw.len(), follower.held()), (19, 0));
}

#[test]
fn a_head_that_may_not_be_held_is_missed_and_the_next_request_is_followed() {
    let (mut follower, mut steps) = (RequestFollower::from_start(), Vec::new());
    let (first, next) = ("GET /a HTTP/1.1\r\n\r\n", "GET /c HTTP/1.1\r\n\r\n");
    for piece in [first, "GET /b HTTP/1.1\r\nA: "] {
        follower.take(Bytes::copy_from_slice(piece.as_bytes()), PUSHED, &mut steps);
    }
    follower.relieve(&mut steps);
    assert_eq!(follower.held(), 0);
    for piece in ["b\r\n\r\n", next] {
        follower.take(Bytes::copy_from_slice(piece.as_bytes()), PUSHED, &mut steps);
    }
    let seen = seen(steps);
    assert_eq!(seen.whole, [first.as_bytes(), next.as_bytes()]);
    assert_eq!((seen.missed, seen.stray, seen.raw.len()), (1, 25, 0));
}

#[test]
fn what_is_held_back_keeps_no_buffer_and_costs_what_is_told() {
    let head = b"POST / HTTP/1.1\r\nContent-Length: 200000\r\n\r\n";
    let on_trial = Bytes::from([head.as_slice(), &[b'x'; 100_000]].concat());
    let unfinished = Bytes::from_static(b"GET / HTTP/1.1\r\nA: bbbbbbbb");
    for (mut follower, whole, size) in [
        (RequestFollower::from_start(), Bytes::from(unfinished.to_vec()), 1),
        (RequestFollower::from_middle(), on_trial.slice(..), 100),
    ] {
        let buffer = Bytes::from(whole.to_vec());
        let (mut steps, mut at) = (Vec::new(), 0);
        while at < buffer.len() {
            let end = buffer.len().min(at + size);
            follower.take(buffer.slice(at..end), PUSHED, &mut steps);
            at = end;
        }
        assert!(steps.is_empty() && follower.held() == buffer.len());
        assert!(buffer.is_unique(), "a piece of the buffer is held");
        assert!((buffer.len()..3 * buffer.len() + 1_000).contains(&follower.costs()), "{}", follower.costs());
        follower.relieve(&mut steps);
        assert_eq!((follower.held(), follower.costs()), (0, 0));
    }
}
