//! Bounds of memory and of flows, and who goes first.

use std::time::Duration;

use netstack::reassembly::{GapReason, Limits};

use crate::tap::{ACK, End, Part, SYN, Tap, bytes};

fn small() -> Limits {
    Limits { flows: 8, held_bytes_per_flow: 4000, held_bytes: 8000, ..Limits::DEFAULT }
}

#[test]
fn a_hole_with_too_much_behind_it_becomes_a_gap() {
    let mut tap = Tap::with(small());
    tap.open(1, 100);
    tap.send(1, 150, ACK, &[1; 3000]);
    tap.send(1, 3200, ACK, &[2; 3000]);
    let parts = [Part::Gap(50, GapReason::Held), bytes(&[1; 3000])];
    assert_eq!((tap.only().parts.as_slice(), tap.reassembler.held_bytes()), (&parts[..], 3128));
    tap.send(1, 3150, ACK, &[3; 50]);
    assert_eq!(tap.only().len(), 50 + 3000 + 50 + 3000);
}

#[test]
fn single_bytes_cost_what_they_take() {
    let mut tap = Tap::with(small());
    tap.open(1, 100);
    for byte in 0..100 {
        tap.send(1, 101 + 2 * byte, ACK, &[7]);
    }
    assert!(tap.reassembler.held_bytes() <= 4000 && tap.only().gaps() > 60);
}

#[test]
fn who_holds_the_most_goes_first() {
    let mut tap = Tap::with(small());
    for (port, len) in [(1, 100), (2, 3500), (3, 1000)] {
        tap.open(port, 100);
        tap.send(port, 150, ACK, &vec![1; len]);
    }
    tap.open(4, 100);
    tap.send(4, 150, ACK, &[1; 3800]);
    let gaps: Vec<u64> = tap.seen.iter().map(|flow| flow.gaps()).collect();
    assert_eq!(gaps, [0, 50, 0, 0]);
}

#[test]
fn a_flood_of_syns_drives_out_syns_only() {
    let mut tap = Tap::with(small());
    for port in 1..=8 {
        tap.open(port, 100);
    }
    for port in 1000..3000 {
        tap.send(port, 5, SYN, &[]);
    }
    for port in 1..=8 {
        tap.send(port, 100, ACK, b"alive");
    }
    assert!(tap.seen.iter().all(|flow| flow.end.is_none() && flow.parts == [bytes(b"alive")]));
    // the last of them have a place, and none goes before its time
    tap.send(2999, 6, ACK, &[]);
    assert_eq!((tap.seen.len(), tap.seen[0].end, tap.reassembler.flows()), (9, Some(End::Gone), 8));
}

#[test]
fn flows_that_the_target_knows_outlive_a_flood_of_data() {
    let mut tap = Tap::with(small());
    for port in 1..=6 {
        tap.open(port, 100);
        tap.wait(Duration::from_secs(2));
    }
    assert!(tap.reassembler.is_unsettled(), "it is getting crowded");
    assert_eq!(tap.unsettled(), [1, 2, 3, 4, 5, 6]);
    for port in 1..=6 {
        tap.settle(port, 0);
    }
    assert!(!tap.reassembler.is_unsettled());
    for port in 1000..2000 {
        tap.send(port, 5, ACK, b"spoofed");
    }
    for port in 1..=6 {
        tap.send(port, 100, ACK, b"alive");
    }
    assert!(tap.seen[..6].iter().all(|flow| flow.end.is_none() && flow.parts == [bytes(b"alive")]));
}

#[test]
fn of_open_flows_the_idlest_goes() {
    let mut tap = Tap::with(small());
    for port in 1..=8 {
        tap.open(port, 100);
        tap.wait(Duration::from_secs(2));
    }
    tap.send(1, 100, ACK, b"not idle");
    tap.send(9, 100, ACK, b"another");
    let gone: Vec<u16> =
        tap.seen.iter().filter(|flow| flow.end == Some(End::Gone)).map(|flow| flow.client.port()).collect();
    assert_eq!(gone, [2]);
}

#[test]
fn a_silent_flow_is_asked_about_and_then_gone() {
    let mut tap = Tap::new();
    tap.open(1, 100);
    tap.open(2, 100);
    tap.wait(Duration::from_secs(302));
    assert_eq!((tap.reassembler.is_unsettled(), tap.unsettled()), (true, vec![1, 2]));
    tap.settle(1, 0);
    tap.wait(Duration::from_secs(2));
    tap.send(2, 100, ACK, b"x");
    assert!(!tap.reassembler.is_unsettled());
    tap.wait(Duration::from_secs(302));
    let asked = tap.ask();
    tap.gone(1, asked);
    assert_eq!((tap.seen[0].end, tap.seen[1].end), (Some(End::Gone), None));
    tap.wait(Duration::from_secs(302));
    assert_eq!(tap.seen[1].end, Some(End::Gone), "no answer is one, too");
    assert_eq!(tap.reassembler.poll_at(), None);
}

#[test]
fn what_is_not_to_be_kept_is_forgotten() {
    let mut tap = Tap::new();
    for port in 1..=4 {
        tap.open(port, 100);
        tap.send(port, 150, ACK, b"held");
    }
    let mut gone = 0;
    tap.reassembler.retain(|client, _| client.port() % 2 == 0, &mut |_, _| gone += 1);
    assert_eq!((gone, tap.reassembler.flows()), (2, 2));
    tap.reassembler.retain(|_, _| false, &mut |_, _| gone += 1);
    assert_eq!((gone, tap.reassembler.flows(), tap.reassembler.held_bytes()), (4, 0, 0));
    assert_eq!(tap.reassembler.poll_at(), None);
}
