//! Bytes both ways at once, then both ways finished: shared by the suites.

use smoltcp::socket::tcp::State;

use crate::pair::{Pair, Setup, drain, fill, pattern};

/// How much an end writes and reads in one go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps {
    pub(crate) write: usize,
    pub(crate) read: usize,
}

impl Steps {
    pub(crate) const WHOLE: Self = Self { write: usize::MAX / 2, read: usize::MAX / 2 };
}

/// Sends `up` from the client and `down` to it, finishes both ways, and compares.
pub(crate) fn exchange(pair: &mut Pair, up: &[u8], down: &[u8], steps: Steps) {
    let (mut sent_up, mut sent_down) = (0, 0);
    let (mut got_up, mut got_down) = (Vec::new(), Vec::new());
    pair.run_until(|pair| {
        let flow = pair.flow();
        sent_down += fill(flow, piece(down, sent_down, steps.write));
        drain(flow, &mut got_up, steps.read);
        if sent_down == down.len() {
            flow.finish();
        }
        let socket = pair.client.socket();
        if socket.can_send() {
            sent_up += socket.send_slice(piece(up, sent_up, steps.write)).unwrap();
        }
        // The client's own TIME-WAIT would throw away what it has not read.
        let at_most = if socket.state() == State::TimeWait { usize::MAX } else { steps.read };
        if socket.can_recv() {
            socket.recv(|bytes| read(bytes, at_most, &mut got_down)).unwrap();
        }
        // Behind both FINs a bare smoltcp does not hear of windows any more.
        let safe = socket.state() == State::Established || socket.send_queue() == 0;
        if sent_up == up.len() && safe {
            socket.close();
        }
        let client_over = matches!(socket.state(), State::Closed | State::TimeWait) && !socket.can_recv();
        client_over && pair.flow().peer_finished() && pair.flow().is_closed()
    });
    assert_same(&got_up, up);
    assert_same(&got_down, down);
    assert!(!pair.flow().is_reset());
}

fn assert_same(got: &[u8], sent: &[u8]) {
    let same = got.iter().zip(sent).take_while(|(got, sent)| got == sent).count();
    assert!(got == sent, "{} bytes arrived of {}; up to {same} they are the same", got.len(), sent.len());
}

fn piece(bytes: &[u8], from: usize, len: usize) -> &[u8] {
    &bytes[from..bytes.len().min(from.saturating_add(len))]
}

fn read(bytes: &[u8], at_most: usize, into: &mut Vec<u8>) -> (usize, ()) {
    let len = bytes.len().min(at_most);
    into.extend_from_slice(&bytes[..len]);
    (len, ())
}

#[test]
fn bytes_arrive_unchanged_both_ways() {
    for ipv6 in [false, true] {
        let mut pair = Pair::established(Setup { ipv6, ..Setup::default() });
        exchange(&mut pair, &pattern(3_000_000, 1), &pattern(2_000_000, 2), Steps::WHOLE);
    }
}

#[test]
fn one_byte_at_a_time_arrives_unchanged() {
    let mut pair = Pair::established(Setup::default());
    exchange(&mut pair, &pattern(20_000, 3), &pattern(20_000, 4), Steps { write: 1, read: 1 });
}

#[test]
fn nothing_at_all_is_a_transfer_too() {
    let mut pair = Pair::established(Setup::default());
    exchange(&mut pair, &[], &[], Steps::WHOLE);
}
